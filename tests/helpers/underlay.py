"""A packet's path through a fabric, followed hop by hop by its routes alone (no network)."""

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from nve.model import IPAddress
from topologies.spec import Fabric, Link

MAX_HOPS = 32
Owners: TypeAlias = Mapping[IPAddress, Sequence[str]]
"""The nodes that have each address, which should be one."""


def paths(fabric: Fabric, source: str, destination: IPAddress) -> list[list[str]]:
    """Return every path that equal-cost routing may take: the NVEs and routers crossed, both ends
    included.

    Raises AssertionError if a packet would be lost: no route, a next hop that is not a neighbour,
    or a loop.
    """
    return _paths(fabric, _owners(fabric), [source], destination)


def _paths(
    fabric: Fabric, owners: Owners, way: list[str], destination: IPAddress
) -> list[list[str]]:
    here = way[-1]
    assert len(way) <= MAX_HOPS, f"loop: {way}"
    if _owner(owners, destination) == here:
        return [way]
    if any(
        destination in interface.network
        for port in fabric.ports(here)
        for interface in fabric.addresses[port]
    ):
        return [[*way, _owner(owners, destination)]]
    routes = [route for route in fabric.routes[here] if destination in route.destination]
    assert len(routes) == 1, f"{here} has {len(routes)} routes to {destination}"
    return [
        found
        for hop in routes[0].next_hops
        for found in _paths(
            fabric, owners, [*way, _neighbour(fabric, owners, here, hop)], destination
        )
    ]


def delay_ms(fabric: Fabric, source: str, destination: str) -> float:
    """Return the configured one-way delay of the only path, over NVEs, switches and routers."""
    found = _links(fabric, source, destination, set())
    assert found is not None, f"nothing joins {source} and {destination}"
    return sum(link.spec.delay_ms for link in found)


def _links(fabric: Fabric, here: str, there: str, seen: set[str]) -> list[Link] | None:
    if here == there:
        return []
    ways = []
    for port in fabric.ports(here):
        if port.peer not in seen:
            rest = _links(fabric, port.peer, there, seen | {here})
            if rest is not None:
                ways.append([_link(fabric, here, port.peer), *rest])
    return min(ways, key=len, default=None)


def _link(fabric: Fabric, a: str, b: str) -> Link:
    return next(link for link in fabric.links if {link.a, link.b} == {a, b})


def _owners(fabric: Fabric) -> Owners:
    owners: dict[IPAddress, list[str]] = {}
    for port, interfaces in fabric.addresses.items():
        for interface in interfaces:
            owners.setdefault(interface.ip, []).append(port.node)
    return owners


def _owner(owners: Owners, address: IPAddress) -> str:
    found = owners.get(address, [])
    assert len(found) == 1, f"{address} belongs to {found or 'nobody'}"
    return found[0]


def _neighbour(fabric: Fabric, owners: Owners, here: str, hop: IPAddress) -> str:
    networks = [
        interface.network for port in fabric.ports(here) for interface in fabric.addresses[port]
    ]
    assert any(hop in network for network in networks), f"{here} has no neighbour {hop}"
    return _owner(owners, hop)
