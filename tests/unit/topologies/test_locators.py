"""Whose locators are reached by which neighbour."""

from dataclasses import replace
from ipaddress import IPv6Network

import pytest

from nve.model import RoutedNetwork, VmSpec
from tests.helpers.tenants import vm
from topologies import leaf_spine, locators, star, two_site
from topologies.addressing import neighbours
from topologies.configuration import Configuration
from topologies.spec import Fabric

SIR = IPv6Network("fd51::/64")
FABRICS = {
    "star": star.build(star.Parameters(underlay="ipv6")),
    "leaf-spine": leaf_spine.build(leaf_spine.Parameters(underlay="ipv6")),
    "two-site": two_site.build(two_site.Parameters(underlay="ipv6")),
}


@pytest.mark.shows("R4.2.2")
@pytest.mark.parametrize("fabric", FABRICS.values(), ids=FABRICS)
def test_every_locator_is_reached_from_everywhere(fabric: Fabric) -> None:
    """Walked from router to router, as each would send it, and in no circle."""
    owner = {mac: port.node for port, mac in fabric.macs.items()}
    for here in fabric.nves:
        for there, mac in locators.next_hops(fabric, here).items():
            prefix, node = locators.servers(fabric)[there], owner[mac]
            for _ in fabric.nodes:
                if node == there:
                    break
                macs = {address: mac for _, address, mac in neighbours(fabric, node)}
                (route,) = (
                    each for each in locators.routes(fabric, node) if each.destination == prefix
                )
                node = owner[macs[route.next_hops[0]]]
            assert node == there


@pytest.mark.shows("R4.2.2")
@pytest.mark.parametrize("fabric", FABRICS.values(), ids=FABRICS)
def test_from_every_router_a_sir_address_leads_to_an_nve(fabric: Fabric) -> None:
    """To one beside the router, if there is one."""
    owner = {mac: port.node for port, mac in fabric.macs.items()}
    for router in (node.name for node in fabric.nodes if node.kind == "router"):
        node, way = router, []
        while node not in fabric.nves:
            macs = {address: mac for _, address, mac in neighbours(fabric, node)}
            (route,) = locators.sir_routes(fabric, node, [SIR])
            node = owner[macs[route.next_hops[0]]]
            way.append(node)
            assert len(way) < len(fabric.nodes), "in a circle"
        nves_beside = {owner[mac] for _, _, mac in neighbours(fabric, router)} & {*fabric.nves}
        assert way[0] in nves_beside or not nves_beside


def test_over_an_ipv4_underlay_there_are_none() -> None:
    with pytest.raises(ValueError, match="locators need an IPv6 underlay"):
        locators.next_hops(star.build(star.Parameters()), "nve1")


def test_only_where_a_tenant_has_locators_routers_know_of_them() -> None:
    fabric = FABRICS["leaf-spine"]
    flat = vm("vm1", 1, "nve1")
    network = RoutedNetwork("ila", SIR)
    located = replace(vm("vm2", 2, "nve1"), routed=network)

    def told(*vms: VmSpec) -> list[str]:
        made = Configuration(fabric, vms, None)
        return [line for line in made.configure("leaf1") if "fd10:" in line or "fd51:" in line]

    assert told(flat) == []
    assert len(told(flat, located)) == len(fabric.nves) + 1
