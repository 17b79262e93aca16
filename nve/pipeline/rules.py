"""Forwarding rules as values: what the NVA tells an NVE, before any OpenFlow message exists.

A rule is a row of one of the pipeline's tables (see `nve.pipeline.compiler`): a priority, a match,
actions and, for the soft state of the protocol, time-outs.  Field names are OpenFlow's own, so that
the adapter in `controller` translates without a table of its own and a reader can compare with
`ovs-ofctl dump-flows`.  Rules are hashable, so that sets of rules can be compared.
"""

import enum
import hashlib
from collections.abc import Iterable, Iterator, Set
from dataclasses import dataclass
from functools import cached_property, lru_cache
from ipaddress import IPv6Network
from operator import attrgetter
from typing import TypeAlias

from nve.model import Mac, TenantSystem, Vni, Vtep

FieldValue: TypeAlias = int | str
Match: TypeAlias = tuple[tuple[str, FieldValue], ...]

VXLAN_PORT, AGENT_PORT, PACKET_PORT, UNDERLAY_PORT = 1, 2, 3, 4
"""The tunnel port, that of the NVE's agent, the tunnel port for packets without their Ethernet
header, and the port to the underlay itself have these numbers on every NVE."""
TUNNEL_PORTS = frozenset({VXLAN_PORT, PACKET_PORT, UNDERLAY_PORT})
FIRST_VM_PORT, LAST_VM_PORT = 10, 0x7EFF
"""The range of VM port numbers; each VM port may have a lane, a second port into the VM."""
_LANES = 0x7F00
"""The difference between the port numbers of a lane and its VM; Open vSwitch allows up to
0xfeff."""


def lane_port(port: int) -> int:
    """Return the number of the port by which in-flight frames reach a VM.

    See `nve.hypervisor.reorder_buffer`.
    """
    return port + _LANES


TAGGED, PRIORITY_TAG = "0x1000/0x1000", 0x1000
"""The `vlan_vid` of a frame with a VLAN tag, and with one of VID 0, which names no VLAN."""
GROUP = "01:00:00:00:00:00/01:00:00:00:00:00"
"""The destination of a frame to many: the group bit of its MAC address is set."""
REMEMBERED = 4096
"""The number of ports, networks and ways whose compiled rules are cached: each step of a move
compiles them again, and a rule computes its derived values once (`Rule`)."""


def match(**fields: FieldValue) -> Match:
    """Return a match in canonical order; a value `"address/mask"` is a masked one."""
    return tuple(sorted(fields.items()))


def tunnel_source(vtep: Vtep) -> dict[str, FieldValue]:
    """Return the field that says which NVE has sent what comes out of a tunnel."""
    return {"tun_ipv4_src" if vtep.version == 4 else "tun_ipv6_src": str(vtep)}


@lru_cache(REMEMBERED)
def frames_for(system: TenantSystem) -> Match:
    """Return the match for frames to a VM."""
    return match(metadata=system.vni, eth_dst=system.mac)


@lru_cache(REMEMBERED)
def copies_for(copy_vni: Vni) -> Match:
    """Return the match for a VM's own copies of frames to groups (`controller.core.groups`)."""
    return match(tunnel_id=copy_vni, eth_dst=GROUP)


class PipelineTable(enum.IntEnum):
    """The tables of the pipeline, in the order a frame visits them."""

    CLASSIFY = 0
    GUARD = 1
    FROM_VM = 2
    ROUTE = 3
    FROM_TUNNEL = 4
    FORWARD = 5
    SPREAD = 6
    FLOOD = 7
    FLOOD_LOCAL = 8
    FIT = 9
    LOCATE = 10


class Purpose(enum.StrEnum):
    """Why a rule exists.  Counters are read, and drops named, by purpose."""

    ADMIT = "admit"
    DELIVER = "deliver"
    FORWARD = "forward"
    SPREAD = "spread"
    FLOOD = "flood"
    ROUTE = "route"
    NOT_ROUTED = "not-routed"
    EXPIRED = "expired"
    REPORT = "report"
    MISS = "miss"
    IN_FLIGHT = "in-flight"
    END_MARKER = "end-marker"
    DEPARTED = "departed"
    NO_LONGER_FORWARDED = "no-longer-forwarded"
    FIT = "fit"
    TOO_BIG = "too-big"
    LOCATE = "locate"
    UNKNOWN_LOCATOR = "unknown-locator"
    UNKNOWN_VTEP = "unknown-vtep"
    UNKNOWN_VNI = "unknown-vni"
    UNKNOWN_PORT = "unknown-port"
    UNKNOWN_DESTINATION = "unknown-destination"
    SPOOFED = "spoofed"
    VLAN_TAGGED = "vlan-tagged"
    FENCED = "fenced"


@dataclass(frozen=True)
class GoTo:
    """Continue in another table, always a later one."""

    table: PipelineTable

    def __str__(self) -> str:
        return f"go to {self.table.name.lower()}"


@dataclass(frozen=True)
class SetVirtualNetwork:
    """Remember the frame's virtual network (OpenFlow metadata) for the tables that follow."""

    vni: Vni

    def __str__(self) -> str:
        return f"VNI {self.vni}"


@dataclass(frozen=True)
class PopVlan:
    """Remove the VLAN tag."""

    def __str__(self) -> str:
        return "without its tag"


@dataclass(frozen=True)
class SetMac:
    """Write one of the frame's MAC addresses, `eth_src` or `eth_dst`."""

    field: str
    to: Mac

    def __str__(self) -> str:
        return f"{self.field} {self.to}"


@dataclass(frozen=True)
class SetPrefix:
    """Write the upper half of the packet's IPv6 destination, and correct its checksums."""

    prefix: IPv6Network

    def __str__(self) -> str:
        return f"destination in {self.prefix}"


@dataclass(frozen=True)
class Translate:
    """Send the packet unchanged to a locator by the underlay port (`nve.ila`).

    `source` and `next_hop` are MAC addresses on the underlay.  `hairpin` is as in `Tunnel`.
    """

    vni: Vni
    to: Vtep
    locator: IPv6Network
    source: Mac
    next_hop: Mac
    hairpin: bool = False

    def __str__(self) -> str:
        return f"to locator {self.locator}"


@dataclass(frozen=True)
class DecrementTtl:
    """Decrement the packet's TTL or hop limit, as a router does."""

    def __str__(self) -> str:
        return "decrement TTL"


@dataclass(frozen=True)
class Meter:
    """A limit of packets per second and packets in a burst; a switch drops and counts the excess.

    The rules of one switch that name the same number share the meter (see `nve.pipeline.limits`).
    """

    number: int
    rate_pps: int
    burst: int


@dataclass(frozen=True)
class Output:
    """Send the frame to a VM's or the agent's port, through the meter if there is one.

    A frame never goes back to the port it came from.
    """

    port: int
    meter: Meter | None = None

    def __str__(self) -> str:
        return f"port {self.port}"


@dataclass(frozen=True)
class Tunnel:
    """Encapsulate the frame in VXLAN towards another NVE.

    With `hairpin`, also if the frame came out of a tunnel.
    """

    vni: Vni
    to: Vtep
    hairpin: bool = False
    port: int = VXLAN_PORT
    """The tunnel port; by `PACKET_PORT`, the packet goes without its Ethernet header."""

    def __str__(self) -> str:
        return f"tunnel VNI {self.vni} to {self.to}"


@dataclass(frozen=True)
class Aim:
    """Set where the tunnel leads; `Encapsulate`, in a later table, sends the frame there."""

    vni: Vni
    to: Vtep

    def __str__(self) -> str:
        return f"aim at {self.to}, VNI {self.vni}"


@dataclass(frozen=True)
class CheckLarger:
    """Note whether the packet is longer than `mtu`: the tables that follow read it as `reg0`."""

    mtu: int

    def __str__(self) -> str:
        return f"larger than {self.mtu}?"


@dataclass(frozen=True)
class ChooseInstance:
    """Choose one of so many instances of a VM by a hash of the packet's flow (IP addresses,
    protocol, and TCP, UDP or SCTP ports): the tables that follow read it as `reg1`.

    Both directions of a flow have the same hash, and so have those flows at every NVE.
    """

    instances: int

    def __str__(self) -> str:
        return f"one of {self.instances} by its flow"


@dataclass(frozen=True)
class Encapsulate:
    """Send the frame into the tunnel that `Aim` has set; `hairpin` is as in `Tunnel`."""

    hairpin: bool = False

    def __str__(self) -> str:
        return "tunnel on"


@dataclass(frozen=True)
class ReportAction:
    """Send the frame, or its first octets, to the NVA, through the meter if there is one."""

    octets: int | None = None
    meter: Meter | None = None

    def __str__(self) -> str:
        limit = f", {self.meter.rate_pps} a second" if self.meter else ""
        return f"report to the NVA{limit}"


Action: TypeAlias = (
    GoTo
    | SetVirtualNetwork
    | PopVlan
    | SetMac
    | SetPrefix
    | Translate
    | DecrementTtl
    | Output
    | Tunnel
    | Aim
    | CheckLarger
    | ChooseInstance
    | Encapsulate
    | ReportAction
)


Way: TypeAlias = Output | Tunnel | Translate
"""How one frame leaves an NVE."""
Key: TypeAlias = tuple[PipelineTable, int, Match]


@dataclass(frozen=True)
class Rule:
    """One row.  No actions means drop.  `idle_s` and `hard_s` are time-outs in whole seconds, 0 is
    none.

    A switch reports the last counters of a rule that `reports_end` when the rule goes, for whatever
    reason.

    Derived values are computed once, as the NVA compares sets of rules all the time.  So a rule
    must not be pickled for another process, in which strings have other hashes.
    """

    table: PipelineTable
    priority: int
    match: Match
    actions: tuple[Action, ...]
    purpose: Purpose
    about: TenantSystem | None = None
    idle_s: int = 0
    hard_s: int = 0
    reports_end: bool = False

    @cached_property
    def key(self) -> Key:
        """What a switch identifies the rule by: adding a rule with the same key replaces it."""
        return (self.table, self.priority, self.match)

    @property
    def has_timeout(self) -> bool:
        """Whether the rule has a time-out."""
        return bool(self.idle_s or self.hard_s)

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        identity = (self.table, self.priority, self.match)  # `key`, which few rules are asked for
        return hash((identity, self.actions, self.purpose, self.idle_s, self.hard_s))

    @cached_property
    def order(self) -> tuple[int, int, str]:
        """The sort key in which rules are added: later tables first.

        So a frame goes on to a table only once the rules of that are there.
        """
        return (-self.table, -self.priority, repr(self.match))

    @cached_property
    def meters(self) -> frozenset[Meter]:
        """The meters that the rule's frames go through."""
        metered = (each for each in self.actions if isinstance(each, ReportAction | Output))
        return frozenset(action.meter for action in metered if action.meter)

    @cached_property
    def cookie(self) -> int:
        """64 bits derived from the rule's identity, so that any NVA process computes the same.

        The purpose and the tenant system are part of it: a replaced rule with another purpose has
        another cookie, and its counters are not taken for those of its predecessor.
        """
        identity = repr((int(self.table), self.priority, self.match, self.purpose, self.about))
        return int.from_bytes(hashlib.blake2b(identity.encode(), digest_size=8).digest(), "big")


@dataclass(frozen=True)
class RuleChange:
    """What has to be added (or replaced) and removed to get from one set of rules to another."""

    added: tuple[Rule, ...]
    removed: tuple[Rule, ...]

    def __bool__(self) -> bool:
        return bool(self.added or self.removed)


def difference(before: Set[Rule], after: Set[Rule]) -> RuleChange:
    """Return the change from `before` to `after`.

    Additions go first on the wire, so that a frame that arrives in between finds the old rule or
    the new one, never none; a rule whose key is added again is replaced by that and needs no
    removal.  Removals go in the reverse order of additions: of several rules for the same frames,
    the one that decides goes last.
    """
    added = after - before
    replaced = {rule.key for rule in added}
    removed = {rule for rule in before - after if rule.key not in replaced}
    return _ordered(added, removed)


def together(changes: Iterable[RuleChange]) -> Iterator[RuleChange]:
    """Yield fewer changes that lead to the same rules as these do, carried out in their order.

    Of several rules with one key only the last is added, and it replaces what was there before at
    once. But a rule that is removed and added again is still removed in between, because its end
    may have to be reported.
    """
    added: dict[Key, Rule] = {}
    removed: dict[Key, Rule] = {}
    for change in changes:
        if any(rule.key in removed for rule in change.added):
            yield _ordered(added.values(), removed.values())
            added, removed = {}, {}
        added |= {rule.key: rule for rule in change.added}
        removed |= {rule.key: rule for rule in change.removed}
    yield _ordered(added.values(), removed.values())


def _ordered(added: Iterable[Rule], removed: Iterable[Rule]) -> RuleChange:
    in_reverse = sorted(removed, key=_order, reverse=True)
    return RuleChange(tuple(sorted(added, key=_order)), tuple(in_reverse))


_order = attrgetter("order")
