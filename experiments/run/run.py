"""Runs a scenario on real parts and records what happened.

    data centre up -> overlay up -> VMs started -> everything reachable -> warm entries forgotten
    -> traffic begins -> moves at their times -> traffic ends -> all recorded -> everything down

`experiments.run.lab` builds and takes down; this module does what happens in between.
"""

import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments import doctor, machine, resources
from experiments.errors import RunError, UsageError
from experiments.machine import ROOT, Clock
from experiments.measure import kernel_counters, standby_costs, takeovers, totals
from experiments.measure.attribution import FlowEndpoints
from experiments.measure.metrics import table
from experiments.measure.recording import RunRecorder, is_disk_full
from experiments.measure.stalls import stalls
from experiments.measure.standby_costs import StandbyCost
from experiments.measure.takeovers import AnsweredRequest
from experiments.measure.trace import TraceEvent
from experiments.overlays import Overlay, OverlayError
from experiments.probes.fleet import ProbeError
from experiments.run.capture import Captures
from experiments.run.fault_injector import FaultInjector
from experiments.run.guests import shortfalls
from experiments.run.kernel_watch import KernelWatch, of_the_machine
from experiments.run.lab import Lab, Progress
from experiments.run.move_count import MoveCount
from experiments.run.schedule import Schedule
from experiments.run.table_checks import DETAILS_FILE, TableChecks, brief
from experiments.run.tasks import TaskSchedule
from experiments.run.traffic import Measured, RunTraffic
from experiments.scenario import layers
from experiments.scenario.failures import FailureKind
from experiments.scenario.load import as_mapping
from experiments.scenario.schema import Scenario
from experiments.workloads import WorkloadError
from nve.guest.machine import GuestError
from nve.hypervisor import freezer
from nve.linux.capabilities import kernel_datapath_available
from nve.linux.wait import wait_until

if TYPE_CHECKING:
    import pandas as pd

CLOCK_STEP_LIMIT_MS = 1.0
ON_THE_WAY_S = 0.3
"""How long messages between an NVE and its control plane may take, besides the delay between
them."""
TABLES_TIMEOUT_S = 15.0
"""How long messages may take to arrive, and NVEs to connect again to a lost control plane."""
FAILURES = (OverlayError, ProbeError, WorkloadError, GuestError, OSError, RuntimeError)
"""The exceptions of parts of a run that cannot continue; a TimeoutError is an OSError."""


@dataclass(frozen=True)
class Options:
    """What the command line asks for beyond the scenario."""

    pcap: bool = False


@dataclass
class RunOutcome:
    """The outcome of a run.

    `problems` are sentences; a run with one is not valid.  `notes` are sentences with what else has
    to be known of it.
    """

    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    completed: int = 0
    """The number of completed moves."""
    compared: int | None = None
    """The number of these moves after which every NVE's rules were compared with the expected ones;
    None if the overlay cannot compare them."""


def require_root() -> None:
    """Raise UsageError for any user but root."""
    if os.geteuid() != 0:
        raise UsageError(
            "this needs root, because it creates network namespaces; run it with sudo "
            "(`vmmlab doctor` says what else is missing)"
        )


def require_machine(
    *scenarios: Scenario, pcap: bool = False, place: Path | None = None
) -> Sequence[str]:
    """Raise UsageError with the remedy if this machine or user cannot run one of the scenarios.

    `place` is where the results of all of them go.  Returns warnings, in sentences.
    """
    require_root()
    needed = resources.of(scenarios, pcap=pcap)
    fit = resources.fit(needed, machine.available(place or ROOT / "results"))
    if lacking := [*doctor.lacking(scenarios, pcap=pcap), *fit.refusals]:
        raise UsageError("; ".join(lacking))
    return fit.warnings


def default_place(name: str) -> Path:
    """Return the default place of a result: results/<UTC time>-<name>."""
    return ROOT / "results" / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{name}"


def run(
    scenario: Scenario,
    recorder: RunRecorder,
    options: Options,
    progress: Progress = lambda _: None,
) -> RunOutcome:
    """Carry out and record one run.  Raises RunError, and then nothing is left on the machine."""
    running = Run(scenario, recorder, options, progress)
    try:
        return running.carry_out()
    except FAILURES as error:
        why = [f"the run failed: {_reason(error)}", *running.dropped_by_the_machine()]
        raise RunError("; ".join(why)) from error


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and is_disk_full(error):
        disk = f"with {error.filename}" if error.filename else "that the result is written to"
        return f"the disk {disk} is full; make room there, or name another place with --out"
    return str(error)


class Run:
    """The parts of one run while it goes on."""

    def __init__(
        self,
        scenario: Scenario,
        recorder: RunRecorder,
        options: Options,
        progress: Progress,
    ) -> None:
        self._scenario = scenario
        self._recorder = recorder
        self._options = options
        self._progress = progress
        self._outcome = RunOutcome()
        self._guests: dict[str, Any] = {}
        self._costs: list[StandbyCost] = []
        self._machine_before = of_the_machine()
        self._risen: kernel_counters.Rises = {}
        self._unwatched: list[str] = []
        self._stalls: list[str] = []

    def carry_out(self) -> RunOutcome:
        self._recorder.scenario(as_mapping(self._scenario))
        self._outcome.notes += layers.on_the_datapath(
            self._scenario, kernels_available=kernel_datapath_available()
        )
        load_before, clock = machine.load(), Clock()
        with Lab(self._scenario, self._progress) as lab:
            with self._events_kept(lab):
                measured = self._experiment(lab)
            facts, can = lab.facts(), lab.overlay.can
            if can.refused:
                self._recorder.refused(can.refused())
        events = lab.log.after()
        if lab.transfers.rows:
            self._recorder.iterations(lab.transfers.rows)
        if lab.tasks.rows:
            self._recorder.connections(lab.tasks.rows)
        if lab.transfers.faults:
            self._recorder.faults(lab.transfers.faults)
        if lab.standbys.rows:
            self._recorder.mirrors(lab.standbys.rows)
        if self._costs:
            answered = _latencies_ms(measured, _first_failure_ns(events))
            self._recorder.standbys(standby_costs.rows(self._costs, answered))
        stepped_ms = clock.stepped_ms()
        if abs(stepped_ms) > CLOCK_STEP_LIMIT_MS:
            self._outcome.problems.append(
                f"the wall clock was set by {stepped_ms} ms while the run went on; "
                "the delays are wrong"
            )
        self._recorder.events(events)
        if taken_over := takeovers.rows(events, _answers(measured)):
            self._recorder.takeovers(taken_over)
        self._recorder.packets(measured.packets)
        for kind, rows in measured.tables.items():
            self._recorder.rows(kind, rows)
        homes = {vm.name: vm.nve for vm in self._scenario.vms()}
        moves = table(measured.packets, events, homes)
        self._recorder.moves(moves)
        flows = totals.table(measured.packets, moves)
        self._recorder.flows(flows)
        self._judge_machine(measured, flows)
        self._recorder.manifest(
            {
                "name": self._scenario.name,
                "valid": not self._outcome.problems,
                "problems": self._outcome.problems,
                "notes": self._outcome.notes,
                "command": sys.argv,
                "seed": self._scenario.seed,
                **facts,
                **machine.facts(),
                "kernel_counters": self._risen,
                "load_before": load_before,
                "load_after": machine.load(),
                "clock_step_ms": stepped_ms,
                **self._tables_compared(),
                **measured.facts,
                **({"guests": self._guests} if self._guests else {}),
                "links": lab.data_centre.link_statistics(),
            }
        )
        return self._outcome

    def _tables_compared(self) -> dict[str, object]:
        moves, of = self._outcome.compared, self._outcome.completed
        return {} if moves is None else {"tables_compared": {"moves": moves, "of": of}}

    def dropped_by_the_machine(self) -> list[str]:
        """Return sentences about drops by the machine, which may have made something fail
        silently.
        """
        risen = kernel_counters.rises(self._machine_before, of_the_machine())
        return kernel_counters.verdict(risen, lost=None).problems

    def _experiment(self, lab: Lab) -> Measured:
        """Carry out traffic and moves on a running lab; return what was measured."""
        with ExitStack() as stack:
            self._recorder.samples.mkdir()
            traffic = RunTraffic(
                lab.data_centre, self._scenario, self._recorder.samples.absolute(), lab.log
            )
            stack.callback(traffic.stop)
            fault_injector = FaultInjector(
                lab.data_centre, lab.overlay.can.faults, self._scenario.failures, lab.log
            )
            stack.callback(fault_injector.stop)
            lab.orchestrator.reached = fault_injector.reached
            tables = TableChecks(
                lab.overlay.can.differences,
                self._on_the_way_s(),
                fault_injector.happened,
                lab.log,
            )
            stack.callback(tables.stop)
            schedule = Schedule(
                lab.orchestrator,
                self._scenario.moves,
                fault_injector.happened,
                tables,
                lab.log,
                self._scenario.duration_s,
            )
            task_schedule = TaskSchedule(lab.tasks, self._scenario.task_moves)
            self._progress("waiting until all VMs reach each other")
            traffic.await_reachable()
            if self._options.pcap:
                captures = Captures(lab.data_centre, self._recorder.directory / "pcap")
                stack.callback(captures.stop)
            self._progress("starting probes")
            traffic.launch()
            watch = KernelWatch(lab.data_centre)
            lab.overlay.begin()
            lab.guests.begin()
            lab.standbys.begin()
            lab.log.note("runner", "run-started")
            start_ns = traffic.begin()
            lab.log.append(TraceEvent(start_ns, "runner", "traffic-started"))
            fault_injector.begin(start_ns)
            moves = MoveCount(len(self._scenario.moves), len(self._scenario.task_moves))
            stack.callback(lab.log.subscribe(moves.hear))
            schedule.start(start_ns)
            task_schedule.start(start_ns)
            self._watch(start_ns, traffic, moves)
            measured = traffic.collect()
            lab.log.note("runner", "traffic-stopped")
            self._progress("waiting for the last move to be completed")
            schedule.join()
            task_schedule.join()
            fault_injector.finish()
            self._costs = lab.standbys.costs()
            self._outcome.problems += lab.standbys.finish(excused=fault_injector.happened())
            self._outcome.completed = tables.completed
            if lab.overlay.can.differences:
                self._outcome.compared = tables.compared
            self._outcome.problems += schedule.problems + tables.problems + fault_injector.problems
            self._outcome.problems += measured.problems
            self._outcome.problems += lab.guests.problems(excused=fault_injector.happened())
            self._outcome.problems += task_schedule.problems + lab.tasks.problems()
            self._guests = lab.guests.facts()
            self._outcome.notes += shortfalls(self._guests)
            died = {
                event.subject
                for event in lab.log.after()
                if event.name == "failure-injected"
                and event.details["kind"] == FailureKind.NVE_DIES
            }
            self._risen = kernel_counters.without_switches(watch.rises(), died)
            self._unwatched = watch.unwatched
            self._check_announcements(lab)
            self._stalls = list(stalls(lab.log.after()))
            self._check_places(lab)
            self._recorder.text(DETAILS_FILE, [*tables.details, *self._check_tables(lab.overlay)])
            lab.log.note("runner", "run-ended")
        return measured

    @contextmanager
    def _events_kept(self, lab: Lab) -> Iterator[None]:
        """Write the events of an experiment that fails in the block, as far as there is room."""
        try:
            yield
        except BaseException:
            with suppress(OSError):
                self._recorder.make_room()
                self._recorder.events(lab.log.after())
            raise

    def _on_the_way_s(self) -> float:
        """Return how long messages to and from NVEs may take.

        Lost ones are sent again, at growing intervals.
        """
        control = self._scenario.control
        if control.loss_pct:
            return TABLES_TIMEOUT_S
        return ON_THE_WAY_S + 10 * (control.delay_ms + control.jitter_ms) / 1000

    def _watch(self, start_ns: int, traffic: RunTraffic, moves: MoveCount) -> None:
        """Show the progress of the run until the traffic ends."""
        end_ns = start_ns + int(self._scenario.duration_s * 1e9)
        while (left_s := (end_ns - time.time_ns()) / 1e9) > 0:
            done_s = self._scenario.duration_s - left_s
            said = f"running: {done_s:.0f} of {self._scenario.duration_s:g} s"
            traffic.hear()
            self._progress(", ".join([said, *moves.so_far(), *traffic.so_far()]))
            time.sleep(min(1.0, left_s))
        self._progress("collecting")

    def _judge_machine(self, measured: Measured, flows: "pd.DataFrame") -> None:
        """Judge whether the machine has dropped packets, which is no loss of the network."""
        of_others = kernel_counters.accounted(measured.facts.get("probes", {}))
        lost = None if measured.tables else int(flows["lost"].sum())
        verdict = kernel_counters.verdict(
            kernel_counters.beyond(self._risen, of_others),
            lost=lost,
            reordered=int(flows["reordered"].sum()),
        )
        (self._outcome.notes if lost == 0 else self._outcome.problems).extend(self._stalls)
        self._outcome.problems += verdict.problems
        self._outcome.notes += verdict.notes + self._unwatched

    def _check_announcements(self, lab: Lab) -> None:
        """Report announcements that could not be sent: such a move is not the one that was asked
        for.
        """
        self._outcome.problems += [
            f"an announcement of {event.subject} could not be sent: {event.details['why']}"
            for event in lab.log.after()
            if event.name == "announcement-not-sent"
        ]

    def _check_places(self, lab: Lab) -> None:
        """Check that the overlay, the orchestrator and the VM's own NIC agree where each VM is."""
        believed = lab.overlay.where()
        for vm, nve in lab.orchestrator.where.items():
            plugged = lab.orchestrator.hypervisors[vm].plugged()
            if plugged != [nve]:
                places = " and ".join(plugged) or "no NVE"
                self._outcome.problems.append(f"{vm} is at {nve}, but plugged into {places}")
            if freezer.is_frozen(lab.data_centre.vms[vm].cgroup):
                self._outcome.problems.append(f"{vm} stands still")
            if believed.get(vm, nve) != nve:
                self._outcome.problems.append(
                    f"{vm} is at {nve}, but the overlay believes {believed[vm]}"
                )

    def _check_tables(self, overlay: Overlay) -> list[str]:
        """Check that every NVE holds exactly what follows from where the VMs are.

        Returns the differences, rule by rule.
        """
        if not (differences := overlay.can.differences):
            return []
        found: list[str] = []

        def wrong() -> str | None:
            found[:] = chain.from_iterable(differences())
            return brief(found) or None

        try:
            wait_until(wrong, TABLES_TIMEOUT_S)
        except TimeoutError as error:
            self._outcome.problems.append(f"at the end, {error}")
        return [f"at the end: {each}" for each in found]


def _first_failure_ns(events: Iterable[TraceEvent]) -> int:
    """When something was made to fail for the first time; far away, if nothing was."""
    return min((each.t_ns for each in events if each.name == "failure-injected"), default=2**63)


def _latencies_ms(measured: Measured, until_ns: int) -> dict[str, list[float]]:
    """Return the latencies of the guests' services until then, by VM."""
    found: dict[str, list[float]] = {}
    for table_of_kind in measured.tables.values():
        if "counter" not in table_of_kind:
            continue
        answered = table_of_kind.dropna(subset=["answered_ns"])
        early = answered[answered["answered_ns"] < until_ns]
        for flow, latency_ms in zip(early["flow"], early["latency_ms"], strict=True):
            found.setdefault(FlowEndpoints.of(flow).destination, []).append(float(latency_ms))
    return found


def _answers(measured: Measured) -> Iterator[tuple[str, AnsweredRequest]]:
    """Yield the answers of guests' services, by VM."""
    for table_of_kind in measured.tables.values():
        if "counter" not in table_of_kind:
            continue
        answered = table_of_kind.dropna(subset=["answered_ns", "counter"])
        columns = answered[["flow", "answered_ns", "counter"]].itertuples(index=False)
        for flow, answered_ns, counter in columns:
            ends = FlowEndpoints.of(flow)
            yield ends.destination, AnsweredRequest(int(answered_ns), int(counter))
