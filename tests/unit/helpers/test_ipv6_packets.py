"""The judges of captured packets see a wrong octet."""

from ipaddress import IPv6Address

import pytest

from nve.wire import frames
from tests.helpers.ipv6_packets import HOP_LIMIT, right_checksum, without_hop_limit

SOURCE, TO = IPv6Address("fd77::1"), IPv6Address("fd77::2")
ECHO = frames.ip(SOURCE, TO, frames.ICMPV6, frames.icmpv6(SOURCE, TO, 128, b"hello"))


def test_a_right_checksum_is_told_from_a_wrong_one() -> None:
    assert right_checksum(ECHO)
    for place in (8, 24, 40, len(ECHO) - 1):
        assert not right_checksum(changed(ECHO, place))


@pytest.mark.parametrize("place", [0, HOP_LIMIT - 1, HOP_LIMIT + 1, len(ECHO) - 1])
def test_all_but_the_hop_limit_is_compared(place: int) -> None:
    assert without_hop_limit(changed(ECHO, HOP_LIMIT)) == without_hop_limit(ECHO)
    assert without_hop_limit(changed(ECHO, place)) != without_hop_limit(ECHO)


def changed(packet: bytes, place: int) -> bytes:
    return packet[:place] + bytes([packet[place] ^ 1]) + packet[place + 1 :]
