"""Builds and reads frames octet by octet, and names what is in them; no other file does so.

Ethernet (IEEE 802.3), ARP (RFC 826) and reverse ARP (RFC 903), IPv4 and IPv6, UDP, VXLAN (RFC 7348)
and neighbour discovery (RFC 4861).  Frames are built by hand, so that frames which no honest stack
would send can be built as well; they are read with the checks that a receiver has to make, as a
tenant may send anything.
"""

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from nve.model import BROADCAST, IPAddress, Mac, mac

ARP, RARP, IPV4, IPV6 = 0x0806, 0x8035, 0x0800, 0x86DD
VLAN, EXPERIMENTAL = 0x8100, 0x88B5
"""EtherTypes: of a VLAN tag (IEEE 802.1Q), and for local experiments (IEEE 802, clause 9)."""
ICMP, IGMP, UDP, ICMPV6 = 1, 2, 17, 58
"""Protocol numbers of IP."""
PACKET_TOO_BIG, ROUTER_SOLICITATION = 2, 133
NEIGHBOUR_SOLICITATION, NEIGHBOUR_ADVERTISEMENT = 135, 136
MLD_REPORT, MLD_DONE, MLD_V2_REPORT = 131, 132, 143
"""Types of ICMPv6 messages (RFC 4443, 4861, 2710, 3810)."""
DHCP_SERVER, DHCP_CLIENT = 67, 68
"""UDP ports (RFC 2131)."""
ARP_REQUEST, ARP_REPLY, RARP_REQUEST, RARP_REPLY = 1, 2, 3, 4
"""Operations of ARP, and of reverse ARP."""
VXLAN_UDP_PORT, VXLAN_GPE_UDP_PORT = 4789, 4790
"""The UDP ports of VXLAN (RFC 7348) and of its generic protocol extension
(draft-ietf-nvo3-vxlan-gpe)."""
ALL_NODES = IPv6Address("ff02::1")
ETHERNET_OCTETS, IPV4_OCTETS, IPV6_OCTETS = 14, 20, 40
ND_HOP_LIMIT = 255
"""The hop limit of a neighbour's message; one with less has passed a router (RFC 4861 section
7.1)."""
SHORTEST = 60
"""The least number of octets in an Ethernet frame, without its check sequence."""

_ARP: Final = struct.Struct("!HHBBH6s4s6s4s")
_ARP_ETHERNET_IPV4: Final = (1, IPV4, 6, 4)
_SOLICITED_NODE: Final = IPv6Address("ff02::1:ff00:0")
_ROUTER, _SOLICITED, _OVERRIDE = 0x80, 0x40, 0x20
_LINK_LAYER_OPTIONS: Final = {NEIGHBOUR_SOLICITATION: 1, NEIGHBOUR_ADVERTISEMENT: 2}
_ND_OCTETS: Final = 24


class NotWellFormed(ValueError):
    """The frame is not what its EtherType or its protocol says; the message says why."""


@dataclass(frozen=True)
class ArpPacket:
    """The content of an ARP or reverse ARP packet for Ethernet and IPv4."""

    operation: int
    sender_mac: Mac
    sender_ip: IPv4Address
    target_mac: bytes
    target_ip: IPv4Address


@dataclass(frozen=True)
class NeighbourMessage:
    """A neighbour solicitation or advertisement: its ICMPv6 type, sender, receiver and target."""

    kind: int
    source: IPv6Address
    to: IPv6Address
    target: IPv6Address


def ethernet(sender: str, to: str, ethertype: int, body: bytes) -> bytes:
    """Return an Ethernet frame without padding."""
    return _mac(to) + _mac(sender) + ethertype.to_bytes(2, "big") + body


def arp(operation: int, sender: tuple[str, IPAddress], target: tuple[str, IPAddress]) -> bytes:
    """Return the body of an ARP packet (RFC 826) or a reverse ARP packet (RFC 903)."""
    (sender_mac, sender_ip), (target_mac, target_ip) = sender, target
    ends = (_mac(sender_mac), sender_ip.packed, _mac(target_mac), target_ip.packed)
    return _ARP.pack(*_ARP_ETHERNET_IPV4, operation, *ends)


def ip(source: IPAddress, to: IPAddress, protocol: int, body: bytes, hop_limit: int = 64) -> bytes:
    """Return an IPv4 or IPv6 packet, depending on its addresses."""
    ends = source.packed + to.packed
    if source.version == 6:
        return (
            bytes([0x60, 0, 0, 0]) + len(body).to_bytes(2, "big") + bytes([protocol, hop_limit])
        ) + ends + body  # fmt: skip
    start = bytes([0x45, 0]) + (20 + len(body)).to_bytes(2, "big") + bytes(4)
    lifetime = bytes([hop_limit, protocol])
    sum_of_header = checksum(start + lifetime + bytes(2) + ends)
    return start + lifetime + sum_of_header + ends + body


def udp(source_port: int, to_port: int, body: bytes) -> bytes:
    """Return a UDP datagram without a checksum, which IPv4 and VXLAN (RFC 7348) allow."""
    ports = source_port.to_bytes(2, "big") + to_port.to_bytes(2, "big")
    return ports + (8 + len(body)).to_bytes(2, "big") + bytes(2) + body


def vxlan(vni: int, frame: bytes) -> bytes:
    """Return a frame with a VXLAN header before it (RFC 7348 section 5)."""
    return bytes([0x08, 0, 0, 0]) + vni.to_bytes(3, "big") + bytes(1) + frame


def icmpv6(source: IPv6Address, to: IPv6Address, kind: int, body: bytes, code: int = 0) -> bytes:
    """Return an ICMPv6 message with its checksum."""
    message = bytes([kind, code, 0, 0]) + body
    pseudo_header = (
        source.packed + to.packed + len(message).to_bytes(4, "big") + bytes([0, 0, 0, ICMPV6])
    )
    return message[:2] + checksum(pseudo_header + message) + body


def solicited_node(address: IPv6Address) -> IPv6Address:
    """Return the group that neighbour solicitations for an address go to (RFC 4291 section
    2.7.1).
    """
    return IPv6Address(int(_SOLICITED_NODE) | int(address) & 0xFFFFFF)


def group_mac(group: IPv6Address) -> str:
    """Return the MAC address of an IPv6 group (RFC 2464 section 7)."""
    return "33:33:" + group.packed[-4:].hex(":")


def solicitation(
    sender: tuple[str, IPv6Address], target: IPv6Address, hop_limit: int = ND_HOP_LIMIT
) -> bytes:
    """Return the frame of a neighbour solicitation (RFC 4861 section 4.3) to the target's group.

    With the sender `::` it is a probe of duplicate address detection (RFC 4862 section 5.4.2),
    which has no link-layer address option.
    """
    own_mac, source = sender
    option = b"" if source.is_unspecified else bytes([1, 1]) + _mac(own_mac)
    body = bytes(4) + target.packed + option
    return _neighbour_discovery(
        own_mac, source, solicited_node(target), NEIGHBOUR_SOLICITATION, body, hop_limit=hop_limit
    )


def advertisement(
    owner: tuple[str, IPv6Address],
    to: IPv6Address,
    to_mac: str = "",
    *,
    solicited: bool,
    router: bool = False,
) -> bytes:
    """Return the frame of a neighbour advertisement with the override flag (RFC 4861 section 4.4).

    `solicited` says that it answers one host's question; an advertisement to a group never does.
    `router` says that the owner is a router, which a VM is not.
    """
    own_mac, target = owner
    flags = _OVERRIDE | (_SOLICITED if solicited else 0) | (_ROUTER if router else 0)
    body = bytes([flags, 0, 0, 0]) + target.packed + bytes([2, 1]) + _mac(own_mac)
    return _neighbour_discovery(own_mac, target, to, NEIGHBOUR_ADVERTISEMENT, body, to_mac)


def _neighbour_discovery(
    own_mac: str,
    source: IPv6Address,
    to: IPv6Address,
    kind: int,
    body: bytes,
    to_mac: str = "",
    hop_limit: int = ND_HOP_LIMIT,
) -> bytes:
    packet = ip(source, to, ICMPV6, icmpv6(source, to, kind, body), hop_limit)
    return ethernet(own_mac, to_mac or group_mac(to), IPV6, packet)


def broadcast_arp(
    operation: int, sender: tuple[str, IPAddress], target: tuple[str, IPAddress]
) -> bytes:
    """Return the broadcast frame of an ARP or reverse ARP packet."""
    reverse = operation in (RARP_REQUEST, RARP_REPLY)
    return ethernet(sender[0], BROADCAST, RARP if reverse else ARP, arp(operation, sender, target))


# -- reading -----------------------------------------------------------------------------------


def ethertype(frame: bytes) -> int:
    """Return the EtherType of a frame.  Raises NotWellFormed."""
    if len(frame) < ETHERNET_OCTETS:
        raise NotWellFormed(f"{len(frame)} octets are no Ethernet frame")
    return int.from_bytes(frame[12:ETHERNET_OCTETS], "big")


def destination_mac(frame: bytes) -> Mac:
    """Return the destination MAC address of a frame, which may be that of a group."""
    return Mac(frame[:6].hex(":"))


def source_mac(frame: bytes) -> Mac:
    """Return the source MAC address of a frame.  Raises ValueError if it is a group's."""
    return mac(frame[6:12].hex(":"))


def read_arp(frame: bytes) -> ArpPacket:
    """Return the content of a frame with the EtherType of ARP or reverse ARP.  Raises
    ValueError.
    """
    body = frame[ETHERNET_OCTETS:]
    if len(body) < _ARP.size:
        raise NotWellFormed("not an ARP packet for Ethernet and IPv4: it is too short")
    *kinds, operation, sha, spa, tha, tpa = _ARP.unpack_from(body)
    if tuple(kinds) != _ARP_ETHERNET_IPV4:
        raise NotWellFormed("not an ARP packet for Ethernet and IPv4")
    return ArpPacket(operation, mac(sha.hex(":")), IPv4Address(spa), tha, IPv4Address(tpa))


def read_neighbour_message(frame: bytes) -> NeighbourMessage:
    """Return the neighbour discovery message in a frame with the EtherType of IPv6.

    Raises NotWellFormed if it holds none, or one that a receiver must not accept (RFC 4861 sections
    7.1.1, 7.1.2).
    """
    packet = frame[ETHERNET_OCTETS:]
    if len(packet) < IPV6_OCTETS + _ND_OCTETS or packet[0] >> 4 != 6 or packet[6] != ICMPV6:
        raise NotWellFormed("not neighbour discovery: no whole message behind an IPv6 header")
    octets, hop_limit = int.from_bytes(packet[4:6], "big"), packet[7]
    message = packet[IPV6_OCTETS:][:octets]
    kind, code = message[:2]
    source, to = IPv6Address(packet[8:24]), IPv6Address(packet[24:40])
    target = IPv6Address(message[8:24])
    if kind not in _LINK_LAYER_OPTIONS or code:
        raise NotWellFormed(f"not neighbour discovery: ICMPv6 type {kind}, code {code}")
    if hop_limit != ND_HOP_LIMIT:
        raise NotWellFormed(f"hop limit {hop_limit}, not {ND_HOP_LIMIT} (RFC 4861 7.1)")
    if len(message) < max(octets, _ND_OCTETS):
        raise NotWellFormed(f"{len(message)} octets of neighbour discovery, and not {octets}")
    if icmpv6(source, to, kind, message[4:]) != message:
        raise NotWellFormed("neighbour discovery with a wrong checksum")
    if target.is_multicast:
        raise NotWellFormed(f"neighbour discovery about the group {target}")
    options = _options(message[_ND_OCTETS:])
    if (
        kind == NEIGHBOUR_SOLICITATION
        and source.is_unspecified
        and (to != solicited_node(target) or _LINK_LAYER_OPTIONS[kind] in options)
    ):
        raise NotWellFormed("a probe for a duplicate address that is none (RFC 4861 7.1.1)")
    return NeighbourMessage(kind, source, to, target)


def _options(octets: bytes) -> set[int]:
    """Return the types of a message's neighbour discovery options, after checking their lengths."""
    found = set()
    while octets:
        if len(octets) < 8 or not octets[1] or len(octets) < 8 * octets[1]:
            raise NotWellFormed("neighbour discovery with an option that has no length or no end")
        found.add(octets[0])
        octets = octets[8 * octets[1] :]
    return found


def destination(frame: bytes) -> IPAddress:
    """Return the destination of the IPv4 or IPv6 packet in a frame.  Raises NotWellFormed."""
    packet = frame[ETHERNET_OCTETS:]
    protocol, version = ethertype(frame), packet[0] >> 4 if packet else 0
    if (protocol, version) == (IPV4, 4) and len(packet) >= IPV4_OCTETS:
        return IPv4Address(packet[16:20])
    if (protocol, version) == (IPV6, 6) and len(packet) >= IPV6_OCTETS:
        return IPv6Address(packet[24:40])
    raise NotWellFormed("neither an IPv4 nor an IPv6 packet")


def source(frame: bytes) -> IPAddress:
    """Return the source of the IPv4 or IPv6 packet in a frame.  Raises NotWellFormed."""
    packet = frame[ETHERNET_OCTETS:]
    version = destination(frame).version
    return IPv4Address(packet[12:16]) if version == 4 else IPv6Address(packet[8:24])


def ttl(frame: bytes) -> int:
    """Return the TTL or hop limit of the packet in a frame.  Raises NotWellFormed."""
    return frame[ETHERNET_OCTETS + (8 if destination(frame).version == 4 else 7)]


def routed(frame: bytes, router: str, to: str) -> bytes:
    """Return the frame as a router forwards it: new MAC addresses, TTL or hop limit one less.

    Raises NotWellFormed.
    """
    packet = bytearray(frame[ETHERNET_OCTETS:])
    if destination(frame).version == 6:
        packet[7] -= 1
    else:
        packet[8] -= 1
        header = slice(0, (packet[0] & 0xF) * 4)
        packet[10:12] = bytes(2)
        packet[10:12] = checksum(bytes(packet[header]))
    return ethernet(router, to, ethertype(frame), bytes(packet))


def checksum(octets: bytes) -> bytes:
    """Return the Internet checksum (RFC 1071)."""
    even = octets + bytes(len(octets) % 2)
    total = sum(int.from_bytes(even[i : i + 2], "big") for i in range(0, len(even), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return (~total & 0xFFFF).to_bytes(2, "big")


def _mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))
