"""Path MTU discovery: what a host is told when its packet is too big for a tunnel.

An NVE reports such a frame (see `nve.pipeline.mtu_check`), and the NVA answers in its name (RFC
1191, RFC 8201):

    IPv4   destination unreachable, fragmentation needed, with the next hop's MTU (RFC 1191
           section 4), quoting the packet up to 576 octets in all (RFC 1812 section 4.3.2.3)
    IPv6   packet too big (RFC 4443 section 3.2), quoting up to the least IPv6 MTU

The sender of the answer is the NVE, which has a MAC address in every virtual network and thereby an
IPv6 link-local address, but no IPv4 address: it uses the one reserved for this purpose (192.0.0.8,
RFC 7600 section 4.8).  No tenant can have either.

IPv4 packets that may be fragmented are answered all the same: an NVE fragments nothing (RFC 7348
section 4.3), and a host that learns the MTU fragments its packets itself.

Some packets may not be answered (RFC 1122 section 3.2.2, RFC 4443 section 2.4 (e)): an ICMP error,
any fragment but the first, and packets that come from no single host or go to a group.  Other
protocols are not answered either.
"""

import struct
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address

from controller.core.desired_state import DesiredState
from controller.core.directory import Directory
from nve.messages import Emit, Malformed, Missed, TooBig
from nve.model import NVE_MAC, IPAddress, Mac, TenantSystem, Vni, link_local, mac
from nve.pipeline.mtu_check import ETHERNET_OCTETS, QUOTED_OCTETS
from nve.pipeline.rules import VXLAN_PORT, Output
from nve.wire import frames
from nve.wire.frames import (
    ICMP,
    ICMPV6,
    IPV4,
    IPV4_OCTETS,
    IPV6,
    IPV6_OCTETS,
    PACKET_TOO_BIG,
)

IPV4_SENDER = IPv4Address("192.0.0.8")
IPV6_SENDER = link_local(NVE_MAC)
ICMP_ERRORS = frozenset({3, 4, 5, 11, 12})
"""Types of ICMP messages that report an error (RFC 1122 section 3.2.2)."""
ICMPV6_INFORMATIONAL = 128
"""Types of ICMPv6 messages below this one report an error (RFC 4443 section 2.1)."""
UNREACHABLE, FRAGMENTATION_NEEDED = 3, 4
ICMP_OCTETS = 8
IPV4_QUOTED_OCTETS = 576 - IPV4_OCTETS - ICMP_OCTETS


def reported(port: int, vni: Vni, length: int, frame: bytes) -> TooBig | Malformed:
    """Return the report of a frame of `length` octets; `frame` is its beginning."""
    try:
        sender = mac(frame[6:12].hex(":"))
    except ValueError as error:
        return Malformed(port, str(error))
    return TooBig(port, vni, sender, Mac(frame[:6].hex(":")), length, frame)


def too_big(sender: TenantSystem, miss: Missed, mtu: int | None) -> TooBig | None:
    """Return a report if a frame that found no entry does not fit the tunnel it now has to take."""
    length = len(miss.frame)
    if mtu is None or length - ETHERNET_OCTETS <= mtu:
        return None
    return TooBig(miss.port, sender.vni, sender.mac, miss.destination, length, miss.frame)


def decide(
    nve: str, report: TooBig, desired: DesiredState, directory: Directory
) -> tuple[int | None, Emit | None]:
    """Return the MTU of the tunnel that was too narrow, and the answer to the packet's sender.

    The answer starts at the NVE that reported.  If the sender is behind another NVE, as for packets
    in flight, it goes through the overlay.  The MTU is None if the entry that led into the tunnel
    has gone since; the sender will try again.
    """
    destination = TenantSystem(report.vni, report.destination)
    mtu = desired.tunnel_mtu(nve, destination, in_flight=report.port == VXLAN_PORT)
    sender = directory.find(TenantSystem(report.vni, report.sender))
    frame = answer(report, mtu) if mtu and sender else None
    if frame is None or sender is None:
        return mtu, None
    state = desired.state(nve)
    here = state.associations.get(sender.system)
    way = Output(here.port) if here and nve in sender.nves else None
    return mtu, Emit(nve, way or state.way(report.vni, desired.vteps[sender.nve]), frame)


def of_its_sender(report: TooBig, directory: Directory) -> TooBig:
    """Return the report with its VM's MAC address, which for a routed packet only the packet
    reveals.
    """
    if report.sender != NVE_MAC:
        return report
    try:
        found = directory.find_address(report.vni, frames.source(report.frame))
    except ValueError:
        found = None
    return replace(report, sender=found.system.mac) if found else report


def answer(report: TooBig, mtu: int) -> bytes | None:
    """Return the frame that tells the sender the tunnel's MTU, or None if no answer is allowed."""
    ethertype = int.from_bytes(report.frame[12:ETHERNET_OCTETS], "big")
    packet = report.frame[ETHERNET_OCTETS:]
    if ethertype == IPV4 and answerable_ipv4(packet):
        body = _ipv4_answer(packet, mtu)
    elif ethertype == IPV6 and answerable_ipv6(packet):
        body = _ipv6_answer(packet, mtu)
    else:
        return None
    return frames.ethernet(NVE_MAC, report.sender, ethertype, body)


def answerable_ipv4(packet: bytes) -> bool:
    header_octets = (packet[0] & 0xF) * 4 if packet else 0
    if header_octets < IPV4_OCTETS or len(packet) < header_octets + ICMP_OCTETS:
        return False
    fragment = int.from_bytes(packet[6:8], "big") & 0x1FFF
    is_error = packet[9] == ICMP and packet[header_octets] in ICMP_ERRORS
    ends = IPv4Address(packet[12:16]), IPv4Address(packet[16:20])
    return not fragment and not is_error and all(map(_one_host, ends))


def answerable_ipv6(packet: bytes) -> bool:
    if len(packet) < IPV6_OCTETS + ICMP_OCTETS:
        return False
    is_error = packet[6] == ICMPV6 and packet[IPV6_OCTETS] < ICMPV6_INFORMATIONAL
    ends = IPv6Address(packet[8:24]), IPv6Address(packet[24:40])
    return not is_error and all(map(_one_host, ends))


def _one_host(address: IPAddress) -> bool:
    everybody = IPv4Address("255.255.255.255")
    return not (
        address.is_multicast
        or address.is_unspecified
        or address.is_loopback
        or address == everybody
    )


def _ipv4_answer(packet: bytes, mtu: int) -> bytes:
    start = bytes([UNREACHABLE, FRAGMENTATION_NEEDED])
    rest = struct.pack("!HH", 0, mtu) + packet[:IPV4_QUOTED_OCTETS]
    message = start + frames.checksum(start + bytes(2) + rest) + rest
    return frames.ip(IPV4_SENDER, IPv4Address(packet[12:16]), ICMP, message)


def _ipv6_answer(packet: bytes, mtu: int) -> bytes:
    to = IPv6Address(packet[8:24])
    body = struct.pack("!I", mtu) + packet[:QUOTED_OCTETS]
    return frames.ip(IPV6_SENDER, to, ICMPV6, frames.icmpv6(IPV6_SENDER, to, PACKET_TOO_BIG, body))
