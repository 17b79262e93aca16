"""The messages of one move of a task, drawn from the trace.

The task's processes at the source and at the destination talk to each other over a TCP connection;
the orchestrator gives both their orders; the network learns of the move when the destination
announces the task's addresses (sections 4.2.1.1 and 4.2.3 of the draft).
"""

from collections.abc import Iterator

import pandas as pd
from matplotlib.figure import Figure

from experiments.measure.results import Result
from experiments.measure.task_moves import TaskMoveTrace, task_moves_of
from experiments.report.format import count
from experiments.report.plots import _sequence
from experiments.report.plots._moves import Details
from experiments.report.plots._runs import TracedRun, runs_of, title_of
from experiments.report.plots._sequence import Message
from experiments.report.plots._style import Preset

QUESTION = "Who said what to whom while a task moved?"
PLACE = 36
ORCHESTRATOR, SOURCE, DESTINATION, NETWORK = "orchestrator", "source", "destination", "network"
ORDER = (ORCHESTRATOR, SOURCE, DESTINATION, NETWORK)
MESSAGES: dict[str, tuple[str, str, str]] = {
    # event: from, to (the same: it happens there), words
    "task-move-requested": (ORCHESTRATOR, ORCHESTRATOR, "moves {task} to {to}"),
    "task-connected": (SOURCE, DESTINATION, "connects to a process that waits"),
    "address-configured": (ORCHESTRATOR, DESTINATION, "configure the task's addresses"),
    "task-stopped": (ORCHESTRATOR, SOURCE, "stop the task"),
    "task-packaged": (SOURCE, SOURCE, "packages {connections} connections, {bytes} octets"),
    "task-sent": (SOURCE, DESTINATION, "the package"),
    "task-instantiated": (DESTINATION, DESTINATION, "restores it"),
    "record-not-kept": (SOURCE, ORCHESTRATOR, "keeps no record"),
    "task-restarted": (ORCHESTRATOR, DESTINATION, "start where it stopped"),
    "address-claimed": (DESTINATION, NETWORK, "{address} is here"),
    "record-ended": (
        *(ORCHESTRATOR, SOURCE),
        "forget its connections ({forwarded} forwarded)",
    ),
    "task-move-failed": (ORCHESTRATOR, ORCHESTRATOR, "fails: {step}"),
    "task-move-undone": (ORCHESTRATOR, SOURCE, "go on with your connections"),
    "not-undone": (ORCHESTRATOR, ORCHESTRATOR, "cannot be undone"),
    "task-move-completed": (ORCHESTRATOR, ORCHESTRATOR, "completed"),
}


def suits(result: Result) -> bool:
    return any(task_moves_of(run.result.events) for run in runs_of(result).values())


def chosen(result: Result) -> tuple[TracedRun, TaskMoveTrace]:
    """Return the first move that was completed, or else the first."""
    each = [
        (run, move) for run in runs_of(result).values() for move in task_moves_of(run.result.events)
    ]
    return next((pair for pair in each if pair[1].outcome == "completed"), each[0])


def messages(move: TaskMoveTrace) -> Iterator[Message]:
    """Yield the rows of a move, in the order of time."""
    for event in move.events:
        after_ms = (event.t_ns - move.requested_ns) / 1e6
        if event.name in MESSAGES:
            sender, receiver, words = MESSAGES[event.name]
            numbers = {
                key: count(value) for key, value in event.details.items() if isinstance(value, int)
            }
            said = words.format_map(Details({**event.details, **numbers, "task": move.task}))
            yield Message(after_ms, (sender,), (receiver,), said)
        else:
            at = (ORCHESTRATOR,)
            yield Message(after_ms, at, at, event.name.replace("-", " "), dispensable=1)


def _route(move: TaskMoveTrace) -> str:
    ending = "" if move.outcome == "completed" else f" ({move.outcome})"
    return f"{move.task} {move.source_vm}→{move.destination_vm}{ending}"


def draw(result: Result, preset: Preset) -> Figure:
    run, move = chosen(result)
    names = {line: line for line in ORDER} | {
        SOURCE: f"{move.task} in {move.source_vm}\n({SOURCE})",
        DESTINATION: f"{move.task} in {move.destination_vm}\n({DESTINATION})",
    }
    heading = f"{title_of(result, run)}, task move {move.number}: {_route(move)}"
    return _sequence.draw(list(messages(move)), names, heading, preset, _frozen(move))


def _frozen(move: TaskMoveTrace) -> tuple[str, float, float] | None:
    stopped_ns = move.time_of("task-stopped")
    again_ns = move.time_of("task-restarted", "task-move-undone")
    if stopped_ns is None or again_ns is None:
        return None
    began_ms, ended_ms = ((t_ns - move.requested_ns) / 1e6 for t_ns in (stopped_ns, again_ns))
    return "the task stands still", began_ms, ended_ms


def caption(result: Result) -> str:
    run, move = chosen(result)
    frozen_ms = move.detail("freeze_ms")
    took = "" if frozen_ms is None else f", the task stood still for {frozen_ms:,.1f} ms"
    what = f"Task move {move.number} of {title_of(result, run)} ({_route(move)})"
    return _sequence.caption(list(messages(move)), what, took)


def data(result: Result) -> pd.DataFrame:
    """Return the rows of the move that is drawn."""
    return _sequence.table(messages(chosen(result)[1]))
