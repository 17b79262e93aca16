"""Announcements, byte by byte; that the NVA reads them is shown in `tests/adapters`."""

from dataclasses import replace
from ipaddress import IPv6Address

import pytest

from nve.model import VmSpec
from nve.wire import announcement
from tests.helpers.tenants import vm

VM = vm("vm1", 1, "nve1")
OWN_MAC = "020000000001"
FAR = replace(VM, ipv6=IPv6Address("fd77::12:3456:789a"))
"""Whose address says more of its solicited-node group than zeros."""


@pytest.mark.shows("R4.1.2")
def test_gratuitous_arp_is_a_broadcast_request_for_the_own_address() -> None:
    assert announcement.gratuitous_arp(VM).hex() == (
        "ffffffffffff" + OWN_MAC + "0806"  # Ethernet
        "0001" "0800" "06" "04" "0001"  # a request of ARP for Ethernet and IPv4
        + OWN_MAC + "c0a80001"  # sender
        "000000000000" "c0a80001"  # target
    )  # fmt: skip


@pytest.mark.shows("R4.1.2")
def test_the_reply_form_is_a_broadcast_reply_about_itself() -> None:
    assert announcement.gratuitous_arp_reply(VM).hex() == (
        "ffffffffffff" + OWN_MAC + "0806"
        "0001" "0800" "06" "04" "0002"
        + OWN_MAC + "c0a80001"
        + OWN_MAC + "c0a80001"
    )  # fmt: skip


@pytest.mark.shows("R4.1.5")
def test_reverse_arp_is_a_broadcast_request_for_the_own_mac() -> None:
    assert announcement.reverse_arp(VM.mac).hex() == (
        "ffffffffffff" + OWN_MAC + "8035"
        "0001" "0800" "06" "04" "0003"
        + OWN_MAC + "00000000"
        + OWN_MAC + "00000000"
    )  # fmt: skip


@pytest.mark.shows("R4.1.6")
def test_unsolicited_advertisement_overrides_at_all_nodes() -> None:
    """The reading of RFC 4861."""
    own_address = "fd77" + "0" * 27 + "1"
    assert announcement.unsolicited_advertisement(VM).hex() == (
        "333300000001" + OWN_MAC + "86dd"
        "60000000" "0020" "3a" "ff"  # 32 octets of ICMPv6, hop limit 255
        + own_address + "ff020000000000000000000000000001"
        "88" "00" "59ad"  # neighbour advertisement and its checksum
        "20000000" + own_address  # override, neither router nor solicited
        + "02" "01" + OWN_MAC  # target link-layer address
    )  # fmt: skip


@pytest.mark.shows("R4.1.6")
def test_the_draft_sends_it_to_the_solicited_node_group_of_the_own_address() -> None:
    """Otherwise it is the same; the checksum is proven below."""
    to_all, to_group = (frame.hex() for frame in (
        announcement.unsolicited_advertisement(FAR),
        announcement.advertisement_to_solicited_node(FAR),
    ))  # fmt: skip

    assert to_group[:12] == "3333ff56789a"
    assert to_group[76:108] == "ff0200000000000000000001ff56789a"
    assert to_group[12:76] == to_all[12:76]
    assert to_group[108:112] == to_all[108:112] == "8800"
    assert to_group[116:] == to_all[116:]


@pytest.mark.parametrize(
    "frame",
    [
        announcement.unsolicited_advertisement(VM),
        announcement.advertisement_to_solicited_node(VM),
        announcement.advertisement_to_solicited_node(FAR),
    ],
    ids=["to all nodes", "to its group", "to another group"],
)
def test_the_checksum_of_an_advertisement_comes_out_even(frame: bytes) -> None:
    """RFC 1071: over pseudo header and message, checksum included, the sum is all ones."""
    source_and_group, message = frame[22:54], frame[54:]
    covered = source_and_group + len(message).to_bytes(4, "big") + bytes([0, 0, 0, 58]) + message
    total = sum(int.from_bytes(covered[i : i + 2], "big") for i in range(0, len(covered), 2))

    assert (total & 0xFFFF) + (total >> 16) == 0xFFFF


def reverse_arp(vm: VmSpec) -> bytes:
    return announcement.reverse_arp(vm.mac)


@pytest.mark.shows("R8.1")
@pytest.mark.parametrize(
    ("form", "made"),
    [
        ("garp", [announcement.gratuitous_arp]),
        ("garp-reply", [announcement.gratuitous_arp_reply]),
        ("na", [announcement.unsolicited_advertisement]),
        ("na-solicited", [announcement.advertisement_to_solicited_node]),
        ("rarp", [reverse_arp]),
        ("both", [announcement.gratuitous_arp, announcement.unsolicited_advertisement]),
        ("none", []),
    ],
)
def test_forms_of_announcement(form: str, made: list) -> None:
    """More than these frames a VM never says."""
    assert announcement.frames(VM, form) == [make(VM) for make in made]


def test_every_form_has_its_frame() -> None:
    assert all(len(announcement.frames(VM, form)) == 1 for form in announcement.FORMS)
    assert len({announcement.frames(VM, form)[0] for form in announcement.FORMS}) == len(
        announcement.FORMS
    )
