"""What an NVE answers as the router of its VMs, at layer 3 (see `nve.pipeline.routed`).

It answers ARP requests and neighbour solicitations for its own two addresses only, echo requests to
them, and packets whose TTL or hop limit has run out (RFC 792, RFC 4443 section 3.3).
"""

from typing import Final

from controller.core.path_mtu import (
    ICMP_OCTETS,
    IPV4_QUOTED_OCTETS,
    answerable_ipv4,
    answerable_ipv6,
)
from nve.messages import AnswerArp, AnswerSolicitation, ArpSent, NeighbourSolicited, Report
from nve.model import GATEWAY_IPV4, GATEWAY_IPV6, NVE_MAC, Mac
from nve.pipeline.mtu_check import QUOTED_OCTETS
from nve.pipeline.state import Association
from nve.wire import frames
from nve.wire.frames import (
    ARP_REQUEST,
    ETHERNET_OCTETS,
    ICMP,
    ICMPV6,
    IPV4,
    IPV6,
    IPV6_OCTETS,
)

ADDRESSES: Final = frozenset({GATEWAY_IPV4, GATEWAY_IPV6})
ECHO_REQUEST, ECHO_REPLY, TIME_EXCEEDED = 8, 0, 11
ECHO_REQUEST_V6, ECHO_REPLY_V6, TIME_EXCEEDED_V6 = 128, 129, 3


def answer(nve: str, port: Association, asked: Report) -> AnswerArp | AnswerSolicitation | None:
    """Answer a VM that asks for its gateway from its own address; return None for any other
    question.
    """
    match asked:
        case ArpSent(operation=operation, sender_mac=mac, sender_ip=sender, target_ip=target):
            own = sender in port.addresses or sender.is_unspecified
            if own and (operation, mac, target) == (ARP_REQUEST, port.system.mac, GATEWAY_IPV4):
                return AnswerArp(nve, asked, NVE_MAC)
        case NeighbourSolicited(sender_mac=mac, sender=sender_ip, target=to):
            if sender_ip in port.addresses and (mac, to) == (port.system.mac, GATEWAY_IPV6):
                return AnswerSolicitation(nve, asked, NVE_MAC)
    return None


def time_exceeded(frame: bytes, to: Mac) -> bytes | None:
    """Return the frame that tells a packet's sender of its expiry, or None if no answer is
    allowed.
    """
    packet = frame[ETHERNET_OCTETS:]
    if frames.ethertype(frame) == IPV4 and answerable_ipv4(packet):
        quoted = bytes(4) + packet[:IPV4_QUOTED_OCTETS]
        return _ipv4(frame, to, _icmp(TIME_EXCEEDED, quoted))
    if frames.ethertype(frame) == IPV6 and answerable_ipv6(packet):
        return _ipv6(frame, to, TIME_EXCEEDED_V6, bytes(4) + packet[:QUOTED_OCTETS])
    return None


def echo_reply(frame: bytes, to: Mac) -> bytes | None:
    """Return the answer to an echo request to the gateway itself, or None for anything else."""
    packet = frame[ETHERNET_OCTETS:]
    if frames.ethertype(frame) == IPV4:
        octets = int.from_bytes(packet[2:4], "big")
        message = packet[:octets][(packet[0] & 0xF) * 4 :]
        if packet[9] == ICMP and len(message) >= ICMP_OCTETS and message[0] == ECHO_REQUEST:
            return _ipv4(frame, to, _icmp(ECHO_REPLY, message[4:]))
        return None
    octets = int.from_bytes(packet[4:6], "big")
    message = packet[IPV6_OCTETS:][:octets]
    if packet[6] == ICMPV6 and len(message) >= ICMP_OCTETS and message[0] == ECHO_REQUEST_V6:
        return _ipv6(frame, to, ECHO_REPLY_V6, message[4:])
    return None


def _icmp(kind: int, rest: bytes) -> bytes:
    start = bytes([kind, 0])
    return start + frames.checksum(start + bytes(2) + rest) + rest


def _ipv4(frame: bytes, to: Mac, message: bytes) -> bytes:
    packet = frames.ip(GATEWAY_IPV4, frames.source(frame), ICMP, message)
    return frames.ethernet(NVE_MAC, to, IPV4, packet)


def _ipv6(frame: bytes, to: Mac, kind: int, body: bytes) -> bytes:
    source = frames.source(frame)
    assert source.version == 6, source
    message = frames.icmpv6(GATEWAY_IPV6, source, kind, body)
    return frames.ethernet(NVE_MAC, to, IPV6, frames.ip(GATEWAY_IPV6, source, ICMPV6, message))
