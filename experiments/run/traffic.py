"""A scenario's traffic on a data centre: its workloads, started in step."""

import subprocess
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from experiments.catalogue import WORKLOADS
from experiments.measure.event_log import EventLog
from experiments.measure.rows import PACKETS
from experiments.measure.trace import TraceEvent
from experiments.scenario.schema import Scenario
from experiments.scenario.traffic import FlowSpec
from experiments.workloads import Stage, TellsEvents, TellsProgress, Workload
from nve.linux.wait import sleep_until, wait_until
from nve.model import IPAddress
from topologies.emulation.data_centre import DataCentre

REACHABLE_TIMEOUT_S = 60.0
LEAD_S = 0.2
"""The time between telling the first workload when to begin and that time: enough to tell all."""


@dataclass(frozen=True)
class Measured:
    """What a run's traffic measured."""

    tables: Mapping[str, pd.DataFrame]
    """The tables by kind of workload; a kind that has measured nothing has none."""
    packets: pd.DataFrame
    """The packets of the probes; empty if there are none."""
    problems: list[str]
    facts: Mapping[str, Any]
    """Facts for the manifest."""


class RunTraffic:
    """The traffic of a run.

    Used as `launch`, `begin` and, after the experiment, `collect`; `stop` is safe at any time.
    """

    def __init__(
        self, data_centre: DataCentre, scenario: Scenario, directory: Path, log: EventLog
    ) -> None:
        self._data_centre = data_centre
        self._log = log
        self._flows = scenario.flows
        self._stage = Stage(
            {vm.name: vm for vm in scenario.vms()},
            data_centre.fabric,
            scenario.duration_s,
            scenario.seed,
            directory,
            data_centre.in_vm,
            data_centre.in_node,
            _Names().unique,
            {
                name: (
                    task.addresses_at(data_centre.vms[task.on].spec.nve)
                    if task.multipath
                    else task.addresses_in(task.on)
                )
                for name, task in scenario.tasks.items()
                if not task.has_a_name
            },
            _named(scenario),
        )
        self._workloads: dict[str, Workload] = {
            kind: WORKLOADS.get(kind).prepare(
                [sent for sent in scenario.traffic if sent.kind == kind], self._stage
            )
            for kind in dict.fromkeys(sent.kind for sent in scenario.traffic)
        }

    def await_reachable(self) -> None:
        """Return when every flow's destination answers its source, so that all caches are warm.

        Flows are tried one after the other, so that the trace of every run begins in the same way.
        """
        for flow in self._flows:
            wait_until(partial(self._unreachable, flow), REACHABLE_TIMEOUT_S)

    def _unreachable(self, flow: FlowSpec) -> str | None:
        address = self._stage.address(flow.destination, flow.family)
        ping = self._data_centre.in_vm(
            flow.source,
            ["ping", "-q", "-c", "1", "-W", "1", address],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        if ping.wait() == 0:
            return None
        return f"{flow.destination} does not answer a ping of {flow.source} over {flow.family}"

    def launch(self) -> None:
        for workload in self._workloads.values():
            workload.launch()

    def begin(self) -> int:
        """Let everything start to send; return that time in ns since the epoch."""
        start_ns = time.time_ns() + int(LEAD_S * 1e9)
        workloads = list(self._workloads.values())
        with ThreadPoolExecutor(max(1, len(workloads))) as told:
            for begun in [told.submit(workload.begin, start_ns) for workload in workloads]:
                begun.result()
        sleep_until(start_ns)
        return start_ns

    def hear(self) -> None:
        """Add the events of workloads to the log; call this about once a second."""
        for workload in self._workloads.values():
            if isinstance(workload, TellsEvents):
                self._tell(workload.new_events())

    def _tell(self, events: Iterable[TraceEvent]) -> None:
        for event in events:
            self._log.append(event)

    def so_far(self) -> list[str]:
        """Return what is known of the traffic while it flows, in a few words for each kind."""
        telling = (each for each in self._workloads.values() if isinstance(each, TellsProgress))
        return [words for each in telling if (words := each.so_far())]

    def collect(self) -> Measured:
        """Wait for the end and collect everything.

        Workloads that end by themselves come first, so that the others last as long as these.
        """
        ending = sorted(self._workloads.items(), key=lambda each: not each[1].ends_by_itself)
        collected = {kind: workload.collect() for kind, workload in ending}
        self._tell(event for each in collected.values() for event in each.events)
        tables = {kind: each.table for kind, each in collected.items() if each.table is not None}
        rows_of = {kind: WORKLOADS.get(kind).ROWS for kind in tables}
        probed = [table for kind, table in tables.items() if rows_of[kind] is PACKETS]
        return Measured(
            {kind: table for kind, table in tables.items() if rows_of[kind] is not PACKETS},
            probed[0] if probed else PACKETS.frame([]),
            [problem for each in collected.values() for problem in each.problems],
            {key: value for each in collected.values() for key, value in each.facts.items()},
        )

    def stop(self) -> None:
        for workload in self._workloads.values():
            workload.stop()


def _named(scenario: Scenario) -> dict[str, tuple[str, IPAddress]]:
    """Return the tasks that are found by a name: the name, and the address of its server."""
    if scenario.name_server is None:
        return {}
    spec = scenario.name_server
    server = next(vm.ipv4 for vm in scenario.vms() if vm.name == spec.on)
    named = (name for name, task in scenario.tasks.items() if task.has_a_name)
    return {name: (f"{name}.{spec.zone}", server) for name in named}


class _Names:
    """Makes names of flows unique: a second flow between the same ends gets `#2` behind its
    name.
    """

    def __init__(self) -> None:
        self._times: Counter[str] = Counter()

    def unique(self, name: str) -> str:
        self._times[name] += 1
        return name if self._times[name] == 1 else f"{name}#{self._times[name]}"
