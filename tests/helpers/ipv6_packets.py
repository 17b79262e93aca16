"""IPv6 packets as octets, as they were captured."""

from nve.wire import frames

HOP_LIMIT = 7
"""Its place in an IPv6 header."""


def without_hop_limit(packet: bytes) -> bytes:
    """All that a router leaves as it is."""
    return packet[:HOP_LIMIT] + packet[HOP_LIMIT + 1 :]


def right_checksum(packet: bytes) -> bool:
    """Of TCP, UDP or ICMPv6, whose sum with that of the pseudo header is zero (RFC 8200 8.1)."""
    body = packet[40:]
    pseudo = packet[8:40] + len(body).to_bytes(4, "big") + packet[6:7].rjust(4, b"\0")
    return frames.checksum(pseudo + body) == b"\0\0"
