"""The frames of an attack, which are sent in turn and repeated (see
`experiments.workloads.forgery`).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from ipaddress import IPv4Address

from nve.model import BROADCAST, MAX_VNI, IPAddress, Mac, VmSpec, Vtep
from nve.wire import announcement, frames
from nve.wire.frames import ARP, ARP_REQUEST, IPV4, IPV6, RARP, RARP_REQUEST, UDP

DISTINCT = 200
"""The number of different frames in a flood."""
_DISCARD = frames.udp(9, 9, b"vmmlab: this is forged")
_NO_MAC = "00:00:00:00:00:00"
_NOBODY = IPv4Address(0)
_STRANGER = "02:fe:00:00:00:00"
_NO_VM = "02:dd:00:00:00:00"
_NO_OPERATION = 77


def of_vm(what: str, me: VmSpec, victim: VmSpec) -> list[bytes]:
    """Return the frames that a VM sends against another one of its network."""
    return _MAKERS[what](me, victim)


@dataclass(frozen=True)
class Wire:
    """Where a stranger on the underlay is: beside the NVE with this VTEP and this MAC address.

    `vteps` are those of all NVEs, `vnis` the existing virtual networks.
    """

    vtep: Vtep
    mac: Mac
    vteps: frozenset[Vtep]
    vnis: frozenset[int]

    def nobody(self) -> Vtep:
        """Return an address in the NVE's subnet that is no NVE's."""
        return next(a for n in range(90, 1000) if (a := self.vtep + n) not in self.vteps)

    def another_nve(self) -> Vtep:
        return min(self.vteps - {self.vtep}, key=str)

    def no_network(self) -> int:
        return next(vni for vni in range(MAX_VNI, 0, -1) if vni not in self.vnis)


def of_stranger(what: str, wire: Wire, victim: VmSpec) -> list[bytes]:
    """Return VXLAN packets that hold a packet for the victim, as another VM of its network would
    send it.
    """
    neighbour = replace(victim, ipv4=victim.ipv4 + 77)
    inner = _ipv4(_STRANGER, victim.mac, neighbour.ipv4, victim.ipv4)
    if what == "unknown-vtep":
        return [_vxlan(wire, wire.nobody(), victim.vni, inner)]
    if what == "wrong-vni":
        return [_vxlan(wire, wire.another_nve(), wire.no_network(), inner)]
    for_nobody = _ipv4(_STRANGER, _NO_VM, neighbour.ipv4, victim.ipv4)
    return [_vxlan(wire, wire.another_nve(), victim.vni, for_nobody)]


def _vxlan(wire: Wire, source: Vtep, vni: int, inner: bytes) -> bytes:
    datagram = frames.udp(49152, frames.VXLAN_UDP_PORT, frames.vxlan(vni, inner))
    packet = frames.ip(source, wire.vtep, UDP, datagram)
    return frames.ethernet(_STRANGER, wire.mac, _ethertype(wire.vtep), packet)


def _arp(me: VmSpec, target: IPv4Address) -> bytes:
    return frames.broadcast_arp(ARP_REQUEST, (me.mac, me.ipv4), (_NO_MAC, target))


def _malformed(me: VmSpec, victim: VmSpec) -> list[bytes]:
    """Return malformed frames with the VM's own addresses: only a parser notices what is wrong."""
    nobody, victims = (me.mac, _NOBODY), (_NO_MAC, victim.ipv4)
    bodies = (
        (ARP, frames.arp(_NO_OPERATION, (me.mac, me.ipv4), victims)),
        (RARP, frames.arp(_NO_OPERATION, nobody, nobody)),
    )
    malformed = [frames.ethernet(me.mac, BROADCAST, ethertype, body) for ethertype, body in bodies]
    return [*malformed, frames.solicitation((me.mac, me.ipv6), victim.ipv6, hop_limit=64)]


def _reverse_arp_for(me: VmSpec, victim: VmSpec) -> bytes:
    """Return a reverse ARP request in the VM's own name about another: no switch compares the
    two.
    """
    return frames.broadcast_arp(RARP_REQUEST, (me.mac, _NOBODY), (victim.mac, _NOBODY))


def _ipv4(source_mac: str, to_mac: str, source: IPAddress, to: IPAddress) -> bytes:
    packet = frames.ip(source, to, UDP, _DISCARD)
    return frames.ethernet(source_mac, to_mac, _ethertype(source), packet)


def _ethertype(address: IPAddress) -> int:
    return IPV4 if address.version == 4 else IPV6


_MAKERS: Mapping[str, Callable[[VmSpec, VmSpec], list[bytes]]] = {
    "garp": lambda me, you: [announcement.gratuitous_arp(replace(me, ipv4=you.ipv4))],
    "garp-reply": lambda me, you: [announcement.gratuitous_arp_reply(replace(me, ipv4=you.ipv4))],
    "na": lambda me, you: [announcement.unsolicited_advertisement(replace(me, ipv6=you.ipv6))],
    "rarp": lambda me, you: [announcement.reverse_arp(you.mac), _reverse_arp_for(me, you)],
    "source-mac": lambda me, you: [_ipv4(you.mac, BROADCAST, me.ipv4, you.ipv4)],
    "source-ip": lambda me, you: [
        _ipv4(me.mac, you.mac, you.ipv4, me.ipv4),
        _ipv4(me.mac, you.mac, you.ipv6, me.ipv6),
    ],
    "malformed": _malformed,
    "arp-flood": lambda me, you: [_arp(me, you.ipv4 + n) for n in range(DISTINCT)],
    "nd-flood": lambda me, you: [
        frames.solicitation((me.mac, me.ipv6), you.ipv6 + n) for n in range(DISTINCT)
    ],
    "rarp-flood": lambda me, you: [announcement.reverse_arp(me.mac)],
    "miss-flood": lambda me, you: [
        _ipv4(me.mac, f"02:dd:00:00:00:{n:02x}", me.ipv4, you.ipv4) for n in range(DISTINCT)
    ],
}
