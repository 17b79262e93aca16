"""The walk through a fabric: it arrives where routes lead, and notices where they do not."""

from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest

from tests.helpers.underlay import delay_ms, paths
from topologies import leaf_spine, star, two_site
from topologies.spec import LinkSpec, Route

FABRIC = leaf_spine.build(leaf_spine.Parameters(leaves=2, spines=2))
DESTINATION = FABRIC.vteps["nve2"]


def test_follows_every_equal_cost_path() -> None:
    assert paths(FABRIC, "nve1", DESTINATION) == [
        ["nve1", "leaf1", "spine1", "leaf2", "nve2"],
        ["nve1", "leaf1", "spine2", "leaf2", "nve2"],
    ]


def test_notices_a_missing_route() -> None:
    broken = replace(FABRIC, routes={**FABRIC.routes, "spine2": ()})

    with pytest.raises(AssertionError, match="spine2 has 0 routes"):
        paths(broken, "nve1", DESTINATION)


def test_notices_a_loop() -> None:
    back = ip_address("10.3.0.1")  # leaf1, as seen from spine1
    routes = (Route(ip_network("10.2.0.0/16"), (back,)),)
    broken = replace(FABRIC, routes={**FABRIC.routes, "spine1": routes})

    with pytest.raises(AssertionError, match="loop"):
        paths(broken, "nve1", DESTINATION)


def test_notices_a_next_hop_that_is_no_neighbour() -> None:
    far_away = (Route(ip_network("10.2.0.0/16"), (DESTINATION,)),)
    broken = replace(FABRIC, routes={**FABRIC.routes, "nve1": far_away})

    with pytest.raises(AssertionError, match="nve1 has no neighbour"):
        paths(broken, "nve1", DESTINATION)


def test_adds_up_delays_over_switches() -> None:
    parameters = star.Parameters(nves=2, link=LinkSpec(delay_ms=1.5))

    assert delay_ms(star.build(parameters), "nve1", "nve2") == 3.0


def test_adds_up_delays_over_routers() -> None:
    parameters = two_site.Parameters(link=LinkSpec(delay_ms=1), wan=LinkSpec(delay_ms=20))

    assert delay_ms(two_site.build(parameters), "nve1", "nve4") == 24.0
