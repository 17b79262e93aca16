"""Turns nodes and links into a fabric: subnets, addresses, static routes.

A *segment* is a set of links that share a subnet: the links that meet at switches, or a single link
between two routers.  Segment number s has 10.s.0.0/16 and fd00:0:0:s::/64, and the h-th port on it
has host number h in both, so that an address in a capture says where it belongs.  Switches have no
address.

Routes are the shortest paths, counted in hops; a router spreads its load over all that are equally
short (ECMP).  An NVE always uses one gateway, the first: a userspace edge does not read multipath
routes.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv6Network, ip_interface, ip_network

from nve.model import IPAddress, Mac, Vtep
from topologies.spec import Fabric, Family, IPInterface, Link, Node, Port, Route

MAX_SEGMENTS = 255
UNDERLAY_IPV6 = IPv6Network("fd00::/48")
"""The range that contains all segments' subnets."""
MAX_HOSTS = 65_000

_VERSION: Mapping[Family, int] = {"ipv4": 4, "ipv6": 6}


@dataclass(frozen=True)
class Segment:
    """The addressed ports that share a subnet: host number h is `ports[h - 1]`."""

    number: int
    ports: tuple[Port, ...]

    def networks(self) -> tuple[str, str]:
        return f"10.{self.number}.0.0/16", f"fd00:0:0:{self.number:x}::/64"

    def interfaces(self, port: Port) -> tuple[IPInterface, ...]:
        """Return the IPv4 and the IPv6 address of a port, with their prefix lengths."""
        host = self.ports.index(port) + 1
        return (
            ip_interface(f"10.{self.number}.{host >> 8}.{host & 255}/16"),
            ip_interface(f"fd00:0:0:{self.number:x}::{host:x}/64"),
        )


def fabric(nodes: Sequence[Node], links: Sequence[Link], family: Family) -> Fabric:
    """Give every port of an NVE or a router its addresses, and every such node its routes.

    Raises ValueError if nodes and links do not form an underlay.
    """
    _check(nodes, links)
    segments = _segments(nodes, links)
    addresses = {port: segment.interfaces(port) for segment in segments for port in segment.ports}
    ports = [Port(*ends) for link in links for ends in ((link.a, link.b), (link.b, link.a))]
    return Fabric(
        nodes=tuple(nodes),
        links=tuple(links),
        macs={port: _mac(number) for number, port in enumerate(ports, start=1)},
        addresses=addresses,
        routes=_routes(nodes, segments, addresses),
        vteps=_vteps(nodes, addresses, family),
        family=family,
    )


def neighbours(underlay: Fabric, name: str) -> list[tuple[Port, IPAddress, Mac]]:
    """Return who shares a subnet with a node: the node's own port, their address, their MAC
    address.
    """
    return [
        (own, interface.ip, underlay.macs[port])
        for own in underlay.ports(name)
        for mine in underlay.addresses.get(own, ())
        for port, interfaces in underlay.addresses.items()
        for interface in interfaces
        if port != own and interface.network == mine.network
    ]


def _mac(number: int) -> Mac:
    """Return a locally administered MAC address, distinct from the tenants' 02:… addresses."""
    return Mac(f"06:00:00:00:{number >> 8:02x}:{number & 255:02x}")


def _segments(nodes: Sequence[Node], links: Sequence[Link]) -> list[Segment]:
    switches = {node.name for node in nodes if node.kind == "switch"}
    touching: dict[str, list[Link]] = {node.name: [] for node in nodes}
    for link in links:
        touching[link.a].append(link)
        touching[link.b].append(link)
    found: list[Segment] = []
    seen: set[Link] = set()
    for first in links:
        if first in seen:
            continue
        seen.add(first)
        waiting, members, joined = deque([first]), [], 0
        reached: set[str] = set()
        while waiting:
            link = waiting.popleft()
            joined += 1
            for end in (link.a, link.b):
                if end not in switches:
                    members.append(Port(end, link.other(end)))
                    continue
                reached.add(end)
                neighbours = [other for other in touching[end] if other not in seen]
                seen.update(neighbours)
                waiting.extend(neighbours)
        if joined >= len(reached) + len(members):
            raise ValueError(f"switches {', '.join(sorted(reached))} are linked in a loop")
        found.append(Segment(len(found) + 1, tuple(members)))
    if len(found) > MAX_SEGMENTS or any(len(segment.ports) > MAX_HOSTS for segment in found):
        raise ValueError(
            f"an underlay of {len(found)} subnets is too large; "
            f"there are addresses for {MAX_SEGMENTS} of {MAX_HOSTS} ports each"
        )
    return found


def _vteps(
    nodes: Sequence[Node], addresses: Mapping[Port, tuple[IPInterface, ...]], family: Family
) -> dict[str, Vtep]:
    nves = {node.name for node in nodes if node.kind == "nve"}
    return {
        port.node: interface.ip
        for port, interfaces in addresses.items()
        for interface in interfaces
        if port.node in nves and interface.version == _VERSION[family]
    }


def _routes(
    nodes: Sequence[Node],
    segments: Sequence[Segment],
    addresses: Mapping[Port, tuple[IPInterface, ...]],
) -> dict[str, tuple[Route, ...]]:
    """Return, for each node, a route to each segment it is not on, IPv4 first."""
    routers = {node.name for node in nodes if node.kind == "router"}
    routes: dict[str, list[Route]] = {node.name: [] for node in nodes if node.kind != "switch"}
    segments_at: dict[str, list[Segment]] = {}
    for segment in segments:
        for port in segment.ports:
            segments_at.setdefault(port.node, []).append(segment)
    for destination in segments:
        hops = _hops_to(destination, segments_at, routers)
        for name, found in routes.items():
            if name not in hops:
                raise ValueError(f"nothing leads from {name} to {destination.ports[0].node}")
            gateways = _gateways(name, hops, segments_at, routers)
            if name not in routers:
                gateways = gateways[:1]
            if not gateways:
                continue
            for version, network in enumerate(destination.networks()):
                next_hops: tuple[IPAddress, ...] = tuple(
                    addresses[gateway][version].ip for gateway in gateways
                )
                found.append(Route(ip_network(network), next_hops))
    return {name: tuple(found) for name, found in routes.items()}


def _hops_to(
    destination: Segment, segments_at: Mapping[str, Sequence[Segment]], routers: set[str]
) -> dict[str, int]:
    """Return how many routers a packet at each node still crosses, by breadth first search.

    Only routers continue the search: nothing is forwarded through an NVE.
    """
    hops = {port.node: 0 for port in destination.ports}
    waiting = deque(hops)
    while waiting:
        name = waiting.popleft()
        if name not in routers:
            continue
        for segment in segments_at[name]:
            for port in segment.ports:
                if port.node not in hops:
                    hops[port.node] = hops[name] + 1
                    waiting.append(port.node)
    return hops


def _gateways(
    name: str,
    hops: Mapping[str, int],
    segments_at: Mapping[str, Sequence[Segment]],
    routers: set[str],
) -> list[Port]:
    """Return the ports of neighbouring routers that are one hop nearer; none if the node is
    there.
    """
    if hops[name] == 0:
        return []
    return [
        port
        for segment in segments_at[name]
        for port in segment.ports
        if port.node in routers and hops.get(port.node) == hops[name] - 1
    ]


def _check(nodes: Sequence[Node], links: Sequence[Link]) -> None:
    names = [node.name for node in nodes]
    if doubled := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"two nodes are called {', '.join(sorted(doubled))}")
    pairs = [frozenset((link.a, link.b)) for link in links]
    for link, pair in zip(links, pairs, strict=True):
        if unknown := pair - set(names):
            raise ValueError(f"link {link} leads to {', '.join(sorted(unknown))}, which is no node")
        if len(pair) == 1 or pairs.count(pair) > 1:
            raise ValueError(f"link {link}: links join two different nodes, and only once")
    for node in nodes:
        degree = sum(node.name in pair for pair in pairs)
        if node.kind == "nve" and degree != 1:
            raise ValueError(f"NVE {node.name} has {degree} underlay links; it takes exactly one")
    kinds = {node.name: node.kind for node in nodes}
    for link in links:
        if kinds[link.a] == kinds[link.b] == "nve":
            raise ValueError(f"link {link} joins two NVEs; put a switch or a router between them")
