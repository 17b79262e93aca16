"""What the ways through an underlay delay."""

import pytest

from topologies import leaf_spine, star, two_site
from topologies.addressing import fabric
from topologies.spec import Fabric, Link, LinkSpec
from topologies.underlay_paths import UnderlayPaths


def delay_ms(built: Fabric, here: str, there: str) -> float:
    return UnderlayPaths(built).delay_ms(here, built.vteps[there])


def test_over_a_switch_both_cables_count() -> None:
    links = {"nve2": {"delay_ms": 3}}
    built = star.build(star.Parameters.model_validate({"link": {"delay_ms": 1}, "links": links}))

    assert delay_ms(built, "nve1", "nve2") == delay_ms(built, "nve2", "nve1") == 4
    assert delay_ms(built, "nve1", "nve3") == 2


def test_between_sites_the_wide_area_link_counts_too() -> None:
    built = two_site.build(two_site.Parameters(wan=LinkSpec(delay_ms=10)))

    within, between = delay_ms(built, "nve1", "nve2"), delay_ms(built, "nve1", "nve3")
    assert between == pytest.approx(within + 10)


@pytest.mark.parametrize(
    ("slow", "expected_ms"), [([], 4), (["spine1"], 4), (["spine1", "spine2"], 8)]
)
def test_of_several_ways_the_quickest_counts(slow: list[str], expected_ms: float) -> None:
    plain = leaf_spine.build(leaf_spine.Parameters(leaves=2, spines=2))
    links = [
        Link(link.a, link.b, LinkSpec(delay_ms=3 if {link.a, link.b} & set(slow) else 1))
        for link in plain.links
    ]
    built = fabric(plain.nodes, links, "ipv4")

    assert delay_ms(built, "nve1", "nve2") == expected_ms
