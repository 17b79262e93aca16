"""What a VM said with ARP, reverse ARP or neighbour discovery, judged.

A VM either asks for somebody's MAC address, and the directory knows the answer, or it claims an
address by announcing itself, and its port owns that address or does not (R9.2).  The switch has
dropped what a port may not send already (`nve.pipeline`, GUARD); the NVA does not rely on that.
"""

from dataclasses import dataclass
from typing import TypeAlias

from controller.mapping import Directory
from nve.messages import (
    ARP_REQUEST,
    RARP_REQUEST,
    ArpSent,
    NeighbourAdvertised,
    NeighbourSolicited,
    RarpSent,
)
from nve.model import Binding, IPAddress
from nve.pipeline import Attachment

Said: TypeAlias = ArpSent | RarpSent | NeighbourSolicited | NeighbourAdvertised


@dataclass(frozen=True)
class Announced:
    """The VM is here (R4.1.2, R4.1.6); `form` is how it said so."""

    form: str


@dataclass(frozen=True)
class Asked:
    """The VM asked for an address, and this is who has it."""

    binding: Binding


@dataclass(frozen=True)
class Improper:
    """The VM's mistake, or an attempt: `what` it is counted as, and the address it spoke of."""

    what: str
    says: str


Verdict: TypeAlias = Announced | Asked | Improper | None


def judge(said: Said, port: Attachment, directory: Directory) -> Verdict:
    """What the NVA makes of it; None where there is nothing to do (a reply, an address check)."""
    match said:
        case ArpSent():
            if not _owns(port, said.sender_mac, said.sender_ip):
                return Improper("forged", str(said.sender_ip))
            if said.gratuitous:
                return Announced("garp")
            if said.operation == ARP_REQUEST:
                return _who_has(said.target_ip, port, directory)
        case RarpSent():
            if said.target_mac != port.system.mac:
                return Improper("forged", said.target_mac)
            if said.operation == RARP_REQUEST:
                return Announced("rarp")
        case NeighbourSolicited():
            return _who_has(said.target, port, directory)
        case NeighbourAdvertised():
            if not _owns(port, said.sender_mac, said.target):
                return Improper("forged", str(said.target))
            return Announced("na")
    return None


def _owns(port: Attachment, mac: str, address: IPAddress) -> bool:
    """0.0.0.0 is the sender of an ARP probe (RFC 5227)."""
    return mac == port.system.mac and (address in port.addresses or address.is_unspecified)


def _who_has(address: IPAddress, asker: Attachment, directory: Directory) -> Verdict:
    """No answer to a VM that checks its own address."""
    found = directory.find_address(asker.system.vni, address)
    if found is None:
        return Improper("nobody-has", str(address))
    return None if found.system == asker.system else Asked(found)
