"""Hand-made packets against what the project itself sends, and against a known header."""

from ipaddress import IPv4Address, IPv6Address

import pytest

from nve.wire import announcement, frames
from nve.wire.frames import ALL_NODES
from tests.helpers.tenants import vm

VM1 = vm("vm1", 1, "nve1")


def test_a_gratuitous_arp() -> None:
    body = frames.arp(1, (VM1.mac, VM1.ipv4), ("00:00:00:00:00:00", VM1.ipv4))

    (announced,) = announcement.frames(VM1, "garp")
    assert frames.ethernet(VM1.mac, "ff:ff:ff:ff:ff:ff", 0x0806, body) == announced


def test_an_unsolicited_advertisement() -> None:
    to = ALL_NODES
    said = bytes([0x20, 0, 0, 0]) + VM1.ipv6.packed + bytes.fromhex("0201020000000001")
    packet = frames.ip(VM1.ipv6, to, 58, frames.icmpv6(VM1.ipv6, to, 136, said), hop_limit=255)

    (announced,) = announcement.frames(VM1, "na")
    assert frames.ethernet(VM1.mac, "33:33:00:00:00:01", 0x86DD, packet) == announced


def test_an_ipv4_header() -> None:
    """The header checksum that `ping -s 8 -t 64` puts on the wire (identification 0)."""
    packet = frames.ip(IPv4Address("10.1.0.1"), IPv4Address("10.1.0.2"), 17, bytes(16))

    assert packet[:20] == bytes.fromhex("45000024 00000000 401166c5 0a010001 0a010002")
    assert frames.checksum(packet[:20]) == bytes(2)


def test_a_vxlan_packet() -> None:
    """RFC 7348: flag I, the VNI in bytes 4 to 6."""
    datagram = frames.udp(49152, frames.VXLAN_UDP_PORT, frames.vxlan(5000, b"frame"))

    assert datagram == bytes.fromhex("c000 12b5 0015 0000 08000000 00138800") + b"frame"


def test_a_router_sends_a_packet_on_with_a_ttl_less_and_the_checksum_of_that() -> None:
    """The header of RFC 1071's kind: sums to zero before and after."""
    source, to = IPv4Address("192.168.0.1"), IPv4Address("192.168.0.2")
    sent = frames.ethernet(
        "02:00:00:00:00:01", "02:ff:00:00:00:00", frames.IPV4, frames.ip(source, to, 17, b"x", 9)
    )
    routed = frames.routed(sent, "02:ff:00:00:00:00", "02:00:00:00:00:02")

    assert (frames.ttl(sent), frames.ttl(routed)) == (9, 8)
    assert routed[:14].hex() == "020000000002" + "02ff00000000" + "0800"
    assert frames.checksum(routed[14:34]) == bytes(2)
    assert (frames.source(routed), frames.destination(routed)) == (source, to)


def test_an_ipv6_packet_has_no_checksum_to_correct() -> None:
    source, to = IPv6Address("fd77::1"), IPv6Address("fd77::2")
    sent = frames.ethernet(
        "02:00:00:00:00:01", "02:ff:00:00:00:00", frames.IPV6, frames.ip(source, to, 17, b"x", 9)
    )
    routed = frames.routed(sent, "02:ff:00:00:00:00", "02:00:00:00:00:02")

    assert frames.ttl(routed) == 8
    assert routed[14 + 8 :] == sent[14 + 8 :]


@pytest.mark.parametrize("octets", ["", "00" * 14, "00" * 12 + "0800" + "60" * 20])
def test_what_is_no_ip_packet_goes_nowhere(octets: str) -> None:
    with pytest.raises(frames.NotWellFormed):
        frames.destination(bytes.fromhex(octets))
