"""The frames with which a VM announces itself after a move.

    garp          gratuitous ARP request to the broadcast address (R4.1.2; RFC 5227 section 3)
    garp-reply    the same as an ARP reply, which some hosts send instead (RFC 5944 section 4.6)
    na            unsolicited neighbour advertisement to all nodes (R4.1.6; RFC 4861 section 7.2.6)
    na-solicited  the same to the solicited-node group of the VM's own address, as the draft has it
                  (RFC 4291 section 2.7.1); few hosts but the VM itself listen there
    rarp          reverse ARP request with the VM's MAC address, as hypervisors send it for a silent
                  VM; it is also a diskless client's question (R4.1.5; RFC 903), but the answer does
                  no harm, as a VM that has not asked ignores it
    both          garp and na
    none          nothing: the activation by the destination has to be enough

The NVA treats all of them alike.  They differ in what else on the network would act on them, and in
what a VM can send: a silent VM nothing, a diskless one only the last.

The frames have to be built before the VM is resumed.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from nve.model import IPAddress, Mac, VmSpec
from nve.wire.frames import (
    ALL_NODES,
    ARP,
    ARP_REPLY,
    ARP_REQUEST,
    RARP_REQUEST,
    SHORTEST,
    advertisement,
    arp,
    broadcast_arp,
    ethernet,
    solicited_node,
)

INTERVAL_S = 0.05
"""The time between repeated announcements of a VM, in seconds."""
NOTHING: Final = "none"
_NO_MAC: Final = "00:00:00:00:00:00"
_COMBINED = {"both": ("garp", "na"), NOTHING: ()}


@dataclass(frozen=True)
class Announcement:
    """How a VM announces itself after a move, how often, and whether that is lost on the way to the
    NVE.
    """

    form: str
    times: int = 1
    lost: bool = False


def frames(vm: VmSpec, form: str) -> list[bytes]:
    """Return the frames of one announcement."""
    return [_MAKERS[each](vm) for each in _COMBINED.get(form, (form,))]


def gratuitous_arp(vm: VmSpec) -> bytes:
    """Return a broadcast ARP request from the VM for its own address."""
    own = (vm.mac, vm.ipv4)
    return broadcast_arp(ARP_REQUEST, own, (_NO_MAC, vm.ipv4))


def gratuitous_arp_reply(vm: VmSpec) -> bytes:
    """Return an unrequested ARP reply from the VM, which is its target as well."""
    own = (vm.mac, vm.ipv4)
    return broadcast_arp(ARP_REPLY, own, own)


def reverse_arp(mac: Mac) -> bytes:
    """Return a reverse ARP request for one's own MAC address."""
    own = (mac, IPv4Address(0))
    return broadcast_arp(RARP_REQUEST, own, own)


def of_address(owner: Mac, address: IPAddress, to: Mac) -> bytes:
    """Return the frame that tells one neighbour that an address has another owner.

    It is a gratuitous ARP request or an unsolicited neighbour advertisement.
    """
    if isinstance(address, IPv6Address):
        return advertisement((owner, address), ALL_NODES, to, solicited=False)
    body = arp(ARP_REQUEST, (owner, address), (_NO_MAC, address))
    return ethernet(owner, to, ARP, body).ljust(SHORTEST, b"\0")


def unsolicited_advertisement(vm: VmSpec) -> bytes:
    """Return an unsolicited neighbour advertisement with the override flag."""
    return advertisement((vm.mac, vm.ipv6), ALL_NODES, solicited=False)


def advertisement_to_solicited_node(vm: VmSpec) -> bytes:
    """Return the same to the solicited-node group of the VM's address."""
    return advertisement((vm.mac, vm.ipv6), solicited_node(vm.ipv6), solicited=False)


_MAKERS: Mapping[str, Callable[[VmSpec], bytes]] = {
    "garp": gratuitous_arp,
    "garp-reply": gratuitous_arp_reply,
    "na": unsolicited_advertisement,
    "na-solicited": advertisement_to_solicited_node,
    "rarp": lambda vm: reverse_arp(vm.mac),
}
FORMS = tuple(_MAKERS)
"""The forms that consist of one frame; the NVA uses their names for what it has heard."""
