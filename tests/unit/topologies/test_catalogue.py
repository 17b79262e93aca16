"""A topology is one file in the folder; the catalogue finds it there."""

import subprocess
import sys

import pytest

from topologies import catalogue


def test_finds_the_topologies() -> None:
    assert {"star", "leaf-spine", "two-site"} <= set(catalogue.names())


@pytest.mark.parametrize("kind", catalogue.names())
def test_each_says_what_it_is_and_builds_with_its_defaults(kind: str) -> None:
    topology = catalogue.get(kind)

    assert topology.kind == kind
    assert topology.says.endswith(".")
    assert len(topology.build(topology.parameters()).nves) >= 2


@pytest.mark.parametrize("kind", catalogue.names())
def test_each_takes_a_link_and_an_underlay(kind: str) -> None:
    topology = catalogue.get(kind)
    parameters = topology.parameters.model_validate(
        {"link": {"delay_ms": 3, "rate_mbit": 100}, "underlay": "ipv6"}
    )

    built = topology.build(parameters)

    assert all(vtep.version == 6 for vtep in built.vteps.values())
    for nve in built.nves:
        (link,) = (link for link in built.links if nve in (link.a, link.b))
        assert link.spec.delay_ms == 3


@pytest.mark.parametrize("kind", catalogue.names())
def test_each_gives_an_nve_a_link_of_its_own(kind: str) -> None:
    """So that the ways over source and destination are not equally long."""
    topology = catalogue.get(kind)
    parameters = topology.parameters.model_validate({"links": {"nve2": {"delay_ms": 7}}})

    built = topology.build(parameters)

    own = {nve: link for nve in built.nves for link in built.links if nve in (link.a, link.b)}
    assert {nve for nve, link in own.items() if link.spec.delay_ms == 7} == {"nve2"}


def test_an_unknown_topology_is_answered_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"no topology 'no-such'; there are .*star"):
        catalogue.get("no-such")


def test_looking_around_does_not_import_mininet() -> None:
    look = "import sys; from topologies import catalogue; catalogue.names(); print(*sys.modules)"

    imported = subprocess.run([sys.executable, "-c", look], capture_output=True, check=True)

    assert b"pydantic" in imported.stdout
    assert b"mininet" not in imported.stdout
