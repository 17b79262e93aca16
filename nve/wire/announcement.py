"""How a VM says that it is here: the frames that announce it after a move.

    garp          gratuitous ARP request to the broadcast address (R4.1.2; RFC 5227 section 3)
    garp-reply    the same as an ARP reply, which some hosts send instead (RFC 5944 section 4.6)
    na            unsolicited neighbour advertisement to all nodes (R4.1.6; RFC 4861 section 7.2.6)
    na-solicited  the same to the solicited-node group of the VM's own address, as the draft has it
                  (RFC 4291 section 2.7.1); few hosts but the VM itself listen there
    rarp          reverse ARP request with the VM's MAC, as hypervisors send it for a silent VM; it
                  is a diskless client's question, too (R4.1.5; RFC 903), and the answer to it does
                  no harm: a VM that has not asked does not listen
    both          garp and na
    none          nothing: the destination's activation has to be enough

To the NVA each is as good as another.  They differ in what else on the network would act on them,
and in what a VM can send: a silent one nothing, a diskless one only the last.

Frames are built by hand: they are few, of fixed length, and have to be ready before the VM is
resumed.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import IPv6Address
from typing import Final

from nve.model import BROADCAST, Mac, VmSpec
from nve.wire.frames import ARP, IPV6, RARP

ALL_NODES = IPv6Address("ff02::1")
INTERVAL_S = 0.05
"""Between the announcements of a VM that repeats itself."""
NOTHING: Final = "none"
_SOLICITED_NODE = IPv6Address("ff02::1:ff00:0")
_COMBINED = {"both": ("garp", "na"), NOTHING: ()}


@dataclass(frozen=True)
class Announcement:
    """What a VM says after a move, how often, and whether it is lost on the way to the NVE."""

    form: str
    times: int = 1
    lost: bool = False


def frames(vm: VmSpec, form: str) -> list[bytes]:
    """The frames of one announcement."""
    return [_MAKERS[each](vm) for each in _COMBINED.get(form, (form,))]


def gratuitous_arp(vm: VmSpec) -> bytes:
    """An ARP request for the VM's own address, from it, to everybody."""
    own = vm.ipv4.packed
    return _broadcast(vm.mac, ARP) + _arp(1) + _octets(vm.mac) + own + bytes(6) + own


def gratuitous_arp_reply(vm: VmSpec) -> bytes:
    """An ARP reply that nobody has asked for; the target is the VM itself as well."""
    own = _octets(vm.mac) + vm.ipv4.packed
    return _broadcast(vm.mac, ARP) + _arp(2) + own + own


def reverse_arp(mac: Mac) -> bytes:
    """A reverse ARP request for one's own MAC address."""
    own = _octets(mac) + bytes(4)
    return _broadcast(mac, RARP) + _arp(3) + own + own


def unsolicited_advertisement(vm: VmSpec) -> bytes:
    """A neighbour advertisement with the override flag, nobody having asked."""
    return _advertisement(vm, ALL_NODES)


def advertisement_to_solicited_node(vm: VmSpec) -> bytes:
    """The same to those who would be asked for the VM's address."""
    return _advertisement(vm, solicited_node(vm.ipv6))


def solicited_node(address: IPv6Address) -> IPv6Address:
    """The group that neighbour solicitations for an address go to (RFC 4291 section 2.7.1)."""
    return IPv6Address(int(_SOLICITED_NODE) | int(address) & 0xFFFFFF)


_MAKERS: Mapping[str, Callable[[VmSpec], bytes]] = {
    "garp": gratuitous_arp,
    "garp-reply": gratuitous_arp_reply,
    "na": unsolicited_advertisement,
    "na-solicited": advertisement_to_solicited_node,
    "rarp": lambda vm: reverse_arp(vm.mac),
}
FORMS = tuple(_MAKERS)
"""Those of one frame, by which the NVA names what it has heard."""


def _advertisement(vm: VmSpec, group: IPv6Address) -> bytes:
    option = bytes([2, 1]) + _octets(vm.mac)
    body = bytes([0x20, 0, 0, 0]) + vm.ipv6.packed + option
    length = (4 + len(body)).to_bytes(4, "big")
    ends = vm.ipv6.packed + group.packed
    pseudo_header = ends + length + bytes([0, 0, 0, 58])
    message = bytes([136, 0]) + _checksum(pseudo_header + bytes([136, 0, 0, 0]) + body) + body
    header = bytes([0x60, 0, 0, 0]) + len(message).to_bytes(2, "big") + bytes([58, 255])
    ethernet = bytes([0x33, 0x33]) + group.packed[-4:] + _octets(vm.mac)  # RFC 2464 section 7
    return ethernet + IPV6.to_bytes(2, "big") + header + ends + message


def _broadcast(source: Mac, ethertype: int) -> bytes:
    return _octets(BROADCAST) + _octets(source) + ethertype.to_bytes(2, "big")


def _arp(operation: int) -> bytes:
    """Ethernet and IPv4, and the operation."""
    return bytes.fromhex("0001080006 04") + operation.to_bytes(2, "big")


def _octets(mac: Mac) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


def _checksum(data: bytes) -> bytes:
    """The Internet checksum (RFC 1071) of an even number of bytes."""
    total = sum(int.from_bytes(data[i : i + 2], "big") for i in range(0, len(data), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return (~total & 0xFFFF).to_bytes(2, "big")
