"""What figures need of a result: its runs, which of them are repeats, their flows and how they
look.

Runs that differ in nothing but the seed are repeats of one thing: they are pooled, and drawn as a
median and a range.  Packets are put in order once for all figures of a result.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt
import pandas as pd

from experiments.measure.attribution import FlowEndpoints
from experiments.measure.packets import NS_PER_MS, Samples, flows_of, lost_mask
from experiments.measure.results import Result
from experiments.measure.trace import MoveTrace, moves_of

NS_PER_S = 1e9
Floats = npt.NDArray[np.float64]

MOST_POINTS, SLOWEST_POINTS = 40_000, 4_000
"""The largest numbers of points of one run: more than can be seen only cost time and room."""


class TracedRun:
    """One run, with the values that several figures need."""

    def __init__(self, name: str, result: Result) -> None:
        self.name = name
        self.result = result

    @cached_property
    def flows(self) -> dict[str, Samples]:
        return flows_of(self.result.packets)

    @cached_property
    def lost(self) -> dict[str, npt.NDArray[np.bool_]]:
        waiting_ns = self.result.waiting_time_ns
        return {flow: lost_mask(samples, waiting_ns) for flow, samples in self.flows.items()}

    @cached_property
    def moves(self) -> list[MoveTrace]:
        return moves_of(self.result.events)

    @cached_property
    def start_ns(self) -> int:
        """When its traffic began; if no event says so, its first packet or its first event."""
        events = self.result.events
        began = [event.t_ns for event in events if event.name == "traffic-started"]
        sent = [int(samples.sent_ns[0]) for samples in self.flows.values() if len(samples)]
        return min(began or sent or [event.t_ns for event in events] or [0])

    @cached_property
    def end_s(self) -> float:
        """When the last packet was sent; for a run without packets, its last event."""
        sent = [int(samples.sent_ns[-1]) for samples in self.flows.values() if len(samples)]
        told = [event.t_ns for event in self.result.events]
        return max(self.seconds(max(sent or told or [self.start_ns])), 1e-3)

    def seconds(self, t_ns: float) -> float:
        return (t_ns - self.start_ns) / NS_PER_S

    def delays(self, flow: str, most: int | None = None) -> tuple[Floats, Floats]:
        """Return when the packets that arrived were sent (s), and their delays (ms).

        Of very many, these are every n-th and the slow ones, which matter most.
        """
        samples = self.flows[flow]
        sent_s = (samples.sent_ns[samples.arrived] - self.start_ns) / NS_PER_S
        delay_ms = samples.delay_ns / NS_PER_MS
        most = max(most or MOST_POINTS // len(self.flows), 100)
        if len(delay_ms) <= most:
            return sent_s, delay_ms
        usual = np.arange(0, len(delay_ms), -(-len(delay_ms) // most))
        few = min(SLOWEST_POINTS, most // 3)
        slow = np.argpartition(delay_ms, -few)[-few:]
        drawn: npt.NDArray[np.int64] = np.union1d(usual, slow)
        return sent_s[drawn], delay_ms[drawn]

    def lost_s(self, flow: str) -> Floats:
        """Return when the packets that were lost were sent, in seconds."""
        lost_ns = self.flows[flow].sent_ns[self.lost[flow]]
        return np.asarray((lost_ns - self.start_ns) / NS_PER_S, dtype=np.float64)


_TRACED: WeakKeyDictionary[Result, dict[str, TracedRun]] = WeakKeyDictionary()


def runs_of(result: Result) -> dict[str, TracedRun]:
    """Return the runs of a result by name, made once for all figures."""
    if result not in _TRACED:
        _TRACED[result] = {name: TracedRun(name, run) for name, run in result.runs.items()}
    return _TRACED[result]


def rows_of_runs(result: Result, table: str) -> pd.DataFrame:
    """Return the rows of a table of all runs that have it, with a column `run`."""
    found = [
        rows.assign(run=name)
        for name, run in runs_of(result).items()
        if (rows := getattr(run.result, table)) is not None
    ]
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame()


@dataclass(frozen=True)
class RunGroup:
    """Runs that are repeats of each other; often just one run."""

    label: str
    runs: tuple[TracedRun, ...]

    @property
    def title(self) -> str:
        return f"{self.label}: {len(self.runs)} runs pooled" if len(self.runs) > 1 else self.label


def groups_of(result: Result) -> list[RunGroup]:
    """Return the runs of a result, repeats together, in their order."""
    alike: dict[str, list[TracedRun]] = {}
    for run in runs_of(result).values():
        same = {key: value for key, value in run.result.scenario.items() if key != "seed"}
        alike.setdefault(json.dumps(same, sort_keys=True, default=str), []).append(run)
    found = []
    for runs in alike.values():
        if len(runs) == 1 or not all(_repeated(run.name) for run in runs):
            found += [RunGroup(run.name, (run,)) for run in runs]
        else:
            label = re.sub(r"-?\d+$", "", runs[0].name) or result.name
            found.append(RunGroup(label, tuple(runs)))
    return found


def _repeated(name: str) -> bool:
    """Return whether a name is one of `--repeat`: 1, 2 … or drop-1, drop-2 …"""
    return re.search(r"(^|-)\d+$", name) is not None


def title_of(result: Result, run: TracedRun) -> str:
    """Return the title of a single run; one of several repeats has its number and its seed."""
    for group in groups_of(result):
        if run in group.runs and len(group.runs) > 1:
            number = re.search(r"\d+$", run.name)
            seed = run.result.manifest.get("seed", run.result.scenario.get("seed", "?"))
            prefix = "" if group.label == result.name else f"{group.label}, "
            return f"{prefix}run {number.group() if number else run.name} (seed {seed})"
    return run.name


@dataclass(frozen=True)
class FlowLooks:
    """The look of each flow, the same in all panels of a figure.

    Flows of one pair of VMs share a colour, and each flow has its own marker.
    """

    numbers: Mapping[str, tuple[int, int]]
    """The number of each flow's colour, and of its marker."""

    @classmethod
    def of(cls, flows: Iterable[str]) -> "FlowLooks":
        pairs: dict[tuple[str, str], int] = {}
        numbers = {}
        for place, flow in enumerate(sorted(set(flows))):
            ends = FlowEndpoints.of(flow)
            pair = pairs.setdefault((ends.source, ends.destination), len(pairs))
            numbers[flow] = (pair, place)
        return cls(numbers)

    def __len__(self) -> int:
        return len(self.numbers)


def flow_looks(runs: Iterable[TracedRun]) -> FlowLooks:
    return FlowLooks.of(flow for run in runs for flow in run.flows)


def binned(at_s: Floats, values: Floats, edges: Floats) -> tuple[Floats, Floats, Floats]:
    """Return the median, the least and the greatest value in each bin; nan if a bin is empty."""
    places = np.digitize(at_s, edges) - 1
    order = np.argsort(places, kind="stable")
    places, values = places[order], values[order]
    middle, low, high = (np.full(len(edges) - 1, np.nan) for _ in range(3))
    starts = np.searchsorted(places, np.arange(len(edges)))
    for number in range(len(edges) - 1):
        here = values[starts[number] : starts[number + 1]]
        if len(here):
            middle[number], low[number], high[number] = np.median(here), here.min(), here.max()
    return middle, low, high
