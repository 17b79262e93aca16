"""Frames to reports, and answers to frames: ARP, reverse ARP and neighbour discovery.

A frame that is not what its EtherType says becomes a `Malformed` report with the reason; nothing
that a tenant sends raises here.
"""

from ipaddress import IPv4Address, IPv6Address
from typing import Any

from controller.framework import arp, ethernet, icmpv6, ipv6, packet
from nve.messages import (
    ARP_REPLY,
    ArpSent,
    Malformed,
    Missed,
    NeighbourAdvertised,
    NeighbourSolicited,
    RarpSent,
    Report,
)
from nve.model import Mac, mac

RARP_ETHERTYPE = 0x8035
ND_HOP_LIMIT = 255
ALL_NODES = "ff02::1"


def missed(port: int, frame: bytes) -> Report:
    """A frame without an entry for its destination."""
    try:
        destination = mac(frame[:6].hex(":"))
    except ValueError as error:
        return Malformed(port, str(error))
    return Missed(port, destination, frame)


def reported(port: int, frame: bytes) -> Report:
    """What a VM behind `port` said with a frame of ARP, RARP or neighbour discovery."""
    try:
        return _read(port, frame)
    except Exception as error:  # the parsers raise whatever the bytes make them stumble over
        return Malformed(port, f"{type(error).__name__}: {error}")


def _read(port: int, frame: bytes) -> Report:
    layers: list[Any] = [
        layer for layer in packet.Packet(frame).protocols if not isinstance(layer, bytes)
    ]
    ether = layers[0]
    if ether.ethertype == RARP_ETHERTYPE:
        return _read_rarp(port, frame[14:])
    match layers[1:]:
        case [arp.arp() as said, *_]:
            return ArpSent(
                port,
                said.opcode,
                mac(said.src_mac),
                IPv4Address(said.src_ip),
                IPv4Address(said.dst_ip),
            )
        case [ipv6.ipv6() as network, icmpv6.icmpv6() as message, *_]:
            if network.hop_limit != ND_HOP_LIMIT:
                return Malformed(port, f"hop limit {network.hop_limit}, not 255 (RFC 4861 7.1)")
            target = IPv6Address(message.data.dst)
            if message.type_ == icmpv6.ND_NEIGHBOR_SOLICIT:
                sender = IPv6Address(network.src)
                return NeighbourSolicited(port, mac(ether.src), sender, target)
            if message.type_ == icmpv6.ND_NEIGHBOR_ADVERT:
                return NeighbourAdvertised(port, mac(ether.src), target)
    return Malformed(port, "neither ARP, RARP nor neighbour discovery")


def _read_rarp(port: int, body: bytes) -> Report:
    """RFC 903: the layout of ARP, with operations 3 and 4."""
    if len(body) < 28 or body[:6] != bytes.fromhex("000108000604"):
        return Malformed(port, "not a reverse ARP packet for Ethernet and IPv4")
    return RarpSent(port, int.from_bytes(body[6:8], "big"), mac(body[18:24].hex(":")))


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
