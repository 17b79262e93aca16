"""Converts frames to reports, and answers to frames: ARP, reverse ARP and neighbour discovery.

A frame that does not hold what its EtherType says becomes a `Malformed` report with the reason;
nothing that a tenant sends raises an exception here.
"""

from ipaddress import IPv4Address

from nve.messages import (
    ArpSent,
    Expired,
    Malformed,
    Missed,
    NeighbourAdvertised,
    NeighbourSolicited,
    RarpSent,
    Report,
    RouterError,
    Signalled,
    Unrouted,
)
from nve.model import NVE_MAC, Mac, mac
from nve.wire import end_marker, frames, icmpv6_error


def missed(port: int, frame: bytes) -> Report:
    """Return the report of a frame without an entry for its destination."""
    try:
        destination = mac(frame[:6].hex(":"))
    except ValueError as error:
        return Malformed(port, str(error))
    return Missed(port, destination, frame)


def unrouted(port: int, frame: bytes) -> Report:
    """Return the report of a packet without a host route to its destination, or with its last
    TTL.
    """
    try:
        if frames.ttl(frame) <= 1:
            return Expired(port, frame)
        return Unrouted(port, frames.destination(frame), frame)
    except ValueError as error:
        return Malformed(port, str(error))


def router_error(port: int, frame: bytes) -> Report:
    """Return the report of an ICMPv6 error that a router of the underlay sent."""
    try:
        return RouterError(port, icmpv6_error.read(frame))
    except ValueError as error:
        return Malformed(port, str(error))


def signalled(port: int, frame: bytes) -> Report:
    """Return the report of a signal that an NVE's agent sent."""
    try:
        return Signalled(port, end_marker.read(frame))
    except end_marker.NotASignal as error:
        return Malformed(port, str(error))


def reported(port: int, frame: bytes) -> Report:
    """Return the report of a frame of ARP, RARP or neighbour discovery from the VM behind
    `port`.
    """
    try:
        return _read(port, frame)
    except ValueError as error:
        return Malformed(port, str(error))


def _read(port: int, frame: bytes) -> Report:
    match frames.ethertype(frame):
        case frames.ARP:
            arp = frames.read_arp(frame)
            return ArpSent(port, arp.operation, arp.sender_mac, arp.sender_ip, arp.target_ip)
        case frames.RARP:
            arp = frames.read_arp(frame)
            return RarpSent(port, arp.operation, mac(arp.target_mac.hex(":")))
        case frames.IPV6:
            said, sender = frames.read_neighbour_message(frame), frames.source_mac(frame)
            if said.kind == frames.NEIGHBOUR_SOLICITATION:
                return NeighbourSolicited(port, sender, said.source, said.target)
            return NeighbourAdvertised(port, sender, said.target, said.to)
    raise frames.NotWellFormed("neither ARP, RARP nor neighbour discovery")


def arp_reply(request: ArpSent, answer: Mac) -> bytes:
    """Return the reply to an ARP request (RFC 826)."""
    asker = (request.sender_mac, request.sender_ip)
    body = frames.arp(frames.ARP_REPLY, (answer, request.target_ip), asker)
    return _padded(frames.ethernet(answer, request.sender_mac, frames.ARP, body))


def rarp_reply(request: RarpSent, address: IPv4Address) -> bytes:
    """Return the reply to a reverse ARP request (RFC 903), addressed to the VM that has asked.

    Its sender is the NVE, which has no address in the virtual network: 0.0.0.0.
    """
    asker = (request.target_mac, address)
    body = frames.arp(frames.RARP_REPLY, (NVE_MAC, IPv4Address(0)), asker)
    return _padded(frames.ethernet(NVE_MAC, request.target_mac, frames.RARP, body))


def advertisement(solicitation: NeighbourSolicited, answer: Mac) -> bytes:
    """Return the neighbour advertisement that answers a solicitation (RFC 4861 section 7.2.4).

    It goes to the host that asks for a neighbour.  If a host probes an address before using it (RFC
    4862 section 5.4), it has no address to answer to yet: the advertisement goes to all nodes, and
    is not marked as solicited.
    """
    owner = (answer, solicitation.target)
    if solicitation.sender.is_unspecified:
        return frames.advertisement(owner, frames.ALL_NODES, solicited=False)
    asker = solicitation.sender, solicitation.sender_mac
    return frames.advertisement(owner, *asker, solicited=True, router=answer == NVE_MAC)


def _padded(frame: bytes) -> bytes:
    return frame.ljust(frames.SHORTEST, b"\0")
