"""What a scenario needs of the machine it runs on, computed beforehand (pure).

Each figure is what runs were measured to take, without a reserve: a scenario that needs more than
the machine has would fail, and is refused before anything is built; one that needs most of it gets
a warning.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from experiments import needs
from experiments.scenario.schema import Scenario

TIGHT = 0.8
"""The share of what the machine has above which there is a warning."""
_MIB = 1 << 20

# Memory, in MiB: of the runner with its libraries and the control plane; of an edge; of a node's
# shell; of a VM's sender or receiver of probes.  36 VMs that all send to all took 1,118 MiB, the
# 4 VMs of `lossless` 362.
_RUNNER_MIB, _EDGE_MIB, _NODE_MIB, _PROBE_MIB = 300, 15, 2, 11
_PACKET_MEMORY_BYTES = 300
"""The memory per packet while the rows of senders and receivers are joined."""
_SAMPLES_BYTES, _ROW_BYTES = 56, 20
"""On disk: a sent and a received packet until they are joined; then their row."""
_RESULT_MIB = 5
"""The files of a run without its packets, its figures and its report."""
_CAPTURED_BYTES, _CAPTURED_BY = 110, 2
"""The octets before a probe's payload in a tunnel and in a capture; captured at two NVEs."""

# Files that the runner has open: its own, of a node, of a VM's probes, and of a VM's place at an
# NVE, which needs most with `hold` and `end_marker`.  The same runs had 355 and 98.
_FILES, _FILES_OF_A_NODE, _FILES_OF_A_VM, _FILES_OF_A_PLACE = 30, 3, 4, 6


@dataclass(frozen=True)
class Needs:
    """The needs of scenarios that are run one after the other."""

    open_files: int
    memory_mib: int
    disk_mib: int
    made_of: str
    """What the amount is of."""


@dataclass(frozen=True)
class Available:
    """What the machine has for a run.  None: unknown."""

    open_files: int | None
    memory_mib: int | None
    disk_mib: int | None
    disk: str = "the result"
    """What the disk is for."""


@dataclass(frozen=True)
class Fit:
    """Why something cannot be run, and why it may fail: sentences with the remedy."""

    refusals: Sequence[str] = ()
    warnings: Sequence[str] = ()


def of(scenarios: Sequence[Scenario], *, pcap: bool = False) -> Needs:
    """Return the needs of scenarios: results add up, all else is needed for one run at a time."""
    packets = [_packets(each) for each in scenarios]
    octets = sum(packets) * _ROW_BYTES + max(packets) * _SAMPLES_BYTES
    if pcap:
        octets += sum(map(_captured_bytes, scenarios))
    vms = max(len(each.vms()) for each in scenarios)
    return Needs(
        max(map(_open_files, scenarios)),
        max(map(_memory_mib, scenarios)),
        len(scenarios) * _RESULT_MIB + octets // _MIB,
        f"{vms:,} VMs, {sum(packets):,} packets",
    )


def fit(needed: Needs, available: Available) -> Fit:
    """Return whether there is enough of everything."""
    smaller = "shorten duration_s, lower rate_pps, or have fewer VMs"
    found = [
        _compared(
            f"MiB of memory ({needed.made_of})",
            needed.memory_mib,
            available.memory_mib,
            f"free some, {smaller}",
        ),
        _compared(
            f"MiB of disk for {available.disk} ({needed.made_of})",
            needed.disk_mib,
            available.disk_mib,
            f"make room there, name another place with --out, {smaller}",
        ),
        _compared(
            f"open files ({needed.made_of})",
            needed.open_files,
            available.open_files,
            "raise the hard limit (ulimit -Hn), or have fewer VMs that visit fewer NVEs",
        ),
    ]
    compared = [each for each in found if each]
    return Fit(
        [told for told, is_enough in compared if not is_enough],
        [told for told, is_enough in compared if is_enough],
    )


def _compared(what: str, need: int, there: int | None, remedy: str) -> tuple[str, bool] | None:
    """Return a sentence and whether there is enough; None if there is plenty."""
    if there is None or need <= there * TIGHT:
        return None
    return f"this needs about {need:,} {what}, and there are {there:,}; {remedy}", need <= there


def _packets(scenario: Scenario) -> int:
    return sum(sent.packets(scenario.duration_s) for sent in scenario.traffic)


def _captured_bytes(scenario: Scenario) -> int:
    return _CAPTURED_BY * sum(
        sent.packets(scenario.duration_s) * (getattr(sent, "size_bytes", 0) + _CAPTURED_BYTES)
        for sent in scenario.traffic
    )


def _memory_mib(scenario: Scenario) -> int:
    fabric = scenario.topology.fabric()
    senders = {flow.source for flow in scenario.flows}
    receivers = {flow.destination for flow in scenario.flows}
    return (
        _RUNNER_MIB
        + _NODE_MIB * (len(fabric.nodes) + len(scenario.vms()))
        + _EDGE_MIB * len(fabric.nves)
        + _PROBE_MIB * (len(senders) + len(receivers))
        + _packets(scenario) * _PACKET_MEMORY_BYTES // _MIB
        + needs.guest_memory_mb(scenario)
    )


def _open_files(scenario: Scenario) -> int:
    nodes = len(scenario.topology.fabric().nodes) + len(scenario.vms())
    places = {(vm.name, vm.nve) for vm in scenario.vms()}
    places |= {(move.vm, move.to) for move in scenario.moves}
    return (
        _FILES
        + _FILES_OF_A_NODE * nodes
        + _FILES_OF_A_VM * len(scenario.vms())
        + _FILES_OF_A_PLACE * len(places)
    )


NEIGHBOURS_OF_A_NODE = 4
"""A node's further neighbours: multicast groups that the kernel reports to, and the like."""
NEIGHBOURS_OF_OTHERS = 256
"""Entries for neighbours that are not of this scenario but share the table."""
USUAL_NEIGHBOURS = 512
"""What Linux allows by default (gc_thresh2); a scenario that needs less changes nothing."""


def neighbours(scenario: Scenario, family: str) -> int:
    """Return how many entries the kernel's one table of neighbours has to have room for.

    A VM has an entry for each VM that it sends to, which answers and so has one as well.  Without
    traffic, a user at the prompt may have all VMs of a network talk to all (`pingall`).
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


BACKLOG: Mapping[str, int] = {"net/core/netdev_max_backlog": 10_000}
"""Packets that may wait for one processor: where all that comes by a cable is taken in by one, a
burst is not to overflow its queue (`nve.linux.steering`).  A run goes on where it stays as it is.
"""


def settings(scenario: Scenario) -> Mapping[str, int]:
    """Return the machine's settings that have to be that high, by their path below /proc/sys.

    Above the second threshold the kernel drops entries that may be needed again, above the third it
    drops packets.
    """
    needed: dict[str, int] = {}
    for version, family in ((4, "ipv4"), (6, "ipv6")):
        if (entries := neighbours(scenario, family)) > USUAL_NEIGHBOURS:
            place = f"net/ipv{version}/neigh/default"
            needed |= {f"{place}/gc_thresh1": entries, f"{place}/gc_thresh2": entries}
            needed[f"{place}/gc_thresh3"] = 2 * entries
    return needed
