"""The move of a task as a table of steps, in the order of the draft's sections 4.2 and 4.2.1.

Like the table of a VM's move (`experiments.run.move_steps`) it has three parts.  If a step of the
first part fails, the steps are undone, last to first, and the task goes on at the source with its
connections.  From the second part on, the destination has the task.  The third part is done in the
background.

The address is configured at the destination first and announced last.  Until then packets go to the
source, whose sockets no longer accept them.  So two stacks never answer for one connection.
"""

import json
import os
import secrets
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from experiments.overlays import TraceWriter
from experiments.run.line_process import LineProcess
from experiments.scenario.tasks import TaskMove
from nve.hypervisor.realtime import first_in_line, realtime_priority
from nve.model import IPAddress, Rank
from nve.task.names import LedName, NameServerError

PATIENCE_S = 10.0
"""How long a task's process may take for an order, in seconds."""
START_TIMEOUT_S = 30.0


class TaskError(RuntimeError):
    """A task did not do what it was told; the message says why."""


@dataclass(frozen=True)
class MovedName:
    """The name of a task that has other addresses at the destination."""

    led: LedName
    before: Sequence[IPAddress]
    after: Sequence[IPAddress]
    datagrams: Callable[[], socket.socket]
    """Opens a socket at the destination, by which the name server is asked."""

    def confirm(self) -> None:
        self.led.confirm(self.before, self.datagrams())

    def lead(self) -> None:
        self.led.lead(self.after, self.datagrams())


@dataclass
class TaskMoveUnderWay:
    """One move of a task and the parts that take part in it."""

    number: int
    asked: TaskMove
    origin: str
    """The VM it leaves."""
    source: LineProcess
    launch: Callable[[str, str], LineProcess]
    """launch(VM, token) starts a process that waits in a VM for the task."""
    host_address: Callable[[str], str]
    """Returns the address of a VM."""
    clear: Callable[[str], None]
    """Takes the task's addresses away from a VM in which no process of it answers."""
    end_record: Callable[[str], None]
    """Ends the record of the task that is kept in a VM."""
    log: TraceWriter
    name: MovedName | None = None
    destination: LineProcess | None = None
    token: str = field(default_factory=lambda: secrets.token_hex(16))
    left: bool = False
    """Whether the source has given the task up, or is about to."""
    record_over: threading.Event = field(default_factory=threading.Event)
    """Set if the record has to end sooner."""
    stopped_ns: int = 0
    restarted_ns: int = 0
    helped: ExitStack = field(default_factory=ExitStack)
    """Closes what is needed only until the task runs again."""
    rows: list[dict[str, Any]] = field(default_factory=list)
    """The rows of connections.csv, as far as they are known."""
    parts_ms: dict[str, float] = field(default_factory=dict)
    """How long each step took the process that carried it out."""
    problems: list[str] = field(default_factory=list)
    """What has not gone as it should although the task has moved, in sentences."""

    def note(self, event: str, **details: object) -> None:
        """Add an event about this move to the trace."""
        self.log.note("runner", event, self.asked.task, task_move=self.number, **details)

    def there(self) -> LineProcess:
        assert self.destination, "a process waits at the destination"
        return self.destination


Do = Callable[[TaskMoveUnderWay], None]


@dataclass(frozen=True)
class TaskStep:
    """One step."""

    name: str
    do: Do
    undo: Do | None = None

    @property
    def says(self) -> str:
        """What the step does, in a sentence."""
        return " ".join((self.do.__doc__ or "").split())


@dataclass(frozen=True)
class TaskMoveTable:
    """All steps, in order."""

    revocable: Sequence[TaskStep]
    final: Sequence[TaskStep]
    background: Sequence[TaskStep]

    def __iter__(self) -> Iterator[TaskStep]:
        yield from (*self.revocable, *self.final, *self.background)


def order(process: LineProcess, name: str, **more: object) -> dict[str, Any]:
    """Return a process's answer to an order.  Raises TaskError."""
    return process.ask(json.dumps({"order": name, **more}), PATIENCE_S)


# -- what each step does ---------------------------------------------------------------------------


def _ask_name_server(move: TaskMoveUnderWay) -> None:
    """If the task is found by a name: check that the name server accepts an update of it."""
    if move.name:
        move.name.confirm()
        move.note("name-confirmed", name=str(move.name.led))


def _connect(move: TaskMoveUnderWay) -> None:
    """A process at the destination waits for the task, and the task's process connects to it."""
    move.end_record(move.asked.to)
    move.destination = move.launch(move.asked.to, move.token)
    port = move.destination.line(START_TIMEOUT_S)["port"]
    address = move.host_address(move.asked.to)
    order(move.source, "connect", to=address, port=port, token=move.token)
    move.note("task-connected", **{"from": move.origin, "to": move.asked.to})


def _send_away(move: TaskMoveUnderWay) -> None:
    """The process at the destination is ended, and the address is removed there."""
    if move.destination:
        move.destination.end()
    move.clear(move.asked.to)


def _configure(move: TaskMoveUnderWay) -> None:
    """The task's addresses are configured at the destination (R4.2.1.1)."""
    order(move.there(), "configure")
    move.note("address-configured", host=move.asked.to)


def _hurry(move: TaskMoveUnderWay) -> None:
    """From here on the move and the two processes have priority for a CPU."""
    processes = (os.getpid(), move.source.pid, move.there().pid)
    move.helped.enter_context(first_in_line(dict.fromkeys(processes, Rank.SERVER)))
    move.helped.enter_context(realtime_priority())


def _take_time(move: TaskMoveUnderWay) -> None:
    """The move and the two processes have no priority any more."""
    move.helped.close()


def _stop(move: TaskMoveUnderWay) -> None:
    """The task is stopped, and its addresses are suspended at the source."""
    suspended = "drop" if move.asked.meanwhile == "hold" else move.asked.meanwhile
    said = order(move.source, "stop", connections=move.asked.connections, suspended=suspended)
    move.stopped_ns = said["stopped_ns"]
    move.parts_ms["stop"] = said["ms"]
    move.rows += said["closed"]
    move.note("task-stopped", host=move.origin, stop_ms=said["ms"])


def _go_on(move: TaskMoveUnderWay) -> None:
    """The task continues at the source, with its connections."""
    order(move.source, "go-on")


def _package(move: TaskMoveUnderWay) -> None:
    """Its run-time state and its connections are packaged."""
    said = order(move.source, "package")
    move.parts_ms["package"] = said["ms"]
    move.rows += said["connections"]
    counts = {"connections": len(move.rows), "bytes": said["octets"]}
    move.note("task-packaged", package_ms=said["ms"], **counts)


def _send(move: TaskMoveUnderWay) -> None:
    """The package is sent to the destination, which instantiates it."""
    move.there().tell(json.dumps({"order": "instantiate"}))
    said = order(move.source, "send")
    made = move.there().line(PATIENCE_S)
    move.parts_ms["restore"] = made["restore_ms"]
    move.parts_ms["transfer"] = said["ms"] - made["restore_ms"]
    move.note("task-sent", transfer_ms=move.parts_ms["transfer"])
    move.note("task-instantiated", host=move.asked.to, restore_ms=made["restore_ms"])


def _leave(move: TaskMoveUnderWay) -> None:
    """The source gives the connections up silently, and keeps a record of them (R4.2.1.4)."""
    # From here on it is the destination's task, even if the source is gone.
    try:
        order(move.source, "leave", meanwhile=move.asked.meanwhile, late=move.asked.late)
    except TaskError as error:
        move.note("record-not-kept", why=str(error))


def _restart(move: TaskMoveUnderWay) -> None:
    """The task continues where it stopped, and its address is announced."""
    said = order(move.there(), "restart")
    move.restarted_ns = said["restarted_ns"]
    move.parts_ms["freeze"] = (move.restarted_ns - move.stopped_ns) / 1e6
    move.note("task-restarted", host=move.asked.to, freeze_ms=move.parts_ms["freeze"])


def _lead_name(move: TaskMoveUnderWay) -> None:
    """If the task is found by a name, the name points to the new addresses (R4.2.1.1)."""
    if move.name is None:
        return
    told = {"name": str(move.name.led), "addresses": ", ".join(map(str, move.name.after))}
    try:
        move.name.lead()
    except NameServerError as error:
        move.note("name-not-updated", why=str(error), **told)
        move.problems.append(f"{move.asked.task} runs in {move.asked.to}, but {error}")
    else:
        move.note("name-updated", ttl_s=move.name.led.ttl_s, **told)


def _settle(move: TaskMoveUnderWay) -> None:
    """What has come for the task while it was suspended is forwarded to it, or dropped."""
    try:
        if move.source.alive:
            order(move.source, "over")
    except TaskError:
        # The next move may have ended the record: with that, the rest was forwarded.
        if not move.record_over.is_set():
            raise


def _end_record(move: TaskMoveUnderWay) -> None:
    """The record ends after the time that was asked for."""
    move.record_over.wait(move.asked.record_s)
    move.end_record(move.origin)


TASK_MOVE = TaskMoveTable(
    revocable=(
        TaskStep("ask name server", _ask_name_server),
        TaskStep("connect", _connect, _send_away),
        TaskStep("configure address", _configure),
        TaskStep("hurry", _hurry, _take_time),
        TaskStep("stop", _stop, _go_on),
        TaskStep("package", _package),
        TaskStep("send and instantiate", _send),
    ),
    final=(
        TaskStep("leave", _leave),
        TaskStep("restart", _restart),
        TaskStep("lead name", _lead_name),
    ),
    background=(TaskStep("settle", _settle), TaskStep("end record", _end_record)),
)
