"""End markers: how one knows that nothing more comes on the old path of a move.

While a VM's correspondents learn its new place, packets to it take two paths: the old one, by way
of the source NVE, and the new one.  The new one may be shorter, and packets would overtake those
still on the old one.  Cellular handovers solve this with an end marker (3GPP TS 23.401, 5.5.1.1.2),
and so do we; nothing of it is in the draft:

* An *ingress NVE* is an NVE whose path to the VM changes.  Once its switch treats every packet by
  its new entry, it sends an end marker on the **old** path, behind the last packet that went there.
* The destination holds what comes on the new path until the markers of all ingress NVEs have come
  out of the old one, or a time-out has passed (see `nve.hypervisor.reorder_buffer`).

The NVA leads it (`controller.core.handover`) and talks to an agent at each NVE (`nve.ovs.agent`).
Orders reach the agent as packet-outs on a port of its own, `AGENT_PORT`; what it has to say leaves
by that port and is reported.  Both, and the markers themselves, are frames of the EtherType for
local experiments (IEEE 802, clause 9) with one layout:

    version | kind | copy | handover | VNI | MAC | number of NVEs | ingress NVEs, eight octets each

A marker is addressed to the VM like the packets it follows: whatever happens to them on their way
happens to it.  With one exception: a userspace switch handles a packet that its cache does not know
before the known ones that came with it, so a marker that it does not know may overtake what it
follows.  Then it is known, until the switch empties its cache, which it does at most once meanwhile
(it may be an ingress NVE itself).  On a way by two switches, the source's and the destination's, no
more than four copies of a marker overtake; when `NEEDED` have come, one of them was in its place.
An ingress NVE sends `COPIES`, so that several may be lost.

What the VM itself has sent last needs a marker as well (`nve.ovs.last_packets`).  When the VM
stands still, its hypervisor has the agent of the source NVE send it to `EVERYBODY`.  It names the
source and the destination.  The agents that it comes to tell the destination's: a datagram on the
underlay, whose content is a frame of the same layout.

A tenant may use the EtherType as well, and cannot forge a signal: that is one by its source, an
agent's MAC address, which no port of a VM may send from (R9.4).
"""

import enum
import struct
from dataclasses import dataclass

from nve.model import NAME, Mac, TenantSystem, Vni, mac, vni
from nve.wire import frames

ETHERTYPE = frames.EXPERIMENTAL
VERSION = 1
COPIES, NEEDED = 8, 5
"""How many copies there are of a marker, numbered from 0, and how many of them have to come."""
EVERYBODY = Mac("07:00:00:00:00:00")
"""The destination of markers for all NVEs of a virtual network."""
NOBODY = Mac("06:00:00:00:00:00")
"""The destination of frames between an agent and the NVA: no VM has this address."""

_FIXED = struct.Struct("!BBHII6sH")
_INGRESS_NVE = struct.Struct("!8s")


class NotASignal(ValueError):
    """The frame is no signal of an agent."""


class MarkerKind(enum.IntEnum):
    """What a signal says."""

    MARKER = 1
    """Edge to destination, on the old path: nothing of mine comes after this."""
    SEND_MARKER = 2
    """NVA to an ingress NVE: when your switch follows its new entry, send your marker."""
    EXPECT_MARKERS = 3
    """NVA to the destination: hold what comes on new paths until these ingress NVEs' markers
    came."""
    EXPECTING = 4
    """Destination to NVA: from now on I hold."""
    RELEASED = 5
    """Destination to NVA: I hold no longer; the ingress NVEs are those whose marker did not
    come."""
    LAST = 6
    """Source to all NVEs, on the paths of the VM's packets: nothing from there comes after this."""
    ARRIVED = 7
    """An NVE to the destination, on the underlay: that marker has come to me."""
    FOLLOW = 8
    """NVA to the source: have your switch follow the rules that redirect the VM's packets."""


TO_NVA = frozenset({MarkerKind.EXPECTING, MarkerKind.RELEASED})
"""What agents say to the NVA; the rest is for agents."""


@dataclass(frozen=True)
class Signal:
    """One message.  `handover` numbers what belongs together, `copy` the copies of a marker."""

    kind: MarkerKind
    handover: int
    system: TenantSystem
    ingress_nves: tuple[str, ...] = ()
    copy: int = 0


AGENTS = "06:00:00:00:00:00/ff:ff:ff:00:00:00"
"""The addresses of all agents; no VM has one of them."""


def agent_mac(of: Vni) -> Mac:
    """The source address of what an agent sends in a virtual network."""
    return Mac("06:00:00:" + of.to_bytes(3, "big").hex(":"))


def frame(signal: Signal) -> bytes:
    """A signal as an Ethernet frame."""
    destination = {MarkerKind.MARKER: signal.system.mac, MarkerKind.LAST: EVERYBODY}.get(
        signal.kind, NOBODY
    )
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
    """The signal in a frame.  Raises NotASignal."""
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
