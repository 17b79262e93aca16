"""Two sites, a switch and a border router each, joined by a WAN link.

Each site is a subnet.  A VM that moves to the other site takes its traffic across the WAN, or away
from it: the delay of its flows changes for good, not only during the move.
"""

from pydantic import Field

from topologies.addressing import fabric
from topologies.spec import Fabric, Link, LinkSpec, Node, UnderlayParameters

SAYS = "Two sites, a subnet each, joined by a slow WAN link between their border routers."


class Parameters(UnderlayParameters):
    nves_per_site: int = Field(default=2, ge=1, le=32, description="how many NVEs at each site")
    wan: LinkSpec = Field(
        default=LinkSpec(delay_ms=10, rate_mbit=100), description="the link between the sites"
    )


def build(parameters: Parameters) -> Fabric:
    """Put nve1 … at `site1` behind `edge1`, the others at `site2` behind `edge2`."""
    count = parameters.nves_per_site
    nves = [Node(f"nve{number}", "nve") for number in range(1, 2 * count + 1)]
    sites = [Node("site1", "switch"), Node("site2", "switch")]
    edges = [Node("edge1", "router"), Node("edge2", "router")]
    links = [
        *(Link(nve.name, sites[place // count].name, parameters.link_of(nve.name))
          for place, nve in enumerate(nves)),
        *(Link(site.name, edge.name, parameters.link)
          for site, edge in zip(sites, edges, strict=True)),
        Link("edge1", "edge2", parameters.wan),
    ]  # fmt: skip
    return fabric([*nves, *sites, *edges], links, parameters.underlay)
