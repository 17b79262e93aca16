"""The tasks of a run: their processes in VMs, and their moves.

A task has one process where it runs.  In a move it gets another one at the destination; the one at
the source keeps the record of what has moved, and ends with it.
"""

import json
import socket
import threading
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from types import MappingProxyType
from typing import Any

from experiments.measure.event_log import EventLog
from experiments.measure.trace import TraceEvent
from experiments.run.line_process import LineProcess
from experiments.run.task_steps import (
    START_TIMEOUT_S,
    TASK_MOVE,
    MovedName,
    TaskError,
    TaskMoveTable,
    TaskMoveUnderWay,
    order,
)
from experiments.scenario.tasks import Task, TaskMove, hosts_of
from nve.hypervisor.plug import NIC
from nve.linux.namespace import inside, run_in
from nve.linux.wait import sleep_until, wait_until
from nve.model import IPAddress
from nve.task.multipath import Endpoints, NoMultipath
from nve.task.names import LedName, NameServerError
from topologies.emulation.data_centre import DataCentre

JOIN_S = 10.0
"""For the peers of Multipath TCP to open subflows to a new address."""
JOIN_EVERY_S = 0.02


class RunningTask:
    """One task, wherever it is."""

    def __init__(
        self,
        data_centre: DataCentre,
        name: str,
        asked: Task,
        log: EventLog,
        table: TaskMoveTable = TASK_MOVE,
        hosts: Sequence[str] = (),
        led: LedName | None = None,
    ) -> None:
        """`led` is its name in the DNS, if its addresses are others in each VM."""
        self.name = name
        self.hosts = hosts
        """The VMs that it may be in."""
        self._table = table
        self.at = asked.on
        """The VM."""
        self.rows: list[dict[str, Any]] = []
        """The rows of connections.csv."""
        self.make_known: Callable[[str, IPAddress], object] = lambda _vm, _address: None
        """make_known(VM, address), where nobody hears the VM announce that the address is there."""
        self._data_centre = data_centre
        self._asked = asked
        self._log = log
        self._led = led
        self._nve = data_centre.vms[asked.on].spec.nve if asked.multipath else ""
        """With `multipath`: where it has its address."""
        self.problems: list[str] = []
        """Sentences, where a move has ended otherwise than it should."""
        self._process: LineProcess | None = None
        self._records: dict[str, tuple[TaskMoveUnderWay, LineProcess]] = {}
        """By VM: moves that have left it, and processes that keep the record of what has moved."""
        self._of_records: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        self._background: list[threading.Thread] = []

    def start(self) -> None:
        """Start the task.  Raises TaskError."""
        if self._asked.multipath:
            try:
                self._endpoints.allow()
            except NoMultipath as error:
                raise TaskError(str(error)) from None
        self._process = self._launch(self.at)
        self._process.line(START_TIMEOUT_S)
        self._make_known()
        if self._led:
            try:
                self._led.lead(self._asked.addresses_in(self.at), self._datagrams(self.at))
            except NameServerError as error:
                raise TaskError(str(error)) from None
        self._log.note("runner", "task-started", self.name, host=self.at)

    def move(self, number: int, asked: TaskMove) -> None:
        """Move the task; return when it runs at the destination.

        Raises TaskError if it does not: it continues at the source if `task-move-undone` is in the
        trace.
        """
        if asked.to == self.at:
            raise TaskError(f"{self.name} is in {self.at} already")
        assert self._process
        move = TaskMoveUnderWay(
            number,
            asked,
            self.at,
            self._process,
            self._launch_incoming,
            self._host_address,
            self._clear,
            self._end_record,
            self._log,
            name=self._moved_name(asked.to),
        )
        ends = {"from": self.at, "to": asked.to}
        move.note(
            "task-move-requested",
            **ends,
            connections=asked.connections,
            meanwhile=asked.meanwhile,
            late=asked.late,
        )
        try:
            self._bring_over(move)
        finally:
            if move.left:
                self._is_at_destination(move)
        self._make_known()

    def _is_at_destination(self, move: TaskMoveUnderWay) -> None:
        """Record that the source has given it up, whether it runs at the destination or not."""
        asked = move.asked
        assert self._process
        self.problems += move.problems
        self._records[self.at] = (move, self._process)
        self._process, self.at = move.destination, asked.to
        cleaner = threading.Thread(target=self._clear_away, args=(move,), daemon=True)
        cleaner.start()
        self._background.append(cleaner)

    @property
    def _endpoints(self) -> Endpoints:
        return Endpoints(self._data_centre.vms[self.at].pid, NIC)

    def _addresses_in(self, vm: str) -> Sequence[IPAddress]:
        """Return the addresses in a VM; with `multipath`, only the present one."""
        asked = self._asked
        return asked.addresses_at(self._nve) if asked.multipath else asked.addresses_in(vm)

    def hear(self, event: TraceEvent) -> None:
        """With `multipath`, begin in the background to change the address when its VM has moved."""
        if event.name == "vm-resumed" and event.subject == self.at and self._asked.multipath:
            nve = str(event.details["nve"])
            if nve != self._nve:
                thread = threading.Thread(target=self._readdress, args=(nve,), daemon=True)
                self._background.append(thread)
                thread.start()

    def _readdress(self, nve: str) -> None:
        """Move its connections to the address that it has at the NVE."""
        assert self._process
        (old,), (new,) = self._asked.addresses_at(self._nve), self._asked.addresses_at(nve)
        endpoints = self._endpoints
        try:
            wanted = endpoints.subflows(old)
            order(self._process, "take", address=str(new))
            self._log.note("runner", "address-configured", self.name, host=self.at)
            endpoints.signal(new)
            self._log.note("runner", "address-signalled", self.name, address=str(new))
            wait_until(lambda: _lacking(endpoints.subflows(new), wanted), JOIN_S, JOIN_EVERY_S)
            self._log.note("runner", "subflows-joined", self.name, subflows=wanted)
            endpoints.withdraw(old)
            order(self._process, "give-up", address=str(old))
            self._log.note("runner", "address-withdrawn", self.name, address=str(old))
            self._nve = nve
        except (RuntimeError, TimeoutError) as error:
            self._log.note("runner", "address-not-replaced", self.name, why=str(error))
            self.problems.append(f"{self.name} has kept the address {old}: {error}")

    def _moved_name(self, to: str) -> MovedName | None:
        if self._led is None:
            return None
        before, after = self._asked.addresses_in(self.at), self._asked.addresses_in(to)
        return MovedName(self._led, before, after, partial(self._datagrams, to))

    def _datagrams(self, vm: str) -> socket.socket:
        """Return a datagram socket in a VM, for questions to the name server."""
        assert self._led
        with inside(self._data_centre.vms[vm].pid):
            return socket.socket(self._led.family, socket.SOCK_DGRAM)

    def _make_known(self) -> None:
        for address in self._addresses_in(self.at):
            self.make_known(self.at, address)

    def connections(self) -> list[dict[str, Any]]:
        """Return its present connections.  Raises TaskError."""
        assert self._process
        found: list[dict[str, Any]] = order(self._process, "connections")["connections"]
        return found

    def _bring_over(self, move: TaskMoveUnderWay) -> None:
        begun = []
        try:
            with move.helped:
                for step in (*self._table.revocable, *self._table.final):
                    begun.append(step)
                    move.left = step in self._table.final
                    step.do(move)
        except Exception as cause:
            move.note("task-move-failed", step=begun[-1].name, why=str(cause))
            if move.left:
                raise
            undone = True
            for step in reversed(begun):
                try:
                    if step.undo:
                        step.undo(move)
                except Exception as error:
                    move.note("not-undone", why=str(error))
                    undone = False
            if undone:
                move.note("task-move-undone")
            raise TaskError(str(cause)) from cause

    def _clear_away(self, move: TaskMoveUnderWay) -> None:
        try:
            for step in self._table.background:
                step.do(move)
        except TaskError as error:
            move.note("record-not-kept", why=str(error))
        else:
            move.note("task-move-completed")

    def _end_record(self, vm: str) -> None:
        with self._of_records[vm]:
            found = self._records.pop(vm, None)
            if found is None:
                return
            move, source = found
            move.record_over.set()
            counts: Mapping[str, Any] = {}
            try:
                counts = order(source, "end-record")
            except TaskError as error:
                move.note("record-not-kept", why=str(error))
            source.end()
            reported: Mapping[str, Any] = {"connections": {}, "resets": 0}
            with suppress(TaskError):
                reported = order(move.there(), "report")
        self.rows += _rows(move, counts, reported)
        kept = {key: counts.get(key) for key in ("forwarded", "dropped", "resets")}
        move.note("record-ended", host=vm, **kept)

    def _launch(self, vm: str, *incoming: str) -> LineProcess:
        spec = {
            "task": self.name,
            "program": self._asked.program,
            "addresses": list(map(str, self._addresses_in(vm))),
            "arguments": self._asked.arguments,
            "interface": NIC,
            "multipath": self._asked.multipath,
        }
        if self._asked.has_a_name and incoming:
            spec["instead_of"] = list(map(str, self._asked.addresses_in(self.at)))
        return LineProcess(
            f"task {self.name} in {vm}",
            partial(self._data_centre.in_vm, vm),
            ["nve.task.process", json.dumps(spec), *incoming],
            TaskError,
        )

    def _launch_incoming(self, vm: str, token: str) -> LineProcess:
        return self._launch(vm, "--incoming", self._host_address(vm), token)

    def _host_address(self, vm: str) -> str:
        """By which the processes of a move reach each other."""
        spec = self._data_centre.vms[vm].spec
        has_only_ipv6 = spec.routed is not None and spec.routed.sir_prefix is not None
        return str(spec.ipv6 if has_only_ipv6 else spec.ipv4)

    def _clear(self, vm: str) -> None:
        for address in self._asked.addresses_in(vm):
            with suppress(RuntimeError):
                shown = f"{address}/{address.max_prefixlen}"
                run_in(self._data_centre.vms[vm].pid, ["ip", "address", "del", shown, "dev", NIC])

    def failure(self) -> str | None:
        """Return a sentence that says why the task is not as it should be, or None."""
        if self._process is None or self._process.alive:
            return None
        try:
            self._process.line(0)
        except TaskError as error:
            return f"the task {self.name} in {self.at} has ended: {error}"
        return f"the task {self.name} in {self.at} has ended"

    def settle(self) -> None:
        """Return when nothing is left of its moves."""
        for thread in self._background:
            thread.join()

    def close(self) -> None:
        """End the task; this is safe at any time."""
        for move, process in list(self._records.values()):
            process.end()
            move.record_over.set()
        if self._process:
            with suppress(TaskError):
                order(self._process, "quit")
            self._process.end()
        self.settle()


def _lacking(found: int, wanted: int) -> str | None:
    return None if found >= wanted else f"{found} of {wanted} connections have a new subflow"


def _rows(
    move: TaskMoveUnderWay, counts: Mapping[str, Any], reported: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Return lines of connections.csv."""
    parts = move.parts_ms
    resets = counts.get("resets", 0) + reported["resets"]
    made = []
    for row in move.rows:
        now = reported["connections"].get(row["connection"], {})
        heard_ns = now.get("heard_ns")
        made.append(
            {
                **{"move": move.number, "task": move.asked.task},
                **{"from_vm": move.origin, "to_vm": move.asked.to},
                **row,
                "freeze_ms": parts.get("freeze"),
                "package_ms": parts.get("package"),
                "transfer_ms": parts.get("transfer"),
                "restore_ms": parts.get("restore"),
                "gap_ms": (heard_ns - move.stopped_ns) / 1e6 if heard_ns else None,
                "ramp_up_ms": now.get("ramp_up_ms"),
                "retransmissions": now.get("retransmissions"),
                "resets": resets,
            }
        )
    return made


class Tasks:
    """All tasks, by name.  `close` is safe at any time."""

    def __init__(
        self,
        data_centre: DataCentre,
        asked: Mapping[str, Task],
        moves: Sequence[TaskMove],
        log: EventLog,
        led: Mapping[str, LedName] = MappingProxyType({}),
    ) -> None:
        """`led` are the names of those that have one."""
        self.of = {
            name: RunningTask(
                *(data_centre, name, task, log),
                hosts=hosts_of(name, task, moves),
                led=led.get(name),
            )
            for name, task in asked.items()
        }

    @property
    def where(self) -> dict[str, str]:
        """The VM of each task."""
        return {name: task.at for name, task in self.of.items()}

    def start(self) -> None:
        """Start all tasks.  Raises TaskError."""
        for task in self.of.values():
            task.start()

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The rows of connections.csv."""
        return [row for task in self.of.values() for row in task.rows]

    def problems(self) -> list[str]:
        """Return sentences about what is wrong with tasks."""
        ended = [said for task in self.of.values() if (said := task.failure())]
        return [*ended, *(said for task in self.of.values() for said in task.problems)]

    def settle(self) -> None:
        """Return when nothing is left of any move."""
        for task in self.of.values():
            task.settle()

    def close(self) -> None:
        for task in self.of.values():
            task.close()


class TaskSchedule:
    """The moves of tasks, each at its time: a thread for each task."""

    def __init__(self, tasks: Tasks, moves: Sequence[TaskMove]) -> None:
        self.problems: list[str] = []
        self._tasks = tasks
        self._moves = moves
        self._threads: list[threading.Thread] = []

    def start(self, start_ns: int) -> None:
        """Start the schedule: the traffic has begun at `start_ns`."""
        orders: defaultdict[str, list[tuple[int, TaskMove]]] = defaultdict(list)
        for number, move in sorted(enumerate(self._moves, 1), key=lambda item: item[1].at_s):
            orders[move.task].append((number, move))
        for name, listed in orders.items():
            args = (self._tasks.of[name], start_ns, listed)
            thread = threading.Thread(target=self._carry_out, args=args, daemon=True)
            thread.start()
            self._threads.append(thread)

    def join(self) -> None:
        """Return when nothing is left of any move."""
        for thread in self._threads:
            thread.join()
        self._tasks.settle()

    def _carry_out(
        self, task: RunningTask, start_ns: int, moves: Sequence[tuple[int, TaskMove]]
    ) -> None:
        for number, move in moves:
            sleep_until(start_ns + int(move.at_s * 1e9))
            try:
                task.move(number, move)
            except Exception as error:
                self.problems.append(f"move {number} of {task.name} failed: {error}")
