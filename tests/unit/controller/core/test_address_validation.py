"""What the NVA makes of what a VM says: a question, an announcement, or neither (R9.2)."""

from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.core.address_validation import AddressAsked, Announced, Improper, Said, judge
from controller.core.directory import Directory
from nve.messages import ArpSent, NeighbourAdvertised, NeighbourSolicited, RarpSent
from nve.model import VmSpec, link_local
from nve.pipeline.state import Association, AssociationRole
from nve.wire.frames import ALL_NODES, solicited_node
from tests.helpers.tenants import BLUE, vm

VM1, VM2 = vm("vm1", 1, "nve1"), vm("vm2", 2, "nve2")
NAMESAKE = replace(vm("blue1", 1, "nve1", BLUE), ipv4=IPv4Address("192.168.7.7"))
"""The MAC address of vm1 in another network, where it has another IPv4 address."""
PORT = 10


def directory(*vms: VmSpec) -> Directory:
    made = Directory()
    for each in vms:
        made.register(each.tenant_system, each.addresses, each.nve)
    return made


KNOWN = directory(VM1, VM2, NAMESAKE)


def port_of(vm: VmSpec) -> Association:
    return Association(vm.tenant_system, vm.addresses, PORT, AssociationRole.ACTIVE)


def verdict(said: Said, vm: VmSpec = VM1, known: Directory = KNOWN) -> object:
    return judge(said, port_of(vm), known)


def arp(operation: int, sender: IPv4Address, target: IPv4Address, by: VmSpec = VM1) -> ArpSent:
    return ArpSent(PORT, operation, by.mac, sender, target)


NO_ADDRESS = IPv4Address(0)
GROUP = solicited_node(VM1.ipv6)

ANNOUNCEMENTS: dict[str, tuple[ArpSent | NeighbourAdvertised, str]] = {
    "a request for itself": (arp(1, VM1.ipv4, VM1.ipv4), "garp"),
    "a reply about itself": (arp(2, VM1.ipv4, VM1.ipv4), "garp-reply"),
    "to all nodes": (NeighbourAdvertised(PORT, VM1.mac, VM1.ipv6, ALL_NODES), "na"),
    "to its own group": (NeighbourAdvertised(PORT, VM1.mac, VM1.ipv6, GROUP), "na-solicited"),
    "of its link-local address": (
        NeighbourAdvertised(
            PORT, VM1.mac, link_local(VM1.mac), solicited_node(link_local(VM1.mac))
        ),
        "na-solicited",
    ),
}  # fmt: skip


@pytest.mark.shows("R4.1.2", "R4.1.6")
@pytest.mark.parametrize(("said", "form"), ANNOUNCEMENTS.values(), ids=ANNOUNCEMENTS)
def test_an_announcement_is_known_by_its_form(
    said: ArpSent | NeighbourAdvertised, form: str
) -> None:
    of = said.sender_ip if isinstance(said, ArpSent) else said.target
    assert verdict(said) == Announced(form, address=of)


@pytest.mark.shows("R4.1.5")
def test_a_reverse_arp_request_says_where_the_vm_is_and_asks_for_its_address() -> None:
    assert verdict(RarpSent(PORT, 3, VM1.mac)) == Announced("rarp", VM1.ipv4)


@pytest.mark.shows("R4.1.5", "R4.1.8")
def test_the_same_mac_in_another_network_is_told_another_address() -> None:
    assert verdict(RarpSent(PORT, 3, NAMESAKE.mac), NAMESAKE) == Announced("rarp", NAMESAKE.ipv4)


def test_a_vm_without_an_ipv4_address_only_announces_itself() -> None:
    known = Directory()
    known.register(VM1.tenant_system, frozenset({VM1.ipv6}), "nve1")
    assert verdict(RarpSent(PORT, 3, VM1.mac), known=known) == Announced("rarp")


def test_a_question_is_answered_from_the_directory() -> None:
    found = KNOWN.find(VM2.tenant_system)
    assert found is not None
    assert verdict(arp(1, VM1.ipv4, VM2.ipv4)) == AddressAsked(found)
    assert verdict(NeighbourSolicited(PORT, VM1.mac, VM1.ipv6, VM2.ipv6)) == AddressAsked(found)


NOTHING_TO_DO: dict[str, Said] = {
    "an address probe": arp(1, NO_ADDRESS, VM1.ipv4),
    "a reply to somebody": arp(2, VM1.ipv4, VM2.ipv4),
    "an advertisement to somebody": NeighbourAdvertised(PORT, VM1.mac, VM1.ipv6, VM2.ipv6),
    "an advertisement to another group": NeighbourAdvertised(
        PORT, VM1.mac, VM1.ipv6, solicited_node(VM2.ipv6)
    ),
}


@pytest.mark.parametrize("said", NOTHING_TO_DO.values(), ids=NOTHING_TO_DO)
def test_what_speaks_to_one_other_is_no_announcement(said: Said) -> None:
    assert verdict(said) is None


IMPROPER: dict[str, tuple[Said, str]] = {
    "an operation that is none, about itself": (arp(77, VM1.ipv4, VM1.ipv4), "malformed"),
    "an operation that is none, about another": (arp(0, VM1.ipv4, VM2.ipv4), "malformed"),
    "nobody's address for nobody": (arp(1, NO_ADDRESS, NO_ADDRESS), "nobody-has"),
    "another's address": (arp(2, VM2.ipv4, VM2.ipv4), "forged"),
    "another's MAC": (arp(1, VM1.ipv4, VM1.ipv4, by=VM2), "forged"),
    "another's advertisement": (
        NeighbourAdvertised(PORT, VM1.mac, VM2.ipv6, ALL_NODES), "forged"
    ),
    "another's advertisement to its group": (
        NeighbourAdvertised(PORT, VM1.mac, VM2.ipv6, solicited_node(VM2.ipv6)), "forged"
    ),
    "a reverse ARP for another": (RarpSent(PORT, 3, VM2.mac), "forged"),
    "a reverse ARP reply": (RarpSent(PORT, 4, VM1.mac), "forged"),
    "a reverse ARP operation that is none": (RarpSent(PORT, 1, VM1.mac), "malformed"),
}  # fmt: skip


@pytest.mark.shows("R9.2")
@pytest.mark.parametrize(("said", "what"), IMPROPER.values(), ids=IMPROPER)
def test_what_a_port_may_not_say_is_counted_and_nothing_else(said: Said, what: str) -> None:
    judged = verdict(said)
    assert isinstance(judged, Improper)
    assert judged.what == what


@pytest.mark.shows("R9.2")
@given(
    operation=st.integers(0, 0xFFFF),
    sender=st.sampled_from([VM1.ipv4, VM2.ipv4, NAMESAKE.ipv4, NO_ADDRESS]),
    target=st.sampled_from([VM1.ipv4, VM2.ipv4, NO_ADDRESS]),
    by=st.sampled_from([VM1, VM2]),
)
def test_only_a_request_or_a_reply_about_its_own_address_announces_a_vm(
    operation: int, sender: IPv4Address, target: IPv4Address, by: VmSpec
) -> None:
    announced = isinstance(verdict(arp(operation, sender, target, by)), Announced)

    assert announced == (operation in (1, 2) and by is VM1 and sender == target == VM1.ipv4)


def test_the_solicited_node_group_has_the_last_three_octets_of_the_address() -> None:
    """RFC 4291 section 2.7.1, with its own example."""
    given_there = IPv6Address("4037::01:800:200e:8c6c")
    assert solicited_node(given_there) == IPv6Address("ff02::1:ff0e:8c6c")
