"""A routed leaf-spine fabric: each NVE in a subnet of its own, equal-cost paths over the spines.

A move between NVEs is a move across an L3 boundary of the underlay, which the tenant must not
notice (R4.1.7).
"""

from pydantic import Field

from topologies.addressing import fabric
from topologies.spec import Fabric, Link, Node, UnderlayParameters

SAYS = "Routed: NVEs below leaf routers, each in its own subnet, equal-cost paths over the spines."


class Parameters(UnderlayParameters):
    leaves: int = Field(default=3, ge=1, le=16, description="how many leaf routers")
    spines: int = Field(default=2, ge=1, le=8, description="how many spine routers")
    nves_per_leaf: int = Field(default=1, ge=1, le=4, description="how many NVEs below each leaf")


def build(parameters: Parameters) -> Fabric:
    """Link every leaf to every spine; nve1 … are below leaf1, the next ones below leaf2, and so
    on.
    """
    leaves = [Node(f"leaf{number}", "router") for number in range(1, parameters.leaves + 1)]
    spines = [Node(f"spine{number}", "router") for number in range(1, parameters.spines + 1)]
    places = [leaf for leaf in leaves for _ in range(parameters.nves_per_leaf)]
    nves = [Node(f"nve{number}", "nve") for number in range(1, len(places) + 1)]
    links = [
        *(
            Link(nve.name, leaf.name, parameters.link_of(nve.name))
            for nve, leaf in zip(nves, places, strict=True)
        ),
        *(Link(leaf.name, spine.name, parameters.link) for leaf in leaves for spine in spines),
    ]
    return fabric([*nves, *leaves, *spines], links, parameters.underlay)
