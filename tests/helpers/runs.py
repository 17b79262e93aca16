"""Scenarios and recorded runs for system tests: small, and on real parts."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.measure import results
from experiments.measure.recording import Recorder
from experiments.measure.results import Result
from experiments.run.run import Options, RunOutcome, run
from experiments.scenario import load
from experiments.scenario.load import resolve
from experiments.scenario.schema import Scenario
from experiments.scenario.yaml_source import read

FLOW_RATE_PPS = 500
END_MARKER_S = 30
"""Other work on the machine does not delay a marker for longer, and so does not cost order."""
WHERE = {"vm1": "nve1", "vm2": "nve1", "vm3": "nve2", "vm4": "nve3"}
PROBES = [("vm2", "ipv4"), ("vm3", "ipv6"), ("vm4", "ipv4"), ("vm4", "ipv6")]


def scenario(**changes: Any) -> Scenario:
    """Return a star of three NVEs, one VM that moves from nve1 to nve2, a correspondent on each
    NVE.

    `changes` are dotted keys with `__` for the dots: `overlay__in_flight="drop"`.
    """
    content = {
        "name": "test",
        "topology": {"kind": "star", "nves": 3, "link": {"delay_ms": 1}},
        "control": {"delay_ms": 1},
        "tenants": [{"vni": 5000, "vms": WHERE}],
        "overlay": {"idle_s": 1, "end_marker_s": END_MARKER_S},
        "traffic": [probe(*ends) for ends in PROBES],
        "moves": [{"at_s": 1, "vm": "vm1", "to": "nve2", "pause_ms": 50}],
        "duration_s": 4,
    }  # fmt: skip
    return resolve(
        content, "test", {key.replace("__", "."): value for key, value in changes.items()}
    )


def packaged(name: str, variant: str, changes: Mapping[str, Any]) -> Scenario:
    """Return a variant of a scenario that comes with vmmlab; `changes` precede those of the
    variant.
    """
    file = load.find(name)
    content = read(file)
    whole = {**content, "variants": {}}
    return resolve(whole, str(file), {**content["variants"][variant], **changes})


def probe(source: str, family: str, to: str = "vm1") -> dict[str, Any]:
    return {
        "kind": "udp-probe",
        "from": source,
        "to": to,
        "family": family,
        "rate_pps": FLOW_RATE_PPS,
    }


def recorded(wanted: Scenario, out: Path) -> tuple[RunOutcome, Result]:
    """Return the outcome and the result of a real run."""
    with Recorder.create(out) as recorder:
        outcome = run(wanted, recorder.run(), Options())
    return outcome, results.load(out)


def times_of(result: Result, event: str) -> list[int]:
    """Return when events of that name happened, in nanoseconds."""
    return [found.t_ns for found in result.events if found.name == event]
