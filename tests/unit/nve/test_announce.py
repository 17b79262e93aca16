"""Announcements, byte by byte; that the NVA reads them is shown in `tests/adapters`."""

import pytest

from nve import announce
from tests.helpers.tenants import vm

VM = vm("vm1", 1, "nve1")
OWN_MAC = "020000000001"


def test_gratuitous_arp_is_a_broadcast_request_for_the_own_address() -> None:
    """R4.1.2."""
    assert announce.gratuitous_arp(VM).hex() == (
        "ffffffffffff" + OWN_MAC + "0806"  # Ethernet
        "0001" "0800" "06" "04" "0001"  # a request of ARP for Ethernet and IPv4
        + OWN_MAC + "c0a80001"  # sender
        "000000000000" "c0a80001"  # target
    )  # fmt: skip


def test_reverse_arp_is_a_broadcast_request_for_the_own_mac() -> None:
    """R4.1.5."""
    assert announce.reverse_arp(VM).hex() == (
        "ffffffffffff" + OWN_MAC + "8035"
        "0001" "0800" "06" "04" "0003"
        + OWN_MAC + "00000000"
        + OWN_MAC + "00000000"
    )  # fmt: skip


def test_unsolicited_advertisement_overrides_at_all_nodes() -> None:
    """R4.1.6, the reading of RFC 4861."""
    own_address = "fd77" + "0" * 27 + "1"
    assert announce.unsolicited_advertisement(VM).hex() == (
        "333300000001" + OWN_MAC + "86dd"
        "60000000" "0020" "3a" "ff"  # 32 octets of ICMPv6, hop limit 255
        + own_address + "ff020000000000000000000000000001"
        "88" "00" "59ad"  # neighbour advertisement and its checksum
        "20000000" + own_address  # override, neither router nor solicited
        + "02" "01" + OWN_MAC  # target link-layer address
    )  # fmt: skip


def test_the_checksum_of_the_advertisement_comes_out_even() -> None:
    """RFC 1071: over pseudo header and message, checksum included, the sum is all ones."""
    frame = announce.unsolicited_advertisement(VM)
    source_and_group, message = frame[22:54], frame[54:]
    covered = source_and_group + len(message).to_bytes(4, "big") + bytes([0, 0, 0, 58]) + message
    total = sum(int.from_bytes(covered[i : i + 2], "big") for i in range(0, len(covered), 2))

    assert (total & 0xFFFF) + (total >> 16) == 0xFFFF


@pytest.mark.parametrize(
    ("form", "made"),
    [
        ("garp", [announce.gratuitous_arp]),
        ("na", [announce.unsolicited_advertisement]),
        ("rarp", [announce.reverse_arp]),
        ("both", [announce.gratuitous_arp, announce.unsolicited_advertisement]),
        ("none", []),
    ],
)
def test_forms_of_announcement(form: str, made: list) -> None:
    """R8.1: more than these frames a VM never says."""
    assert announce.frames(VM, form) == [make(VM) for make in made]


def test_every_form_has_its_frame() -> None:
    assert all(len(announce.frames(VM, form)) == 1 for form in announce.FORMS)
