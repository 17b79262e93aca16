"""Packets byte by byte, so that one can also build what no honest stack would send."""

from ipaddress import IPv6Address

from nve.model import IPAddress

ARP, RARP, IPV4, IPV6 = 0x0806, 0x8035, 0x0800, 0x86DD
"""EtherTypes."""
VXLAN_UDP_PORT = 4789


def ethernet(sender: str, to: str, ethertype: int, body: bytes) -> bytes:
    return _mac(to) + _mac(sender) + ethertype.to_bytes(2, "big") + body


def arp(operation: int, sender: tuple[str, IPAddress], target: tuple[str, IPAddress]) -> bytes:
    """The body of an ARP packet (RFC 826), or of a reverse one (RFC 903)."""
    ends = b"".join(_mac(mac) + address.packed for mac, address in (sender, target))
    return bytes.fromhex("0001 0800 06 04") + operation.to_bytes(2, "big") + ends


def ip(source: IPAddress, to: IPAddress, protocol: int, body: bytes, hop_limit: int = 64) -> bytes:
    """An IPv4 or IPv6 packet, as its addresses are."""
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
    """A datagram without a checksum, which IPv4 and VXLAN (RFC 7348) allow."""
    ports = source_port.to_bytes(2, "big") + to_port.to_bytes(2, "big")
    return ports + (8 + len(body)).to_bytes(2, "big") + bytes(2) + body


def vxlan(vni: int, frame: bytes) -> bytes:
    """RFC 7348 section 5."""
    return bytes([0x08, 0, 0, 0]) + vni.to_bytes(3, "big") + bytes(1) + frame


def icmpv6(source: IPv6Address, to: IPv6Address, kind: int, body: bytes) -> bytes:
    """A message of code 0."""
    message = bytes([kind, 0, 0, 0]) + body
    pseudo_header = (
        source.packed + to.packed + len(message).to_bytes(4, "big") + bytes([0, 0, 0, 58])
    )
    return message[:2] + checksum(pseudo_header + message) + body


def checksum(octets: bytes) -> bytes:
    """The Internet checksum (RFC 1071)."""
    even = octets + bytes(len(octets) % 2)
    total = sum(int.from_bytes(even[i : i + 2], "big") for i in range(0, len(even), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return (~total & 0xFFFF).to_bytes(2, "big")


def _mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))
