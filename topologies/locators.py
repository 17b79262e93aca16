"""Locators on the underlay (`nve.ila`): the prefix of each server, and the neighbour that leads
there.

Server number n has fd10:0:n::/48.  Routers have a static route to each, along the shortest paths to
the server's VTEP; an NVE sends packets for another NVE to that NVE's MAC address, or to that of the
gateway towards it.

Routers also have a route to each SIR prefix, for their errors (`controller.core.router_errors`): to
an NVE on a link of theirs, or else towards the first NVE.  Any NVE can take an error.
"""

from collections.abc import Iterable, Mapping
from ipaddress import IPv6Address, IPv6Network

from nve import ila
from nve.model import Mac, Vtep
from topologies.addressing import neighbours
from topologies.spec import Fabric, Route


def servers(fabric: Fabric) -> Mapping[str, IPv6Network]:
    """Return the prefix of each NVE's locators."""
    return {nve: ila.server(number) for number, nve in enumerate(fabric.nves, start=1)}


def routes(fabric: Fabric, router: str) -> tuple[Route, ...]:
    """Return a router's routes to all locators.  Raises ValueError if VTEPs have no IPv6
    addresses.
    """
    return tuple(
        Route(prefix, _next_hops(fabric, router, fabric.vteps[nve]))
        for nve, prefix in servers(fabric).items()
    )


def sir_routes(fabric: Fabric, router: str, prefixes: Iterable[IPv6Network]) -> tuple[Route, ...]:
    """Return a router's routes to SIR prefixes.  Raises ValueError as `routes` does."""
    to_nves = [(vtep, _next_hops(fabric, router, vtep)) for vtep in fabric.vteps.values()]
    beside = (hops for vtep, hops in to_nves if hops == (vtep,))
    _, towards_the_first = to_nves[0]
    hops = next(beside, towards_the_first)
    return tuple(Route(prefix, hops) for prefix in prefixes)


def next_hops(fabric: Fabric, here: str) -> dict[str, Mac]:
    """Return the MAC address to which an NVE sends packets for each other NVE, by that NVE's
    name.
    """
    macs = {address: mac for _, address, mac in neighbours(fabric, here)}
    others = (nve for nve in fabric.nves if nve != here)
    return {nve: macs[_next_hops(fabric, here, fabric.vteps[nve])[0]] for nve in others}


def _next_hops(fabric: Fabric, here: str, vtep: Vtep) -> tuple[IPv6Address, ...]:
    if vtep.version != 6:
        raise ValueError(f"{vtep} is no IPv6 address; locators need an IPv6 underlay")
    for route in fabric.routes[here]:
        if vtep in route.destination:
            return tuple(hop for hop in route.next_hops if isinstance(hop, IPv6Address))
    return (vtep,)
