"""Every NVE on one underlay switch: the smallest data centre, one subnet, no router."""

from pydantic import Field

from topologies.addressing import fabric
from topologies.spec import Fabric, Link, Node, UnderlayParameters

SAYS = "Every NVE on one underlay switch, in one subnet."


class Parameters(UnderlayParameters):
    nves: int = Field(default=3, ge=2, le=64, description="how many NVEs")


def build(parameters: Parameters) -> Fabric:
    """Link nve1, nve2, … to the switch `core`."""
    nves = [Node(f"nve{number}", "nve") for number in range(1, parameters.nves + 1)]
    links = [Link(nve.name, "core", parameters.link_of(nve.name)) for nve in nves]
    return fabric([*nves, Node("core", "switch")], links, parameters.underlay)
