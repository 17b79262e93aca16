"""End markers: how an NVE knows that nothing more comes on the old path of a move.

While a VM's correspondents learn its new place, packets to it take two paths: the old one, by way
of the source NVE, and the new one.  The new one may be shorter, so that packets would overtake
those still on the old one.  Cellular handovers solve this with an end marker (3GPP TS 23.401,
5.5.1.1.2), and so does this project; nothing of it is in the draft:

* An *ingress NVE* is an NVE whose path to the VM changes.  Once its switch treats every packet by
  its new entry, it sends an end marker on the **old** path, behind the last packet that went there.
* The destination holds what comes on the new path until the markers of all ingress NVEs have come
  out of the old one, or a time-out has passed (see `nve.hypervisor.reorder_buffer`).

The NVA directs this (`controller.core.handover`) and talks to an agent at each NVE
(`nve.ovs.agent`).  Orders reach the agent as packet-outs on a port of its own, `AGENT_PORT`; the
agent's messages enter the switch by that port and are reported.  Both, and the markers themselves,
are frames of the EtherType for local experiments (IEEE 802, clause 9) with one layout:

    version | kind | copy | handover | VNI | MAC | number of NVEs | ingress NVEs, eight octets each

A marker is addressed to the VM like the packets it follows, so that it shares their fate on the
way.  There is one exception: a userspace switch takes in up to 32 packets at once, deals first with
those that are not in its cache, and with the others flow by flow.  So a marker may leave a switch
before packets that it follows, but only before those that were taken in with it, and they leave
right behind it.  Therefore the destination, when the markers are there, lets its own switch deal
with what has come by then (`nve.ovs.bridge`), before it delivers what it holds.  An ingress NVE
sends `COPIES`, so that some may be lost, and `NEEDED` of them have to come.

The last packets from the VM itself need a marker as well (`nve.ovs.last_packets`).  When the VM is
suspended, its hypervisor has the agent of the source NVE send this marker to all NVEs of the
network.  Its address says where the VM goes to (`last_address`).  Each switch sends it on to the
destination, with an address that says which NVE it has passed (`passed_address`).  No agent but the
destination's hears of it.

A tenant may use the EtherType as well but cannot forge a signal: a signal is recognised by its
source, an agent's MAC address, from which no VM's port may send (R9.4).
"""

import enum
import struct
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b

from nve.model import NAME, Mac, TenantSystem, Vni, Vtep, mac, vni
from nve.wire import frames

ETHERTYPE = frames.EXPERIMENTAL
VERSION = 1
REMEMBERED = 4096
"""The number of NVEs whose addresses are cached."""
COPIES, NEEDED = 8, 5
"""How many copies of a marker are sent, numbered from 0, and how many of them have to come; of LAST
markers, one.
"""
LAST_ADDRESSES = "07:00:00:00:00:00/ff:00:00:00:00:00"
"""The destinations of markers behind a VM's last packets, which are for all NVEs of its network."""
NOBODY = Mac("06:00:00:00:00:00")
"""The destination of frames between an agent and the NVA: no VM has this address."""

_FIXED = struct.Struct("!BBHII6sH")
VERSION_AT, KIND_AT = frames.ETHERNET_OCTETS, frames.ETHERNET_OCTETS + 1
"""Where a signal's frame has these octets."""
_INGRESS_NVE = struct.Struct("!8s")


class NotASignal(ValueError):
    """The frame is no signal of an agent."""


class MarkerKind(enum.IntEnum):
    """The kind of a signal."""

    MARKER = 1
    """Ingress NVE to destination, on the old path: the last packet from here has passed."""
    SEND_MARKER = 2
    """NVA to an ingress NVE: send the marker once the switch follows its new entry."""
    EXPECT_MARKERS = 3
    """NVA to the destination: hold what comes on new paths until the markers of these ingress
    NVEs have come."""
    EXPECTING = 4
    """Destination to NVA: holding has begun."""
    RELEASED = 5
    """Destination to NVA: holding has ended; the ingress NVEs are those whose marker did not
    come."""
    LAST = 6
    """Source to all NVEs, on the paths of the VM's packets, and from each of them to the
    destination: the VM's last packet from the source has passed."""
    FOLLOW = 8
    """NVA to the source: make the switch follow the rules that redirect the VM's packets.  Names
    the NVEs that the VM may have sent packets to."""


TO_NVA = frozenset({MarkerKind.EXPECTING, MarkerKind.RELEASED})
"""The kinds that agents send to the NVA; the others are for agents."""


@dataclass(frozen=True)
class Signal:
    """One signal; `handover` numbers the handover it belongs to, `copy` the copies of a marker."""

    kind: MarkerKind
    handover: int
    system: TenantSystem
    ingress_nves: tuple[str, ...] = ()
    copy: int = 0


AGENTS = "06:00:00:00:00:00/ff:ff:ff:00:00:00"
"""The addresses of all agents; no VM has one of them."""


def agent_mac(of: Vni) -> Mac:
    """Return the source address of an agent's frames in a virtual network."""
    return Mac("06:00:00:" + of.to_bytes(3, "big").hex(":"))


@lru_cache(REMEMBERED)
def last_address(destination: Vtep) -> Mac:
    """Return the address of the marker behind the last packets of a VM that goes to an NVE.

    Two NVEs of a data centre have different ones: a digest of the VTEP address is in it.
    """
    return Mac(f"07:{_digest(destination)}")


@lru_cache(REMEMBERED)
def passed_address(nve: Vtep) -> Mac:
    """Return the address of such a marker that has passed an NVE."""
    return Mac(f"0f:{_digest(nve)}")


def _digest(vtep: Vtep) -> str:
    return blake2b(vtep.packed, digest_size=5).digest().hex(":")


def frame(signal: Signal, to: Mac | None = None) -> bytes:
    """Return a signal as an Ethernet frame, to an address if it is none of the usual ones."""
    destination = to or (signal.system.mac if signal.kind is MarkerKind.MARKER else NOBODY)
    fixed = _FIXED.pack(
        VERSION,
        signal.kind,
        signal.copy,
        signal.handover,
        signal.system.vni,
        _octets(signal.system.mac),
        len(signal.ingress_nves),
    )
    ingress_nves = b"".join(
        _INGRESS_NVE.pack(ingress_nve.encode()) for ingress_nve in signal.ingress_nves
    )
    agent = agent_mac(signal.system.vni)
    whole = frames.ethernet(agent, destination, ETHERTYPE, fixed + ingress_nves)
    return whole.ljust(frames.SHORTEST, b"\0")


def read(octets: bytes) -> Signal:
    """Return the signal in a frame.  Raises NotASignal."""
    try:
        return _read(octets)
    except (struct.error, ValueError) as error:
        raise NotASignal(str(error)) from None


def _read(octets: bytes) -> Signal:
    ethertype, begin = frames.ethertype(octets), frames.ETHERNET_OCTETS
    version, kind, copy, handover, network, address, count = _FIXED.unpack_from(octets, begin)
    if ethertype != ETHERTYPE or version != VERSION:
        raise ValueError(f"EtherType {ethertype:#06x}, version {version}: not a signal of ours")
    begin += _FIXED.size
    names = [
        _INGRESS_NVE.unpack_from(octets, begin + number * _INGRESS_NVE.size)[0]
        for number in range(count)
    ]
    ingress_nves = tuple(name.rstrip(b"\0").decode("ascii") for name in names)
    if not all(NAME.fullmatch(ingress_nve) for ingress_nve in ingress_nves):
        raise ValueError(f"no NVE can have such a name: {', '.join(map(repr, ingress_nves))}")
    system = TenantSystem(vni(network), mac(address.hex(":")))
    if frames.source_mac(octets) != agent_mac(system.vni):
        raise ValueError(f"{frames.source_mac(octets)} is no agent of VNI {system.vni}")
    return Signal(MarkerKind(kind), handover, system, ingress_nves, copy)


def _octets(address: str) -> bytes:
    return bytes.fromhex(address.replace(":", ""))
