"""ICMPv6 errors (RFC 4443): reads them, and translates an address in the packet that they quote.

octets of the message   0 type   1 code   2-3 checksum   4-7 MTU, pointer or unused
                        8-       the packet that could not be forwarded, as far as it fits
"""

import struct
from dataclasses import dataclass
from ipaddress import IPv6Address
from typing import Final

from nve import ila
from nve.wire.frames import (
    ETHERNET_OCTETS,
    ICMPV6,
    IPV6,
    IPV6_OCTETS,
    PACKET_TOO_BIG,
    UDP,
    NotWellFormed,
    ethertype,
    icmpv6,
)
from nve.wire.segments import TCP

ICMPV6_ERRORS: Final = {
    1: "destination-unreachable",
    PACKET_TOO_BIG: "packet-too-big",
    3: "time-exceeded",
    4: "parameter-problem",
}
"""Their types (RFC 4443 section 3)."""
LEAST_MTU: Final = 1280
"""The least MTU of IPv6 (RFC 8200 section 5); no error is longer (RFC 4443 section 2.4 (c))."""
LONGEST_ERROR: Final = ETHERNET_OCTETS + LEAST_MTU
"""In octets, with its Ethernet header."""
_HEADER_OCTETS: Final = 8
_HOP_BY_HOP, _FRAGMENT, _DESTINATION_OPTIONS = 0, 44, 60
"""Extension headers of IPv6 (RFC 8200 section 4)."""
_CHECKSUM_AT: Final = {TCP: 16, UDP: 6, ICMPV6: 2}
"""The place of the checksum in each protocol's header."""


@dataclass(frozen=True)
class Icmpv6Error:
    """An ICMPv6 error from `source` to `to`, and the ends of the packet that it quotes."""

    kind: int
    source: IPv6Address
    to: IPv6Address
    mtu: int | None
    """The MTU of the next link in a packet too big message; None in others."""
    quoted_source: IPv6Address
    quoted_destination: IPv6Address
    packet: bytes
    """The error, from its IPv6 header on."""

    @property
    def name(self) -> str:
        return ICMPV6_ERRORS[self.kind]


def read(frame: bytes) -> Icmpv6Error:
    """Return the ICMPv6 error in a frame.

    Raises NotWellFormed if it holds none, or one that a receiver must not accept.
    """
    if ethertype(frame) != IPV6 or len(frame) < ETHERNET_OCTETS + IPV6_OCTETS:
        raise NotWellFormed("not an IPv6 packet")
    octets = IPV6_OCTETS + int.from_bytes(frame[ETHERNET_OCTETS + 4 : ETHERNET_OCTETS + 6], "big")
    packet = frame[ETHERNET_OCTETS:][:octets]
    message, quoted = packet[IPV6_OCTETS:], packet[IPV6_OCTETS + _HEADER_OCTETS :]
    if len(packet) < octets or octets > LEAST_MTU:
        raise NotWellFormed(f"{len(packet)} octets of an ICMPv6 error, and not {octets}")
    if packet[0] >> 4 != 6 or packet[6] != ICMPV6 or len(quoted) < IPV6_OCTETS:
        raise NotWellFormed("not an ICMPv6 error: no IPv6 header is quoted behind its own")
    kind, code, _, value = struct.unpack_from("!BBHI", message)
    source, to = IPv6Address(packet[8:24]), IPv6Address(packet[24:40])
    if kind not in ICMPV6_ERRORS or quoted[0] >> 4 != 6:
        raise NotWellFormed(f"not an error about an IPv6 packet: ICMPv6 type {kind}")
    if icmpv6(source, to, kind, message[4:], code) != message:
        raise NotWellFormed("an ICMPv6 error with a wrong checksum")
    return Icmpv6Error(
        kind,
        source,
        to,
        value if kind == PACKET_TOO_BIG else None,
        IPv6Address(quoted[8:24]),
        IPv6Address(quoted[24:40]),
        packet,
    )


def with_quoted_destination(error: Icmpv6Error, destination: IPv6Address) -> bytes:
    """Return the error's packet with another destination of the packet that it quotes.

    Its checksum and that of the quoted packet are put right; the latter stays as it is where the
    sums of both destinations are equal (`nve.ila`).
    """
    header, message = error.packet[:IPV6_OCTETS], error.packet[IPV6_OCTETS:]
    quoted = bytearray(message[_HEADER_OCTETS:])
    quoted[24:40] = destination.packed
    if place := _checksum_of(quoted):
        before = int.from_bytes(quoted[place], "big")
        after = ila.corrected(before, error.quoted_destination, destination) or 0xFFFF
        quoted[place] = after.to_bytes(2, "big")
    body = message[4:_HEADER_OCTETS] + bytes(quoted)
    return header + icmpv6(error.source, error.to, error.kind, body, message[1])


def _checksum_of(packet: bytearray) -> slice | None:
    """Return where the packet has the checksum of TCP, UDP or ICMPv6, or None if it has none.

    A fragment other than the first has none, nor has a UDP datagram with a zero there (RFC 768).
    """
    protocol, at = packet[6], IPV6_OCTETS
    while protocol in (_HOP_BY_HOP, _FRAGMENT, _DESTINATION_OPTIONS) and len(packet) >= at + 8:
        if protocol == _FRAGMENT and int.from_bytes(packet[at + 2 : at + 4], "big") >> 3:
            return None
        octets = 8 if protocol == _FRAGMENT else 8 * (packet[at + 1] + 1)
        protocol, at = packet[at], at + octets
    if protocol not in _CHECKSUM_AT:
        return None
    place = slice(at + _CHECKSUM_AT[protocol], at + _CHECKSUM_AT[protocol] + 2)
    lacks_it = len(packet) < place.stop or (protocol == UDP and not any(packet[place]))
    return None if lacks_it else place
