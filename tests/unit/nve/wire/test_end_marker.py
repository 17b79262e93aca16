"""End markers, and what the NVA and the agents tell each other about them, as frames."""

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nve.model import MAX_VNI, TenantSystem, mac, vni
from nve.wire.end_marker import (
    ETHERTYPE,
    NOBODY,
    MarkerKind,
    NotASignal,
    Signal,
    agent_mac,
    frame,
    last_address,
    passed_address,
    read,
)
from tests.helpers.examples import CHARACTERS
from tests.helpers.tenants import RED, vm

VM1 = vm("vm1", 1, "nve1").tenant_system
SIGNALS = st.builds(
    Signal,
    st.sampled_from(MarkerKind),
    st.integers(0, 2**32 - 1),
    st.builds(
        TenantSystem,
        st.integers(1, MAX_VNI).map(vni),
        st.binary(min_size=5, max_size=5).map(lambda octets: mac("02:" + octets.hex(":"))),
    ),
    st.lists(
        st.from_regex(r"[a-z][a-z0-9]{0,6}", fullmatch=True, alphabet=CHARACTERS), max_size=64
    ).map(tuple),
    st.integers(0, 2**16 - 1),
)


@given(SIGNALS)
def test_what_is_said_is_read(signal: Signal) -> None:
    assert read(frame(signal)) == signal


def test_a_marker_goes_the_way_of_the_packets_it_follows() -> None:
    marker = frame(Signal(MarkerKind.MARKER, 7, VM1, ("nve3",)))
    assert marker[:6].hex(":") == VM1.mac
    assert marker[6:12].hex(":") == agent_mac(RED)
    assert int.from_bytes(marker[12:14], "big") == ETHERTYPE


def test_a_marker_behind_what_a_vm_has_sent_goes_to_a_group() -> None:
    address = last_address(ip_address("192.0.2.1"))
    assert frame(Signal(MarkerKind.LAST, 7, VM1, ("nve1",)), address)[:6].hex(":") == address
    assert int(address[:2], 16) & 1


def test_its_address_says_where_the_vm_goes_to_or_what_it_has_passed() -> None:
    vteps = [ip_address(f"{net}{number}") for net in ("10.0.0.", "fd00::") for number in range(100)]
    addresses = [of(vtep) for of in (last_address, passed_address) for vtep in vteps]
    assert len(set(addresses)) == len(addresses)


@pytest.mark.parametrize("kind", sorted(set(MarkerKind) - {MarkerKind.MARKER}))
def test_orders_and_answers_go_to_no_vm(kind: MarkerKind) -> None:
    assert frame(Signal(kind, 7, VM1))[:6].hex(":") == NOBODY


def test_agents_of_two_virtual_networks_have_two_addresses() -> None:
    assert agent_mac(vni(5000)) != agent_mac(vni(6000))


@given(st.binary(max_size=200))
def test_any_other_bytes_are_refused(octets: bytes) -> None:
    with pytest.raises(NotASignal):
        read(octets)


@given(SIGNALS, st.data())
def test_a_signal_cut_short_is_refused(signal: Signal, data: st.DataObject) -> None:
    whole = frame(signal)
    needed = 14 + 20 + 8 * len(signal.ingress_nves)
    cut = data.draw(st.integers(0, needed - 1))
    with pytest.raises(NotASignal):
        read(whole[:cut])


@pytest.mark.parametrize(
    ("place", "octet"),
    [(12, 0x08), (14, 99), (15, 0), (15, 99), (34, 0xFF)],
    ids=["EtherType", "version", "kind-0", "kind-99", "name"],
)
def test_a_signal_with_a_wrong_field_is_refused(place: int, octet: int) -> None:
    octets = bytearray(frame(Signal(MarkerKind.MARKER, 7, VM1, ("nve3",))))
    octets[place] = octet
    with pytest.raises(NotASignal):
        read(bytes(octets))


def test_a_tenants_frame_is_no_signal() -> None:
    """Octet by octet one but for its source, which a VM's port may not send from."""
    octets = frame(Signal(MarkerKind.MARKER, 1, VM1, ("nve3",)))
    forged = octets[:6] + bytes.fromhex("020000000001") + octets[12:]
    with pytest.raises(NotASignal, match="02:00:00:00:00:01 is no agent of VNI"):
        read(forged)
