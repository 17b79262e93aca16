"""What an NVE reports to the NVA, and what the NVA asks of an NVE.

The draft leaves the NVA-NVE protocol open.  Ours is OpenFlow, and this is its vocabulary without
the encoding: `controller.openflow` turns packet-in and flow-removed into reports, and effects into
flow-mod, barrier and packet-out.  Reports are in the past tense, effects in the imperative.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import TypeAlias

from nve.model import Mac
from nve.rules import Change, Rule

ARP_REQUEST, ARP_REPLY = 1, 2
RARP_REQUEST, RARP_REPLY = 3, 4


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
        """It announces: sender and target are the same address (R4.1.2; RFC 5227 section 3)."""
        return self.sender_ip == self.target_ip


@dataclass(frozen=True)
class RarpSent:
    """A VM (or its hypervisor) sent a reverse ARP packet (RFC 903)."""

    port: int
    operation: int
    target_mac: Mac


@dataclass(frozen=True)
class NeighbourSolicited:
    """A VM asked for the MAC address of `target` (RFC 4861).  `sender` is `::` in DAD."""

    port: int
    sender_mac: Mac
    sender: IPv6Address
    target: IPv6Address


@dataclass(frozen=True)
class NeighbourAdvertised:
    """A VM advertised `target`; unsolicited after a move (R4.1.6)."""

    port: int
    sender_mac: Mac
    target: IPv6Address


@dataclass(frozen=True)
class Missed:
    """A frame found no entry for its destination: the NVE asks the NVA (R4.1.3, pull)."""

    port: int
    destination: Mac
    frame: bytes


@dataclass(frozen=True)
class Malformed:
    """A frame of a protocol that the NVA answers, but not well-formed."""

    port: int
    why: str


@dataclass(frozen=True)
class RuleEnded:
    """A rule is gone, with its last counters: `why` is "idle", "timer", or "told" by the NVA."""

    cookie: int
    why: str
    packets: int
    octets: int
    lifetime_ms: float


Report: TypeAlias = (
    ArpSent | RarpSent | NeighbourSolicited | NeighbourAdvertised | Missed | Malformed | RuleEnded
)


@dataclass(frozen=True)
class Tell:
    """Change the rules of an NVE and have it confirm (barrier); `token` comes back with that."""

    nve: str
    change: Change
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
class AnswerSolicitation:
    """Answer a neighbour solicitation at the NVE where it was asked."""

    nve: str
    solicitation: NeighbourSolicited
    mac: Mac


@dataclass(frozen=True)
class Resend:
    """Send a frame that missed through the pipeline again, now that there is an entry."""

    nve: str
    port: int
    frame: bytes


@dataclass(frozen=True)
class Record:
    """A line of the trace: what happened, when (ns since the epoch), to whom."""

    t_ns: int
    event: str
    subject: str
    details: Mapping[str, object]


Effect: TypeAlias = Tell | Reconcile | AnswerArp | AnswerSolicitation | Resend | Record
