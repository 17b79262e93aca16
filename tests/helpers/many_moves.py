"""A made-up result of many overlapping moves: one VM goes to and fro every 100 ms."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

import pandas as pd

from experiments.measure import metrics, totals
from experiments.measure.recording import Recorder
from experiments.measure.trace import TraceEvent
from tests.helpers import synthetic
from tests.helpers.packets import MS, START_NS, packets

HOMES = {"vm1": "nve1", "vm2": "nve1", "vm3": "nve3"}
EVERY_MS = 100
FLOWS = ("vm3>vm1/ipv4", "vm1>vm2/ipv6")


def events(moves: int) -> list[TraceEvent]:
    """Return the events of moves that settle 120 ms after their request: after the next is
    requested.
    """
    return [event for number in range(1, moves + 1) for event in _move(number)]


def _move(number: int) -> list[TraceEvent]:
    there = {"from": "nve1", "to": "nve2"} if number % 2 else {"from": "nve2", "to": "nve1"}
    asked = {"pause_ms": 10, "announce": "none", **there}
    steps: dict[int, tuple[str, dict[str, Any]]] = {
        0: ("move-requested", asked),
        2: ("vm-paused", {}),
        12: ("vm-resumed", {}),
        120: ("move-converged", {}),
        150: ("move-completed", {"packets_via_source_after_convergence": 0}),
    }
    return [
        TraceEvent(_at_ns(number) + at_ms * MS, "nva", name, "vm1", {"move": number, **details})
        for at_ms, (name, details) in steps.items()
    ]


def _at_ns(number: int) -> int:
    return START_NS + number * EVERY_MS * MS


def write_result(out: Path, moves: int = 20, lost: Collection[int] = ()) -> Path:
    """Write the result; `lost` are the numbers of the lost packets of the first flow."""
    count = (moves + 2) * EVERY_MS
    delays = [None if seq in lost else 1.0 for seq in range(count)]
    sent = pd.concat([packets(delays, FLOWS[0]), packets([2.0] * count, FLOWS[1])])
    trace = events(moves)
    with Recorder.create(out) as recorder:
        run = recorder.run()
        run.scenario({**synthetic.scenario("tunnel", 1000), "tenants": [{"vms": HOMES}]})
        run.manifest({"name": "many", "valid": True, "problems": []})
        run.events(trace)
        run.packets(sent)
        measured = metrics.table(sent, trace, HOMES)
        run.moves(measured)
        run.flows(totals.table(sent, measured))
    return out
