"""Addresses never collide, and routes lead everywhere: for underlays of any shape and size."""

from itertools import pairwise, permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nve.model import IPAddress
from tests.helpers.underlay import paths
from topologies import leaf_spine, star, two_site
from topologies.addressing import fabric, neighbours
from topologies.spec import Fabric, Link, Node, NodeKind, Port

families = st.sampled_from(["ipv4", "ipv6"])

fabrics = st.one_of(
    st.builds(star.Parameters, nves=st.integers(2, 20), underlay=families).map(star.build),
    st.builds(
        leaf_spine.Parameters,
        leaves=st.integers(1, 6),
        spines=st.integers(1, 4),
        nves_per_leaf=st.integers(1, 3),
        underlay=families,
    ).map(leaf_spine.build),
    st.builds(two_site.Parameters, nves_per_site=st.integers(1, 8), underlay=families).map(
        two_site.build
    ),
)


@given(fabrics)
def test_no_two_interfaces_share_an_address(built: Fabric) -> None:
    addresses = [address.ip for port in built.addresses.values() for address in port]
    assert len(addresses) == len(set(addresses))
    assert len(built.macs) == len(set(built.macs.values())) == 2 * len(built.links)


@given(fabrics)
def test_every_routed_port_has_one_address_of_each_family(built: Fabric) -> None:
    routed = {port for port in built.macs if built.kind(port.node) != "switch"}
    assert set(built.addresses) == routed
    for interfaces in built.addresses.values():
        assert [interface.version for interface in interfaces] == [4, 6]


@given(fabrics)
def test_each_nve_has_a_vtep_of_the_family_on_its_uplink(built: Fabric) -> None:
    assert tuple(built.vteps) == built.nves
    for nve, vtep in built.vteps.items():
        assert f"ipv{vtep.version}" == built.family
        assert vtep in [interface.ip for interface in built.addresses[built.uplink(nve)]]


@given(fabrics)
def test_every_vtep_is_reached_in_both_families(built: Fabric) -> None:
    for source, target in permutations(built.nves, 2):
        for interface in built.addresses[built.uplink(target)]:
            ways = paths(built, source, interface.ip)
            assert ways
            assert len({len(way) for way in ways}) == 1
            assert all(way[-1] == target for way in ways)


@given(fabrics)
def test_nothing_is_forwarded_through_an_nve(built: Fabric) -> None:
    for source, target in permutations(built.nves, 2):
        for way in paths(built, source, built.vteps[target]):
            assert not set(way[1:-1]) & set(built.nves)


@given(fabrics)
def test_an_nve_has_a_single_next_hop(built: Fabric) -> None:
    for nve in built.nves:
        assert all(len(route.next_hops) == 1 for route in built.routes[nve])


@given(fabrics)
def test_neighbours_are_who_shares_the_subnet(built: Fabric) -> None:
    for node in built.routes:
        expected: set[tuple[Port, IPAddress]] = {
            (own, interface.ip)
            for own in built.ports(node)
            for port, interfaces in built.addresses.items()
            for interface in interfaces
            if port != own and any(interface.ip in mine.network for mine in built.addresses[own])
        }
        found = neighbours(built, node)
        assert {(own, address) for own, address, _ in found} == expected
        assert len(found) == len(expected)


def test_the_spines_share_the_load() -> None:
    built = leaf_spine.build(leaf_spine.Parameters(leaves=2, spines=3))

    assert len(paths(built, "nve1", built.vteps["nve2"])) == 3


def draw(drawing: str) -> Fabric:
    """A fabric from its links; a name's first letter says what it is: n(ve), s(witch), r(outer)."""
    kinds: dict[str, NodeKind] = {"n": "nve", "s": "switch", "r": "router"}
    links = [Link(a, b) for a, _, b in (pair.partition("-") for pair in drawing.split())]
    names = dict.fromkeys(name for link in links for name in (link.a, link.b))
    return fabric([Node(name, kinds[name[0]]) for name in names], links, "ipv4")


def test_switches_in_a_row_are_one_subnet() -> None:
    built = draw("n1-s1 s1-s2 s2-n2 s2-n3")

    assert {str(vtep) for vtep in built.vteps.values()} == {"10.1.0.1", "10.1.0.2", "10.1.0.3"}
    assert all(not routes for routes in built.routes.values())


@pytest.mark.parametrize(
    ("drawing", "complaint"),
    [
        ("n1-s1 n2-s1 n1-s2", "NVE n1 has 2 underlay links"),
        ("n1-n2", "joins two NVEs"),
        ("n1-s1 n2-s1 s1-s1", "two different nodes"),
        ("n1-s1 n2-s1 s1-n1", "only once"),
        ("n1-s1 n2-s2", "nothing leads from"),
        ("n1-r1 n2-r2", "nothing leads from"),
        ("n1-s1 s1-s2 s2-s3 s3-s1 n2-s3", "switches s1, s2, s3 are linked in a loop"),
    ],
)
def test_what_is_no_underlay_is_refused(drawing: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        draw(drawing)


def test_a_link_to_nowhere_and_a_doubled_name_are_refused() -> None:
    with pytest.raises(ValueError, match="leads to core, which is no node"):
        fabric([Node("n1", "nve")], [Link("n1", "core")], "ipv4")
    with pytest.raises(ValueError, match="two nodes are called n1"):
        fabric([Node("n1", "nve"), Node("n1", "nve")], [], "ipv4")


@pytest.mark.thorough
def test_a_large_underlay_fits_the_address_plan() -> None:
    parameters = leaf_spine.Parameters(leaves=16, spines=8, nves_per_leaf=4)
    assert len(leaf_spine.build(parameters).links) == 192


def test_an_underlay_larger_than_the_address_plan_is_refused() -> None:
    routers = [Node(f"r{number}", "router") for number in range(258)]
    row = [Link(a.name, b.name) for a, b in pairwise(routers)]
    with pytest.raises(ValueError, match="257 subnets is too large"):
        fabric(routers, row, "ipv4")
