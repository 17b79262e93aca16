"""Frames for `nve.pipeline.evaluator`: what a well-behaved VM sends, and how a forger changes it.

Every function takes `forged` fields that replace the honest ones.  The caller adds the port at
which a frame comes in, with `entering`.
"""

from functools import lru_cache

from nve.model import BROADCAST, IPAddress, Mac, VmSpec, Vtep
from nve.pipeline.evaluator import Frame
from nve.pipeline.rules import VXLAN_PORT, FieldValue
from nve.wire.frames import (
    ARP,
    ARP_REQUEST,
    ICMPV6,
    IPV4,
    IPV6,
    NEIGHBOUR_ADVERTISEMENT,
    RARP,
    RARP_REQUEST,
)

UDP = 17
_text = lru_cache(maxsize=1024)(str)
"""The text of an address, cached: tests make a million frames of a few VMs."""


def ipv4(sender: VmSpec, to: Mac, **forged: FieldValue) -> Frame:
    """Return an IPv4 packet to a MAC address."""
    honest: dict[str, FieldValue] = {
        "eth_type": IPV4,
        "ipv4_src": _text(sender.ipv4),
        "ip_proto": UDP,
    }
    return _frame(sender, to, honest, forged)


def ipv6(sender: VmSpec, to: Mac, **forged: FieldValue) -> Frame:
    """Return an IPv6 packet to a MAC address."""
    honest: dict[str, FieldValue] = {
        "eth_type": IPV6,
        "ipv6_src": str(sender.ipv6),
        "ip_proto": UDP,
    }
    return _frame(sender, to, honest, forged)


def arp(sender: VmSpec, target: IPAddress, **forged: FieldValue) -> Frame:
    """Return an ARP request; it is gratuitous if the target is the sender's own address."""
    honest: dict[str, FieldValue] = {
        "eth_type": ARP,
        "arp_op": ARP_REQUEST,
        "arp_sha": sender.mac,
        "arp_spa": str(sender.ipv4),
        "arp_tpa": str(target),
    }
    return _frame(sender, BROADCAST, honest, forged)


def rarp(sender: VmSpec, **forged: FieldValue) -> Frame:
    """Return a reverse ARP request for the sender's own MAC address."""
    honest: dict[str, FieldValue] = {
        "eth_type": RARP,
        "arp_op": RARP_REQUEST,
        "arp_sha": sender.mac,
        "arp_tha": sender.mac,
    }
    return _frame(sender, BROADCAST, honest, forged)


def advertisement(sender: VmSpec, **forged: FieldValue) -> Frame:
    """Return an unsolicited neighbour advertisement of the sender's own address."""
    honest: dict[str, FieldValue] = {
        "eth_type": IPV6,
        "ipv6_src": str(sender.ipv6),
        "ipv6_dst": "ff02::1",
        "ip_proto": ICMPV6,
        "icmpv6_type": NEIGHBOUR_ADVERTISEMENT,
        "ipv6_nd_target": str(sender.ipv6),
        "ipv6_nd_tll": sender.mac,
    }
    return _frame(sender, Mac("33:33:00:00:00:01"), honest, forged)


def entering(frame: Frame, port: int) -> Frame:
    """Return the frame as it comes in at a VM's port."""
    return {**frame, "in_port": port}


def encapsulated(frame: Frame, vni: int, source: Vtep) -> Frame:
    """Return the frame as it comes out of a tunnel, with the VNI and the sender that the tunnel
    names.
    """
    field = "tun_ipv4_src" if source.version == 4 else "tun_ipv6_src"
    return {**frame, "in_port": VXLAN_PORT, "tunnel_id": vni, field: _text(source)}


def _frame(
    sender: VmSpec, to: Mac, honest: dict[str, FieldValue], forged: dict[str, FieldValue]
) -> Frame:
    return {"eth_src": sender.mac, "eth_dst": to, **honest, **forged}
