"""The values that describe an underlay: nodes, links, and the addresses and routes that join them.

A *fabric* is a value.  A topology file names nodes and links; `addressing.fabric()` turns them into
subnets, addresses and static routes; `emulation.DataCentre` builds what the fabric says.  Nothing
here knows how: no namespaces, no commands.

There are three kinds of node.  An **NVE** is where tenants attach; it has exactly one underlay link
and does not forward for others.  A **switch** joins its links into one subnet.  A **router** has an
address on every link and forwards between subnets by static routes (no routing protocol runs, so
that routing convergence does not disturb a mobility experiment).
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from ipaddress import IPv4Interface, IPv4Network, IPv6Interface, IPv6Network
from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)

from nve.model import IPAddress, Mac, Vtep
from nve.resources import UNLIMITED, Capacity, named

Family: TypeAlias = Literal["ipv4", "ipv6"]
NodeKind: TypeAlias = Literal["nve", "switch", "router"]
IPInterface: TypeAlias = IPv4Interface | IPv6Interface
IPNetwork: TypeAlias = IPv4Network | IPv6Network

USUAL_MTU = 1500
LEAST_MTU, LARGEST_MTU = 1350, 9000
"""An IPv6 packet of 1280 octets, which every link has to carry (RFC 8200 section 5), fits into a
tunnel over a link with the least."""


class LinkSpec(BaseModel):
    """What a link does to packets, in each direction alike.

    `delay_ms` is one-way.  Jitter is uniform, +- `jitter_ms` around the delay, and never reorders:
    a packet that would overtake leaves right behind its predecessor instead.  Loss is independent
    per packet.  Without `rate_mbit` the link is as fast as the machine.  `mtu` is the longest IP
    packet that the link carries.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    delay_ms: float = 0.0
    jitter_ms: float = 0.0
    loss_pct: float = 0.0
    rate_mbit: float | None = None
    mtu: int = USUAL_MTU

    @field_validator("delay_ms", "jitter_ms")
    @classmethod
    def _not_negative(cls, milliseconds: float) -> float:
        if not 0 <= milliseconds <= 10_000:
            raise ValueError(f"is {milliseconds}; give milliseconds from 0 to 10000")
        return milliseconds

    @field_validator("loss_pct")
    @classmethod
    def _a_percentage(cls, percent: float) -> float:
        if not 0 <= percent <= 100:
            raise ValueError(f"is {percent}; give a percentage from 0 to 100")
        return percent

    @field_validator("rate_mbit")
    @classmethod
    def _a_rate(cls, megabits: float | None) -> float | None:
        if megabits is not None and not 0 < megabits <= 100_000:
            raise ValueError(
                f"is {megabits}; give Mbit/s greater than 0 and up to 100000, or leave it out for "
                "a link without a limit"
            )
        return megabits

    @field_validator("mtu")
    @classmethod
    def _an_mtu(cls, octets: int) -> int:
        if not LEAST_MTU <= octets <= LARGEST_MTU:
            raise ValueError(f"is {octets}; give octets from {LEAST_MTU} to {LARGEST_MTU}")
        return octets

    @model_validator(mode="after")
    def _jitter_within_delay(self) -> Self:
        if self.jitter_ms > self.delay_ms:
            raise ValueError(
                f"jitter_ms {self.jitter_ms} is greater than delay_ms {self.delay_ms}: a packet "
                "cannot arrive before it was sent; raise delay_ms or lower jitter_ms"
            )
        return self

    @property
    def delays(self) -> bool:
        """Whether packets have to wait; jitter never comes without a delay."""
        return self.delay_ms > 0

    @property
    def shapes(self) -> bool:
        """Whether the link does more to packets than a cable."""
        return bool(self.delays or self.loss_pct or self.rate_mbit)


PLAIN_LINK = LinkSpec()
Amounts: TypeAlias = Annotated[Capacity, BeforeValidator(named)]


class UnderlayParameters(BaseModel):
    """The parameters of every topology; a topology's own Parameters class adds to them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    underlay: Family = Field(default="ipv4", description="IP version of the VXLAN tunnels")
    link: LinkSpec = Field(default=PLAIN_LINK, description="every link that is not named otherwise")
    links: dict[str, LinkSpec] = Field(
        default={}, description="by NVE: what its own link has different from `link`"
    )

    server: Amounts = Field(
        default=UNLIMITED, description="what every server has for VMs: as much as anybody wants"
    )
    servers: dict[str, Amounts] = Field(
        default={}, description="by NVE: what its server has different from `server`"
    )

    migration_network: LinkSpec | None = Field(
        default=None,
        description="a network of its own for the state of VMs that move: each server's link to it",
    )

    @model_validator(mode="before")
    @classmethod
    def _some_are_different(cls, given: Any) -> Any:
        """Fill `links` and `servers` in: what they leave out for an NVE is as in `link` and
        `server`.
        """
        if not isinstance(given, Mapping):
            return given
        return {
            **given,
            **_differing(given, "link", "links", dict),
            **_differing(given, "server", "servers", _as_dict),
        }

    def link_of(self, nve: str) -> LinkSpec:
        """Return the link between an NVE and the underlay."""
        return self.links.get(nve, self.link)

    def server_of(self, nve: str) -> Capacity:
        """Return what the server of an NVE has for VMs."""
        return self.servers.get(nve, self.server)


def _differing(
    given: Mapping[str, Any], one: str, several: str, plain: Callable[[Any], dict[str, Any]]
) -> dict[str, Any]:
    """Return the key `several`, with each value completed by that of `one`."""
    usual, own = given.get(one, {}), given.get(several)
    if not isinstance(usual, Mapping | LinkSpec | Capacity) or not isinstance(own, Mapping):
        return {}
    merged = {
        nve: plain(usual) | dict(different) if isinstance(different, Mapping) else different
        for nve, different in own.items()
    }
    return {several: merged}


def _as_dict(capacity: Mapping[str, Any] | Capacity) -> dict[str, Any]:
    return asdict(capacity) if isinstance(capacity, Capacity) else dict(capacity)


@dataclass(frozen=True)
class Node:
    name: str
    kind: NodeKind


@dataclass(frozen=True)
class Link:
    """A cable between two nodes; no two nodes share more than one."""

    a: str
    b: str
    spec: LinkSpec = PLAIN_LINK

    def __str__(self) -> str:
        return f"{self.a}-{self.b}"

    def other(self, node: str) -> str:
        return self.b if node == self.a else self.a


@dataclass(frozen=True, order=True)
class Port:
    """One end of a link: the interface of `node` that leads to `peer`."""

    node: str
    peer: str

    @property
    def interface(self) -> str:
        """The interface's name in the node's namespace."""
        return f"to-{self.peer}"


@dataclass(frozen=True)
class Route:
    """A static route; several next hops share the load (ECMP)."""

    destination: IPNetwork
    next_hops: tuple[IPAddress, ...]


@dataclass(frozen=True)
class Fabric:
    """A whole underlay.  It is dual-stack; `family` is the IP version of the VTEPs and tunnels."""

    nodes: tuple[Node, ...]
    links: tuple[Link, ...]
    macs: Mapping[Port, Mac]
    addresses: Mapping[Port, tuple[IPInterface, ...]]
    routes: Mapping[str, tuple[Route, ...]]
    vteps: Mapping[str, Vtep]
    family: Family
    capacities: Mapping[str, Capacity] = field(default_factory=dict)
    """What the servers of NVEs have for VMs; a server that is not named has no limit."""
    migration: LinkSpec | None = None
    """Each server's link to the migration network, if there is one."""

    @property
    def nves(self) -> tuple[str, ...]:
        return tuple(node.name for node in self.nodes if node.kind == "nve")

    def kind(self, name: str) -> NodeKind:
        return next(node.kind for node in self.nodes if node.name == name)

    def ports(self, name: str) -> tuple[Port, ...]:
        """Return the ends of links at a node, in the order of the links."""
        return tuple(
            Port(name, link.other(name)) for link in self.links if name in (link.a, link.b)
        )

    def link(self, port: Port) -> Link:
        """Return the link that has a port as one of its ends."""
        ends = {port.node, port.peer}
        return next(link for link in self.links if {link.a, link.b} == ends)

    def uplink(self, nve: str) -> Port:
        """Return the one underlay port of an NVE."""
        (port,) = self.ports(nve)
        return port
