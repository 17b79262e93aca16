"""Judge what a VM says with ARP, reverse ARP or neighbour discovery.

A VM either asks for an address, which the directory answers, or it claims an address by announcing
itself, and its port either owns that address or does not (R9.2).  A reverse ARP request does both:
it announces its sender's place, and asks which IPv4 address belongs to the sender's MAC address
(R4.1.5).  The switch has already dropped what a port may not send (`nve.pipeline.port_rules`,
GUARD); the NVA does not rely on that.
"""

from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import TypeAlias

from controller.core.directory import Directory
from nve.messages import (
    ArpSent,
    NeighbourAdvertised,
    NeighbourSolicited,
    RarpSent,
)
from nve.model import Binding, IPAddress, TenantSystem
from nve.pipeline.state import Association
from nve.wire.frames import (
    ALL_NODES,
    ARP_REPLY,
    ARP_REQUEST,
    RARP_REPLY,
    RARP_REQUEST,
    solicited_node,
)

Said: TypeAlias = ArpSent | RarpSent | NeighbourSolicited | NeighbourAdvertised


@dataclass(frozen=True)
class Announced:
    """A VM has announced that it is at this port (R4.1.2, R4.1.6); `form` names the kind of
    message.

    `asks_for` is the VM's own IPv4 address, if the announcement also asks for it.  `address` is the
    announced address, if that is not the MAC address.
    """

    form: str
    asks_for: IPv4Address | None = None
    address: IPAddress | None = None


@dataclass(frozen=True)
class AddressAsked:
    """A VM has asked who has an address; the answer is the binding held here."""

    binding: Binding


@dataclass(frozen=True)
class Improper:
    """A VM has said something it may not say, by mistake or as an attack.

    `what` is the name under which this is counted, and `address` the address the VM spoke of.
    """

    what: str
    says: str


Claim: TypeAlias = Announced | AddressAsked | Improper | None


def judge(said: Said, port: Association, directory: Directory) -> Claim:
    """Return what the NVA makes of a message, or None if it calls for nothing (a reply, an address
    check).
    """
    match said:
        case ArpSent():
            return _of_arp(said, port, directory)
        case RarpSent():
            return _of_reverse_arp(said, port, directory)
        case NeighbourSolicited():
            return _who_has(said.target, port, directory)
        case NeighbourAdvertised():
            if not _owns(port, said.sender_mac, said.target):
                return Improper("forged", str(said.target))
            forms = {ALL_NODES: "na", solicited_node(said.target): "na-solicited"}
            return Announced(forms[said.to], address=said.target) if said.to in forms else None


def _of_arp(said: ArpSent, port: Association, directory: Directory) -> Claim:
    if not _owns(port, said.sender_mac, said.sender_ip):
        return Improper("forged", str(said.sender_ip))
    forms = {ARP_REQUEST: "garp", ARP_REPLY: "garp-reply"}
    if said.operation not in forms:
        return Improper("malformed", f"ARP operation {said.operation}")
    if said.gratuitous:
        return Announced(forms[said.operation], address=said.sender_ip)
    return _who_has(said.target_ip, port, directory) if said.operation == ARP_REQUEST else None


def _of_reverse_arp(said: RarpSent, port: Association, directory: Directory) -> Claim:
    """Judge a reverse ARP message: only an NVE may send a reply, never a VM (RFC 903)."""
    if said.target_mac != port.system.mac or said.operation == RARP_REPLY:
        return Improper("forged", said.target_mac)
    if said.operation != RARP_REQUEST:
        return Improper("malformed", f"reverse ARP operation {said.operation}")
    found = directory.find(TenantSystem(port.system.vni, said.target_mac))
    addresses = sorted(found.addresses - port.claimable, key=str) if found else []
    own = next((a for a in addresses if isinstance(a, IPv4Address)), None)
    return Announced("rarp", asks_for=own)


def _owns(port: Association, mac: str, address: IPAddress) -> bool:
    """Return whether the port owns both addresses; 0.0.0.0 is allowed, as ARP probes send it (RFC
    5227).
    """
    return mac == port.system.mac and (address in port.addresses or address.is_unspecified)


def _who_has(address: IPAddress, asker: Association, directory: Directory) -> Claim:
    """Look an address up for a VM; return None if the VM is checking its own address."""
    found = directory.find_address(asker.system.vni, address)
    if found is None:
        return Improper("nobody-has", str(address))
    return None if found.system == asker.system else AddressAsked(found)
