"""Runs trials of a failure at a moment of a move, on real parts, and observes the outcome.

Each pair of OUTCOMES is a run of its own: vm1 goes from nve1 to nve2, with a correspondent behind
each of three NVEs.  Of *bystanders*, only flows whose NVEs have not failed are looked at: they must
not notice anything.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.errors import RunError
from experiments.measure import results
from experiments.measure.recording import Recorder
from experiments.measure.results import Result
from experiments.overlays.nvo3 import FAULTS, NVA_DIES
from experiments.run.run import Options, run
from experiments.scenario.failures import (
    DESTINATION,
    OF_ONE_NVE,
    OTHER,
    SOURCE,
    Case,
    FailureKind,
    Moment,
    outcomes_with,
    post_copy_outcomes_with,
    transfer_outcomes_with,
)
from experiments.scenario.load import resolve
from experiments.scenario.schema import Scenario

OUTCOMES = outcomes_with(FAULTS)
TRANSFER_OUTCOMES = transfer_outcomes_with(FAULTS)
POST_COPY_OUTCOMES = post_copy_outcomes_with(FAULTS)
KINDS = [*FailureKind, *FAULTS]
FOR_S: dict[str, float] = {
    FailureKind.NVE_DIES: 2.0,
    NVA_DIES: 3.0,
    FailureKind.CONTROL_CUT: 10.0,
    FailureKind.CONTROL_SLOW: 3.0,
    FailureKind.CONTROL_LOSSY: 3.0,
    FailureKind.UNDERLAY_PARTITION: 2.0,
    FailureKind.UNDERLAY_LOSSY: 2.0,
    FailureKind.SERVER_FULL: 2.0,
}
EXTENT: dict[str, dict[str, float]] = {
    FailureKind.CONTROL_SLOW: {"delay_ms": 100},
    FailureKind.CONTROL_LOSSY: {"loss_pct": 10},
    FailureKind.UNDERLAY_LOSSY: {"loss_pct": 90},
}
PLACES = {SOURCE: "nve1", DESTINATION: "nve2", OTHER: "nve3"}
TENANTS: list[dict[str, Any]] = [
    {"vni": 5000, "vms": {"vm1": "nve1", "vm2": "nve1", "vm3": "nve2", "vm4": "nve3"}},
    {"vni": 6000, "vms": {"by1": "nve1", "by2": "nve2", "by3": "nve3", "by4": "nve4"}},
]
FLOWS = [
    *(("vm2", "vm1", "ipv4"), ("vm3", "vm1", "ipv6"), ("vm4", "vm1", "ipv4")),
    ("vm1", "vm4", "ipv6"),
    *(("by1", "by4", "ipv4"), ("by2", "by4", "ipv6"), ("by4", "by3", "ipv4")),
]
WITH_END_MARKERS = {"overlay.end_marker": True}
"""A change of a trial; its outcome has to be the same."""
RATE_PPS = 100
MOVE_AT_S = 0.5
RECOVERY_S = 2.5
"""How long traffic goes on after the failure has ended, in seconds."""


def trial(case: Case, moment: Moment, for_s: float | None = None, **changes: Any) -> Scenario:
    """Return a scenario of one move with one failure."""
    kind, place = case
    lasts_s = for_s or FOR_S[kind]
    failure = {"kind": kind, "during": moment.value, "for_s": lasts_s, **EXTENT.get(kind, {})}
    if place in PLACES:
        failure["nve"] = PLACES[place]
    content = {
        "name": "failure",
        "topology": {"kind": "star", "nves": 4, "link": {"delay_ms": 1}},
        "control": {"delay_ms": 1},
        "tenants": TENANTS,
        "overlay": {"hold": True, "idle_s": 1},
        "traffic": [
            {"kind": "udp-probe", "from": a, "to": b, "family": family, "rate_pps": RATE_PPS}
            for a, b, family in FLOWS
        ],
        "moves": [{"at_s": MOVE_AT_S, "vm": "vm1", "to": "nve2", "pause_ms": 50}],
        "failures": [failure],
        "duration_s": MOVE_AT_S + lasts_s + RECOVERY_S,
    }
    return resolve(content, "trial", changes)


PATIENCE_S = 1.0
"""Of a transfer that does not get on."""
LONG_S = 3.0
"""The duration of a failure that is longer than a transfer waits."""
EARLY_S = 15.0
"""The same, where it begins before the destination's server has made room, which takes a while on a
busy machine."""
GUEST = {"memory_mb": 2, "writes": {"rate_mb_s": 2}, "service": True}
WITH_A_DISK = {**GUEST, "disk_mb": 1}
SLOW = {
    **{"bandwidth_mbit": 20, "downtime_limit_ms": 20, "max_iterations": 4},
    "patience_s": PATIENCE_S,
}
"""Several rounds, of 0.9 s and less, and a forced end."""
POST_COPY = {"kind": "post-copy", "bandwidth_mbit": 4, "patience_s": PATIENCE_S}
"""A transfer whose pages come for four seconds after the VM was resumed."""


def transfer_trial(case: Case, moment: Moment, transfer: Mapping[str, Any] = SLOW) -> Scenario:
    """Return a scenario of the move of a VM with a guest, and one failure.

    Besides probes, a client sends requests to the guest's service.
    """
    lasts_s = EARLY_S if moment in (Moment.REQUESTED, Moment.PREPARED) else LONG_S
    lasts_s = FOR_S[case[0]] if case[0] in FAULTS else lasts_s
    guest = WITH_A_DISK if case[0] == FailureKind.SERVER_FULL else GUEST
    tenants = [{"vni": 5000, "vms": {"vm1": {"nve": "nve1", "guest": guest}, "vm4": "nve3"}}]
    asking = {"kind": "service", "from": "vm4", "to": "vm1", "rate_rps": 50}
    move = {"at_s": MOVE_AT_S, "vm": "vm1", "to": "nve2", "transfer": dict(transfer)}
    copies_s = 5.0
    return trial(
        case,
        moment,
        lasts_s,
        tenants=tenants,
        traffic=[asking],
        moves=[move],
        duration_s=MOVE_AT_S + copies_s + lasts_s + RECOVERY_S,
        **{"topology.nves": 3},
    )


@dataclass(frozen=True)
class Observed:
    """The outcome of a trial."""

    ending: str
    problems: list[str]
    lost: int
    """The lost packets to and from the VM that moved."""
    bystanders_lost: int
    """The lost packets of flows that concern neither the move nor a part that failed."""
    silence_ms: float
    """The longest silence of any correspondent of the VM."""


def observe(case: Case, problems: Sequence[str], result: Result) -> Observed:
    """Return the outcome of a recorded trial."""
    kind, place = case
    failed = {PLACES[place]} if kind in OF_ONE_NVE else set()
    homes = {vm: nve for tenant in TENANTS for vm, nve in tenant["vms"].items()}
    spared = [
        row
        for row in result.moves.to_dict("records")
        if row["role"] == "reference" and not failed & _nves(row["flow"], homes)
    ]
    concerned = result.moves[result.moves["role"] != "reference"]
    (ending,) = set(result.moves["outcome"])
    return Observed(
        str(ending),
        list(problems),
        int(concerned["lost"].sum()),
        sum(int(row["lost"]) for row in spared),
        float(concerned["blackout_ms"].max()),
    )


def _nves(flow: str, homes: dict[str, str]) -> set[str]:
    source, _, destination = flow.partition("/")[0].partition(">")
    return {homes[source], homes[destination]}


def carry_out(case: Case, scenario: Scenario, place: Path) -> Observed:
    """Run a trial and return its outcome."""
    try:
        with Recorder.create(place) as recorder:
            outcome = run(scenario, recorder.run(), Options())
    except RunError as error:
        return Observed("none", [str(error)], 0, 0, 0.0)
    return observe(case, outcome.problems, results.load(place))
