"""What tunnels carry follows from the links below them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers.underlay import paths
from topologies import leaf_spine, star, two_site
from topologies.addressing import fabric
from topologies.mtu import VXLAN_OVERHEAD, tenant_mtu, tunnel_mtus
from topologies.spec import Fabric, Family, Link, LinkSpec


@pytest.mark.shows("R5.3")
@pytest.mark.parametrize(("family", "mtu"), [("ipv4", 1450), ("ipv6", 1430)])
def test_a_tenant_packet_fits_into_a_tunnel(family: Family, mtu: int) -> None:
    built = star.build(star.Parameters(underlay=family))

    assert tenant_mtu(built) == mtu
    assert set(tunnel_mtus(built).values()) == {mtu}


def test_a_wide_underlay_leaves_tenants_an_ethernets_mtu() -> None:
    built = star.build(star.Parameters(link=LinkSpec(mtu=9000)))

    assert set(tunnel_mtus(built).values()) == {8950}
    assert tenant_mtu(built) == 1500


@pytest.mark.shows("R5.3")
def test_the_narrowest_link_of_the_way_counts() -> None:
    built = star.build(star.Parameters.model_validate({"links": {"nve2": {"mtu": 1400}}}))

    assert tunnel_mtus(built) == {
        **dict.fromkeys([("nve1", "nve3"), ("nve3", "nve1")], 1450),
        **dict.fromkeys([("nve1", "nve2"), ("nve3", "nve2")], 1350),
        **dict.fromkeys([("nve2", "nve1"), ("nve2", "nve3")], 1350),
    }
    assert tenant_mtu(built) == 1350


@pytest.mark.shows("R4.1.7")
def test_a_wide_area_link_narrows_what_crosses_it() -> None:
    built = two_site.build(two_site.Parameters(wan=LinkSpec(mtu=1400)))
    mtus = tunnel_mtus(built)

    assert mtus["nve1", "nve2"] == mtus["nve4", "nve3"] == 1450
    assert mtus["nve1", "nve3"] == mtus["nve4", "nve2"] == 1350


def test_of_several_ways_the_narrowest_counts() -> None:
    """A router chooses by what is in the outer header, and any tunnel packet may take either."""
    wide = leaf_spine.build(leaf_spine.Parameters(leaves=2, spines=2))
    links = [
        Link(link.a, link.b, LinkSpec(mtu=1400)) if str(link) == "leaf2-spine2" else link
        for link in wide.links
    ]
    built = fabric(wide.nodes, links, "ipv4")

    assert len(paths(built, "nve1", built.vteps["nve2"])) == 2
    assert set(tunnel_mtus(built).values()) == {1350}


@pytest.mark.parametrize("mtu", [1349, 9001])
def test_a_link_refuses_an_mtu_and_says_which_it_takes(mtu: int) -> None:
    with pytest.raises(ValueError, match="give octets from 1350 to 9000"):
        LinkSpec(mtu=mtu)


def narrowed(built: Fabric, mtus: list[int]) -> Fabric:
    links = [
        Link(link.a, link.b, LinkSpec(mtu=mtus[place % len(mtus)]))
        for place, link in enumerate(built.links)
    ]
    return fabric(built.nodes, links, built.family)


@given(
    st.sampled_from(
        [
            star.build(star.Parameters(nves=4)),
            leaf_spine.build(leaf_spine.Parameters(leaves=3, nves_per_leaf=2, underlay="ipv6")),
            two_site.build(two_site.Parameters()),
        ]
    ),
    st.lists(st.integers(1350, 9000), min_size=1, max_size=9),
)
def test_no_tunnel_is_wider_than_a_link_of_its_way(built: Fabric, mtus: list[int]) -> None:
    changed = narrowed(built, mtus)
    overhead = VXLAN_OVERHEAD[changed.family]
    for (here, there), mtu in tunnel_mtus(changed).items():
        ends = [changed.link(changed.uplink(nve)).spec.mtu for nve in (here, there)]
        assert mtu <= min(ends) - overhead
        assert mtu + overhead in [link.spec.mtu for link in changed.links]
