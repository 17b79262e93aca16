"""What a scenario needs of the machine it runs on, computed beforehand (pure)."""

from collections import defaultdict
from collections.abc import Iterator, Mapping

from experiments.scenario.schema import Scenario

NEIGHBOURS_OF_A_NODE = 4
"""Beside those that it talks to: groups that it tells the kernel's multicast, and the like."""
NEIGHBOURS_OF_OTHERS = 256
"""What is not of this scenario shares the table."""
USUAL_NEIGHBOURS = 512
"""What Linux allows without being told (gc_thresh2); a scenario that needs less changes nothing."""


def neighbours(scenario: Scenario, family: str) -> int:
    """How many entries the kernel's one table of neighbours has to have room for.

    A VM has an entry for each VM that it sends to, which answers and so has one as well.  Without
    traffic somebody is at a prompt, and may have all of a network talk to all (`pingall`).
    """
    peers: defaultdict[str, set[str]] = defaultdict(set)
    for a, b in _conversations(scenario, family):
        peers[a].add(b)
        peers[b].add(a)
    nodes = len(scenario.vms()) + len(scenario.topology.fabric().nodes)
    known = sum(len(those) for those in peers.values())
    return known + NEIGHBOURS_OF_A_NODE * nodes + NEIGHBOURS_OF_OTHERS


def _conversations(scenario: Scenario, family: str) -> Iterator[tuple[str, str]]:
    for flow in scenario.flows:
        if flow.family == family:
            yield flow.source, flow.destination
    if not scenario.flows:
        for tenant in scenario.tenants:
            for vm in tenant.vms:
                yield from ((vm, other) for other in tenant.vms if other != vm)


def settings(scenario: Scenario) -> Mapping[str, int]:
    """The machine's settings that have to be that high, by their path below /proc/sys.

    Above the second threshold the kernel throws entries away that may be needed again, above the
    third it drops packets.
    """
    needed: dict[str, int] = {}
    for version, family in ((4, "ipv4"), (6, "ipv6")):
        if (entries := neighbours(scenario, family)) > USUAL_NEIGHBOURS:
            place = f"net/ipv{version}/neigh/default"
            needed |= {f"{place}/gc_thresh1": entries, f"{place}/gc_thresh2": entries}
            needed[f"{place}/gc_thresh3"] = 2 * entries
    return needed
