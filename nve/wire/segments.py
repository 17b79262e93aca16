"""Reads TCP segments (RFC 9293) from Ethernet frames, and builds bare ones.

Reading is lenient: a frame without a complete TCP header holds no segment.  Neither does a
fragment, as its receiver cannot assign it to ports.
"""

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from nve.model import IPAddress
from nve.wire.frames import ETHERNET_OCTETS, IPV4, IPV6, IPV6_OCTETS, checksum, ip

TCP: Final = 6
FIN, SYN, RST, ACK = 0x01, 0x02, 0x04, 0x10
_HEADER: Final = struct.Struct("!HHIIBBHHH")


@dataclass(frozen=True)
class TcpSegment:
    """The header of a segment, with its addresses."""

    source: IPAddress
    to: IPAddress
    source_port: int
    to_port: int
    flags: int

    @property
    def opens(self) -> bool:
        """Whether it asks for a new connection."""
        return self.flags & (SYN | ACK | RST | FIN) == SYN


def read_segment(frame: bytes) -> TcpSegment | None:
    """Return the segment in a frame, or None if it holds none."""
    ethertype = int.from_bytes(frame[12:ETHERNET_OCTETS], "big")
    packet = frame[ETHERNET_OCTETS:]
    source: IPAddress
    to: IPAddress
    if ethertype == IPV4 and len(packet) >= 20 and packet[9] == TCP:
        if int.from_bytes(packet[6:8], "big") & 0x3FFF:
            return None
        source, to = IPv4Address(packet[12:16]), IPv4Address(packet[16:20])
        body = packet[4 * (packet[0] & 15) :]
    elif ethertype == IPV6 and len(packet) >= IPV6_OCTETS and packet[6] == TCP:
        source, to = IPv6Address(packet[8:24]), IPv6Address(packet[24:40])
        body = packet[IPV6_OCTETS:]
    else:
        return None
    if len(body) < _HEADER.size:
        return None
    source_port, to_port, *_, flags, _, _, _ = _HEADER.unpack_from(body)
    return TcpSegment(source, to, source_port, to_port, flags)


def segment(
    source: tuple[IPAddress, int],
    to: tuple[IPAddress, int],
    seq: int,
    ack: int,
    flags: int,
    data: bytes = b"",
) -> bytes:
    """Return an IP packet with a segment that has no options and a window of 0."""
    ports = (source[1], to[1])
    header = _HEADER.pack(*ports, seq & 0xFFFFFFFF, ack & 0xFFFFFFFF, 5 << 4, flags, 0, 0, 0)
    ends = source[0].packed + to[0].packed
    whole = header + data
    pseudo_header = ends + len(whole).to_bytes(4, "big") + bytes([0, 0, 0, TCP])
    summed = whole[:16] + checksum(pseudo_header + whole) + whole[18:]
    return ip(source[0], to[0], TCP, summed)
