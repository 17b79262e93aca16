"""What an NVE reports to the NVA, and what the NVA asks of an NVE.

The draft leaves the NVA-NVE protocol open.  It is OpenFlow here, and this is its vocabulary without
the encoding: `controller.southbound.openflow` turns packet-in and flow-removed into reports, and
effects into flow-mod, barrier and packet-out.  Reports are in the past tense, effects in the
imperative.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import TypeAlias

from nve.model import IPAddress, Mac, Vni
from nve.pipeline.rules import Rule, RuleChange, Way
from nve.wire.end_marker import Signal
from nve.wire.icmpv6_error import Icmpv6Error


@dataclass(frozen=True)
class ArpSent:
    """A VM behind `port` sent an ARP packet (RFC 826)."""

    port: int
    operation: int
    sender_mac: Mac
    sender_ip: IPv4Address
    target_ip: IPv4Address

    @property
    def gratuitous(self) -> bool:
        """Whether it is an announcement: its sender and target are the same address.

        R4.1.2; RFC 5227 section 3.
        """
        return self.sender_ip == self.target_ip and not self.sender_ip.is_unspecified


@dataclass(frozen=True)
class RarpSent:
    """A VM (or its hypervisor) sent a reverse ARP packet (RFC 903)."""

    port: int
    operation: int
    target_mac: Mac


@dataclass(frozen=True)
class NeighbourSolicited:
    """A VM asked for the MAC address of `target` (RFC 4861).

    `sender` is `::` in duplicate address detection.
    """

    port: int
    sender_mac: Mac
    sender: IPv6Address
    target: IPv6Address


@dataclass(frozen=True)
class NeighbourAdvertised:
    """A VM advertised `target` to somebody or, unsolicited after a move, to a group (R4.1.6)."""

    port: int
    sender_mac: Mac
    target: IPv6Address
    to: IPv6Address


@dataclass(frozen=True)
class Missed:
    """A frame found no entry for its destination: the NVE asks the NVA (R4.1.3, pull)."""

    port: int
    destination: Mac
    frame: bytes


@dataclass(frozen=True)
class Unrouted:
    """A packet found no host route to its destination: the NVE asks the NVA (R4.1.3, pull)."""

    port: int
    destination: IPAddress
    frame: bytes


@dataclass(frozen=True)
class Expired:
    """A packet came to its router with the last TTL or hop limit; `frame` holds that packet."""

    port: int
    frame: bytes


@dataclass(frozen=True)
class TooBig:
    """A frame does not fit into a tunnel to its destination; `frame` is its beginning.

    A frame to a group counts if it exceeds any of the tunnels.  `port` is the sender's port, or the
    tunnel port if the frame was in flight and should have been redirected.
    """

    port: int
    vni: Vni
    sender: Mac
    destination: Mac
    octets: int
    frame: bytes


@dataclass(frozen=True)
class RouterError:
    """A router of the underlay sent an error about a packet that went by a locator."""

    port: int
    error: Icmpv6Error


@dataclass(frozen=True)
class Malformed:
    """A frame of a protocol that the NVA answers was not well-formed."""

    port: int
    why: str


@dataclass(frozen=True)
class RuleEnded:
    """A rule has ended, with its last counters; `why` is "idle", "timer", or "told" by the NVA."""

    cookie: int
    why: str
    packets: int
    octets: int
    lifetime_ms: float


@dataclass(frozen=True)
class Signalled:
    """The NVE's agent sent a signal about end markers (see `nve.wire.end_marker`)."""

    port: int
    signal: Signal


Report: TypeAlias = (
    ArpSent
    | RarpSent
    | NeighbourSolicited
    | NeighbourAdvertised
    | Missed
    | Unrouted
    | Expired
    | TooBig
    | RouterError
    | Malformed
    | Signalled
    | RuleEnded
)


@dataclass(frozen=True)
class Tell:
    """Change the rules of an NVE and have it confirm (barrier); the confirmation names `token`."""

    nve: str
    change: RuleChange
    token: int


@dataclass(frozen=True)
class Reconcile:
    """Make an NVE that (re)connected hold exactly these rules, without a gap in between."""

    nve: str
    rules: frozenset[Rule]
    token: int


@dataclass(frozen=True)
class AnswerArp:
    """Answer an ARP request at the NVE where it was asked."""

    nve: str
    request: ArpSent
    mac: Mac


@dataclass(frozen=True)
class AnswerRarp:
    """Tell a VM its own IPv4 address, at the NVE where it asked by reverse ARP (R4.1.5)."""

    nve: str
    request: RarpSent
    address: IPv4Address


@dataclass(frozen=True)
class AnswerSolicitation:
    """Answer a neighbour solicitation at the NVE where it was asked."""

    nve: str
    solicitation: NeighbourSolicited
    mac: Mac


@dataclass(frozen=True)
class Emit:
    """Send a frame to a VM, behind this NVE or through a tunnel: one of the NVA's own, or a missed
    one.

    It passes no table, so that it cannot miss again.
    """

    nve: str
    way: Way
    frame: bytes


@dataclass(frozen=True)
class Order:
    """Give an NVE's agent an order, after everything that the NVE was told before."""

    nve: str
    signal: Signal


@dataclass(frozen=True)
class TraceRecord:
    """A record of the trace: what happened, when (ns since the epoch), and to whom."""

    t_ns: int
    event: str
    subject: str
    details: Mapping[str, object]


Answer: TypeAlias = AnswerArp | AnswerRarp | AnswerSolicitation
Instruction: TypeAlias = Tell | Reconcile | Answer | Emit | Order
"""An effect that concerns one NVE."""
Effect: TypeAlias = Instruction | TraceRecord
