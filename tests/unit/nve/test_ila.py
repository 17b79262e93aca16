"""The arithmetic of locators, against the RFCs' own figures and against checksums themselves."""

from ipaddress import IPv6Address, IPv6Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nve import ila
from nve.model import RoutedNetwork, vni
from nve.wire import frames

PREFIXES = st.integers(0, 2**64 - 1).map(lambda upper: IPv6Network((upper << 64, 64)))
SERVERS = st.integers(1, 0xFFFF).map(ila.server)
ADDRESSES = st.integers(0, 2**128 - 1).map(IPv6Address)


def test_the_example_of_rfc_6296() -> None:
    """Section 3.1's, worked out there in words: FD01:0203:0405:0001 becomes 2001:0DB8:0001:D550."""
    inside = IPv6Network("fd01:203:405:1::/64")
    outside = IPv6Network("2001:db8:1::/48")

    assert ila.ones_complement(0xFD01, 0x0203, 0x0405) == 0x030A
    assert ila.adjustment(IPv6Network("fd01:203:405::/64"), outside) == 0xD54F
    assert ila.adjustment(inside, outside) == 0xD550
    there = ila.locator(RoutedNetwork("ila", inside), outside)
    assert ila.translated(IPv6Address("fd01:203:405:1::1234"), there) == IPv6Address(
        "2001:db8:1:d550::1234"
    )


def test_the_example_of_rfc_1624() -> None:
    """Section 4: a checksum 0xDD2F, a word that goes from 0x5555 to 0x3285, and 0x0000 after it."""
    before, after = IPv6Address("::5555"), IPv6Address("::3285")

    assert ila.corrected(0xDD2F, before, after) == 0x0000


@given(PREFIXES, SERVERS, ADDRESSES)
@pytest.mark.shows("R4.2.2")
def test_a_neutral_locator_changes_no_checksum(
    sir: IPv6Network, server: IPv6Network, address: IPv6Address
) -> None:
    task = ila.translated(address, sir)
    moved = ila.translated(task, ila.locator(RoutedNetwork("ila", sir), server))

    assert ila.translated(moved, sir) == task
    before, after = (
        int.from_bytes(frames.checksum(each.packed + b"some text"), "big") for each in (task, moved)
    )
    assert before % 0xFFFF == after % 0xFFFF  # 0 and 0xffff are the same number


@given(PREFIXES, SERVERS)
def test_an_adjusted_locator_changes_the_checksum(sir: IPv6Network, server: IPv6Network) -> None:
    there = ila.locator(RoutedNetwork("ila", sir, "adjusted"), server)

    assert there.subnet_of(server)
    assert ila.ones_complement(*ila.words(there)) != ila.ones_complement(*ila.words(sir))


@given(ADDRESSES, ADDRESSES, st.binary(max_size=40).filter(any))
def test_a_corrected_checksum_is_the_one_that_is_computed_anew(
    before: IPv6Address, after: IPv6Address, rest: bytes
) -> None:
    old, new = (
        int.from_bytes(frames.checksum(each.packed + rest), "big") for each in (before, after)
    )

    assert ila.corrected(old, before, after) % 0xFFFF == new % 0xFFFF


@given(st.integers(1, 0xFEFFFF), st.integers(1, 0xFEFFFF))
def test_every_network_has_a_prefix_of_its_own(one: int, other: int) -> None:
    prefixes = {ila.usual_sir_prefix(vni(each)) for each in (one, other)}

    assert len(prefixes) == len({one, other})
    assert not any(each.overlaps(ila.LOCATORS) for each in prefixes)
