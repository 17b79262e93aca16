"""Frames to reports, and answers to frames: ARP, reverse ARP and neighbour discovery.

A frame that is not what its EtherType says becomes a `Malformed` report with the reason; nothing
that a tenant sends raises here.
"""

from ipaddress import IPv4Address, IPv6Address
from typing import Any

from controller.southbound.framework import arp, ethernet, icmpv6, ipv6, packet
from nve.messages import (
    ARP_REPLY,
    RARP_REPLY,
    ArpSent,
    Malformed,
    Missed,
    NeighbourAdvertised,
    NeighbourSolicited,
    RarpSent,
    Report,
    Signalled,
)
from nve.model import NVE_MAC, Mac, mac
from nve.wire import end_marker

ARP_ETHERTYPE, RARP_ETHERTYPE = 0x0806, 0x8035
ARP_HEADER, ARP_BYTES = bytes.fromhex("0001 0800 06 04"), 28
"""For Ethernet and IPv4; reverse ARP is laid out alike (RFC 826, RFC 903)."""
ND_HOP_LIMIT = 255
ALL_NODES = "ff02::1"


def missed(port: int, frame: bytes) -> Report:
    """A frame without an entry for its destination."""
    try:
        destination = mac(frame[:6].hex(":"))
    except ValueError as error:
        return Malformed(port, str(error))
    return Missed(port, destination, frame)


def signalled(port: int, frame: bytes) -> Report:
    """What an NVE's agent said."""
    try:
        return Signalled(port, end_marker.read(frame))
    except end_marker.NotASignal as error:
        return Malformed(port, str(error))


def reported(port: int, frame: bytes) -> Report:
    """What a VM behind `port` said with a frame of ARP, RARP or neighbour discovery."""
    try:
        return _read(port, frame)
    except Exception as error:  # the parsers raise whatever the bytes make them stumble over
        return Malformed(port, f"{type(error).__name__}: {error}")


def _read(port: int, frame: bytes) -> Report:
    ethertype = int.from_bytes(frame[12:14], "big")
    if ethertype in (ARP_ETHERTYPE, RARP_ETHERTYPE):
        return _read_arp(port, ethertype, frame[14:])
    layers: list[Any] = [
        layer for layer in packet.Packet(frame).protocols if not isinstance(layer, bytes)
    ]
    ether = layers[0]
    match layers[1:]:
        case [ipv6.ipv6() as network, icmpv6.icmpv6() as message, *_]:
            if network.hop_limit != ND_HOP_LIMIT:
                return Malformed(port, f"hop limit {network.hop_limit}, not 255 (RFC 4861 7.1)")
            target = IPv6Address(message.data.dst)
            if message.type_ == icmpv6.ND_NEIGHBOR_SOLICIT:
                sender = IPv6Address(network.src)
                return NeighbourSolicited(port, mac(ether.src), sender, target)
            if message.type_ == icmpv6.ND_NEIGHBOR_ADVERT:
                to = IPv6Address(network.dst)
                return NeighbourAdvertised(port, mac(ether.src), target, to)
    return Malformed(port, "neither ARP, RARP nor neighbour discovery")


def _read_arp(port: int, ethertype: int, body: bytes) -> Report:
    if len(body) < ARP_BYTES or not body.startswith(ARP_HEADER):
        return Malformed(port, "not an ARP packet for Ethernet and IPv4")
    operation = int.from_bytes(body[6:8], "big")
    if ethertype == RARP_ETHERTYPE:
        return RarpSent(port, operation, mac(body[18:24].hex(":")))
    sender, target = IPv4Address(body[14:18]), IPv4Address(body[24:28])
    return ArpSent(port, operation, mac(body[8:14].hex(":")), sender, target)


def arp_reply(request: ArpSent, answer: Mac) -> bytes:
    """The reply to an ARP request (RFC 826)."""
    return _frame(
        ethernet.ethernet(dst=request.sender_mac, src=answer, ethertype=0x0806),
        arp.arp(
            opcode=ARP_REPLY,
            src_mac=answer,
            src_ip=str(request.target_ip),
            dst_mac=request.sender_mac,
            dst_ip=str(request.sender_ip),
        ),
    )


def rarp_reply(request: RarpSent, address: IPv4Address) -> bytes:
    """The reply to a reverse ARP request (RFC 903), to the VM that has asked.

    It names the NVE as its sender, which has no address in the virtual network: 0.0.0.0.
    """
    return _frame(
        ethernet.ethernet(dst=request.target_mac, src=NVE_MAC, ethertype=RARP_ETHERTYPE),
        arp.arp(
            opcode=RARP_REPLY,
            src_mac=NVE_MAC,
            src_ip="0.0.0.0",
            dst_mac=request.target_mac,
            dst_ip=str(address),
        ),
    )


def advertisement(solicitation: NeighbourSolicited, answer: Mac) -> bytes:
    """The neighbour advertisement that answers a solicitation (RFC 4861 section 7.2.4)."""
    in_dad = solicitation.sender.is_unspecified
    option = icmpv6.nd_option_tla(hw_src=answer)
    message = icmpv6.nd_neighbor(
        res=2 if in_dad else 6, dst=str(solicitation.target), option=option
    )
    return _frame(
        ethernet.ethernet(dst=solicitation.sender_mac, src=answer, ethertype=0x86DD),
        ipv6.ipv6(
            src=str(solicitation.target),
            dst=ALL_NODES if in_dad else str(solicitation.sender),
            nxt=58,
            hop_limit=ND_HOP_LIMIT,
        ),
        icmpv6.icmpv6(type_=icmpv6.ND_NEIGHBOR_ADVERT, data=message),
    )


def _frame(*layers: Any) -> bytes:
    built = packet.Packet()
    for layer in layers:
        built.add_protocol(layer)
    built.serialize()
    return bytes(built.data)
