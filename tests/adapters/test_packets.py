"""Frames to reports and answers to frames, read back; nothing a tenant sends raises."""

from ipaddress import IPv4Address, IPv6Address
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from controller.southbound import packets
from controller.southbound.framework import arp, ethernet, icmpv6, ipv6, packet
from nve.messages import (
    ArpSent,
    Malformed,
    Missed,
    NeighbourAdvertised,
    NeighbourSolicited,
    RarpSent,
    RouterError,
)
from nve.model import NVE_MAC, link_local
from nve.wire import announcement, frames
from nve.wire.frames import ALL_NODES, ARP_REPLY, ARP_REQUEST, RARP_REPLY, RARP_REQUEST
from tests.helpers.examples import examples
from tests.helpers.tenants import vm

VM1, VM2 = vm("vm1", 1, "nve1"), vm("vm2", 2, "nve2")
ANNOUNCED = {form: announcement.frames(VM1, form)[0] for form in announcement.FORMS}
ZERO = IPv6Address(0)


def _frame(*layers: Any) -> bytes:
    """As the framework's library builds it, which is not ours."""
    built = packet.Packet()
    for layer in layers:
        built.add_protocol(layer)
    built.serialize()
    return bytes(built.data)


def solicitation(source: IPv6Address, target: IPv6Address, hop_limit: int = 255) -> bytes:
    """A neighbour solicitation of vm1."""
    return _frame(
        ethernet.ethernet(dst="33:33:ff:00:00:02", src=VM1.mac, ethertype=0x86DD),
        ipv6.ipv6(src=str(source), dst="ff02::1:ff00:2", nxt=58, hop_limit=hop_limit),
        icmpv6.icmpv6(type_=icmpv6.ND_NEIGHBOR_SOLICIT, data=icmpv6.nd_neighbor(dst=str(target))),
    )


def arp_request(target: IPv4Address) -> bytes:
    return _frame(
        ethernet.ethernet(dst="ff:ff:ff:ff:ff:ff", src=VM1.mac, ethertype=0x0806),
        arp.arp(opcode=1, src_mac=VM1.mac, src_ip=str(VM1.ipv4), dst_ip=str(target)),
    )


# -- what the VM says ------------------------------------------------------------------------------


@pytest.mark.shows("R4.1.2")
def test_a_gratuitous_arp_is_read_as_an_announcement() -> None:
    report = packets.reported(10, ANNOUNCED["garp"])

    assert report == ArpSent(10, ARP_REQUEST, VM1.mac, VM1.ipv4, VM1.ipv4)
    assert isinstance(report, ArpSent)
    assert report.gratuitous


@pytest.mark.shows("R4.1.5")
def test_a_reverse_arp_is_read_as_an_announcement() -> None:
    assert packets.reported(10, ANNOUNCED["rarp"]) == RarpSent(10, RARP_REQUEST, VM1.mac)


@pytest.mark.shows("R4.1.6")
def test_an_unsolicited_advertisement_is_read_as_an_announcement() -> None:
    report = packets.reported(10, ANNOUNCED["na"])

    assert report == NeighbourAdvertised(10, VM1.mac, VM1.ipv6, ALL_NODES)


@pytest.mark.shows("R4.1.6")
def test_it_is_read_to_whom_an_advertisement_goes() -> None:
    report = packets.reported(10, ANNOUNCED["na-solicited"])

    group = IPv6Address("ff02::1:ff00:1")
    assert report == NeighbourAdvertised(10, VM1.mac, VM1.ipv6, group)


@pytest.mark.shows("R4.1.2")
def test_the_reply_form_is_read_as_a_reply_about_the_sender() -> None:
    report = packets.reported(10, ANNOUNCED["garp-reply"])

    assert report == ArpSent(10, ARP_REPLY, VM1.mac, VM1.ipv4, VM1.ipv4)


def test_an_arp_request_is_a_question() -> None:
    report = packets.reported(10, arp_request(VM2.ipv4))

    assert report == ArpSent(10, ARP_REQUEST, VM1.mac, VM1.ipv4, VM2.ipv4)
    assert isinstance(report, ArpSent)
    assert not report.gratuitous


@pytest.mark.parametrize("source", [VM1.ipv6, link_local(VM1.mac), ZERO])
def test_a_neighbour_solicitation_is_a_question(source: IPv6Address) -> None:
    report = packets.reported(10, solicitation(source, VM2.ipv6))

    assert report == NeighbourSolicited(10, VM1.mac, source, VM2.ipv6)


def test_a_frame_that_missed_is_kept_whole() -> None:
    frame = bytes.fromhex(VM2.mac.replace(":", "")) + b"whatever comes then"

    assert packets.missed(10, frame) == Missed(10, VM2.mac, frame)


@pytest.mark.parametrize(
    "frame",
    [b"", b"\x02\x00", bytes.fromhex("ffffffffffff") + bytes(20), bytes.fromhex("0100") + bytes(9)],
)
def test_a_miss_without_a_unicast_destination_is_malformed(frame: bytes) -> None:
    assert isinstance(packets.missed(10, frame), Malformed)


# -- answers ---------------------------------------------------------------------------------------


def test_an_arp_reply_says_who_has_it() -> None:
    """RFC 826."""
    asked = ArpSent(10, ARP_REQUEST, VM1.mac, VM1.ipv4, VM2.ipv4)
    ether, said = packet.Packet(packets.arp_reply(asked, VM2.mac)).protocols[:2]

    assert (ether.src, ether.dst) == (VM2.mac, VM1.mac)
    assert said.opcode == ARP_REPLY
    assert (said.src_mac, said.src_ip) == (VM2.mac, str(VM2.ipv4))
    assert (said.dst_mac, said.dst_ip) == (VM1.mac, str(VM1.ipv4))


def test_an_advertisement_answers_a_solicitation() -> None:
    """Octet by octet: RFC 4861 sections 4.4 and 7.2.4; the flags are R=0, S=1, O=1."""
    asked = NeighbourSolicited(10, VM1.mac, VM1.ipv6, VM2.ipv6)
    frame = packets.advertisement(asked, VM2.mac)

    assert frame.hex() == (
        "020000000001" "020000000002" "86dd"
        "60000000" "0020" "3a" "ff" + VM2.ipv6.packed.hex() + VM1.ipv6.packed.hex()
        + "88" "00" + frame[56:58].hex()
        + "60000000" + VM2.ipv6.packed.hex() + "0201" "020000000002"
    )  # fmt: skip
    assert _checksum_is_right(frame)


def test_an_advertisement_answers_a_probe_for_duplicates() -> None:
    """To all nodes, for there is nobody to answer to yet; R=0, S=0, O=1 (RFC 4861 7.2.4: the
    solicited flag of what goes to a group is 0, or hosts have to ignore it, 7.1.2)."""
    asked = NeighbourSolicited(10, VM1.mac, ZERO, VM2.ipv6)
    frame = packets.advertisement(asked, VM2.mac)

    assert frame.hex() == (
        "333300000001" "020000000002" "86dd"
        "60000000" "0020" "3a" "ff" + VM2.ipv6.packed.hex() + "ff02" + "0" * 27 + "1"
        + "88" "00" + frame[56:58].hex()
        + "20000000" + VM2.ipv6.packed.hex() + "0201" "020000000002"
    )  # fmt: skip
    assert _checksum_is_right(frame)


def _checksum_is_right(frame: bytes) -> bool:
    message = frame[54:]
    covered = frame[22:54] + len(message).to_bytes(4, "big") + bytes([0, 0, 0, 58]) + message
    total = sum(int.from_bytes(covered[i : i + 2], "big") for i in range(0, len(covered), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total == 0xFFFF


def test_an_answer_is_read_as_what_it_is() -> None:
    asked = NeighbourSolicited(10, VM1.mac, VM1.ipv6, VM2.ipv6)

    assert packets.reported(11, packets.advertisement(asked, VM2.mac)) == NeighbourAdvertised(
        11, VM2.mac, VM2.ipv6, VM1.ipv6
    )


@pytest.mark.shows("R4.1.5")
def test_a_reverse_arp_reply_tells_the_asker_its_address() -> None:
    """RFC 903: the operation is 4, the target is who has asked."""
    frame = packets.rarp_reply(RarpSent(10, RARP_REQUEST, VM1.mac), VM1.ipv4)
    own_mac, nve_mac = (address.replace(":", "") for address in (VM1.mac, NVE_MAC))

    assert len(frame) == 60  # padded to the shortest that Ethernet allows
    assert frame[:42].hex() == (
        own_mac + nve_mac + "8035"
        "0001" "0800" "06" "04" "0004"
        + nve_mac + "00000000"  # the NVE has no address in the virtual network
        + own_mac + "c0a80001"
    )  # fmt: skip
    assert packets.reported(10, frame) == RarpSent(10, RARP_REPLY, VM1.mac)


# -- what is no such frame -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("frame", "why"),
    [
        (b"", "0 octets are no Ethernet frame"),
        (ANNOUNCED["garp"][:20], ""),
        (ANNOUNCED["rarp"][:30], "not an ARP packet for Ethernet and IPv4"),
        (ANNOUNCED["rarp"][:14] + b"\x00\x02" + ANNOUNCED["rarp"][16:], "not an ARP packet"),
        (ANNOUNCED["garp"][:18] + b"\x08" + ANNOUNCED["garp"][19:], "not an ARP packet"),
        (ANNOUNCED["na"][:60], ""),
        (solicitation(VM1.ipv6, VM2.ipv6, hop_limit=64), "hop limit 64, not 255"),
        (ANNOUNCED["na"][:-1] + b"\xff", "wrong checksum"),
        (solicitation(VM1.ipv6, frames.ALL_NODES), "about the group ff02::1"),
        (solicitation(ZERO, VM1.ipv6), "a probe for a duplicate address that is none"),
        (frames.solicitation((VM1.mac, VM1.ipv6), VM2.ipv6, hop_limit=254), "hop limit 254"),
        (ANNOUNCED["garp"][:12] + b"\x88\xcc" + bytes(40), "neither ARP, RARP nor neighbour"),
        (ANNOUNCED["garp"][:12] + b"\x81\x00\x00\x05\x08\x06" + ANNOUNCED["garp"][14:], "neither"),
        (ANNOUNCED["garp"][:22] + b"\x03" + ANNOUNCED["garp"][23:], "group address"),
    ],
    ids=["nothing", "arp-short", "rarp-short", "rarp-type", "arp-size", "na-short", "nd-far",
         "nd-checksum", "nd-group", "dad-elsewhere", "nd-further",
         "lldp", "vlan", "arp-group"],
)  # fmt: skip
def test_a_malformed_frame_is_reported_with_its_reason(frame: bytes, why: str) -> None:
    report = packets.reported(10, frame)

    assert isinstance(report, Malformed)
    assert report.port == 10
    assert why in report.why


never_raises = examples(200)
cuts_and_changes = st.tuples(
    st.sampled_from([*ANNOUNCED.values(), solicitation(VM1.ipv6, VM2.ipv6)]),
    st.integers(0, 90),
    st.lists(st.tuples(st.integers(0, 89), st.integers(0, 255)), max_size=6),
)


def test_an_error_of_a_router_is_read_as_what_it_is() -> None:
    router, sender, to = "fd00:0:0:2::1", "fd51:0:1388::1", "fd10:0:2:13c6::2"
    quoted = _frame(ipv6.ipv6(src=sender, dst=to, nxt=17, hop_limit=1))
    exceeded = icmpv6.icmpv6(type_=icmpv6.ICMPV6_TIME_EXCEEDED, data=bytes(4) + quoted)
    frame = _frame(
        ethernet.ethernet(ethertype=0x86DD), ipv6.ipv6(src=router, dst=sender, nxt=58), exceeded
    )
    report = packets.router_error(4, frame)

    assert isinstance(report, RouterError)
    said = report.error
    assert [*map(str, (said.source, said.to))] == [router, sender]
    assert [*map(str, (said.quoted_source, said.quoted_destination))] == [sender, to]
    assert isinstance(packets.router_error(4, frame[:-1] + b"x"), Malformed)


@pytest.mark.shows("R9.2")
@never_raises
@given(st.binary(max_size=120))
@example(bytes(14))
@example(bytes(12) + b"\x86\xdd" + b"\xff" * 60)
def test_any_bytes_at_all_are_a_report(octets: bytes) -> None:
    """What a tenant sends has no way to raise in the NVA."""
    for report in (
        *(packets.reported(10, octets), packets.missed(10, octets)),
        packets.router_error(10, octets),
    ):
        assert report.port == 10  # type: ignore[union-attr]


@never_raises
@given(cuts_and_changes)
def test_a_damaged_announcement_is_a_report(
    damaged: tuple[bytes, int, list[tuple[int, int]]],
) -> None:
    frame, length, changes = damaged
    octets = bytearray(frame[:length])
    for place, value in changes:
        if place < len(octets):
            octets[place] = value

    report = packets.reported(10, bytes(octets))

    assert isinstance(
        report, Malformed | ArpSent | RarpSent | NeighbourSolicited | NeighbourAdvertised
    )
