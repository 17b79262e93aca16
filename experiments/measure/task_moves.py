"""The moves of tasks (section 4.2 of the draft) in a trace: the events that belong to each."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from experiments.measure.trace import Story, TraceEvent


@dataclass(frozen=True)
class TaskMoveTrace(Story):
    """The n-th move of a task (section 4.2 of the draft) with its events, in the order of time."""

    number: int
    task: str
    requested_ns: int
    events: tuple[TraceEvent, ...]

    @property
    def source_vm(self) -> str:
        return self._end("from")

    @property
    def destination_vm(self) -> str:
        return self._end("to")

    @property
    def outcome(self) -> str:
        """How the move ended.

        A task that runs at its destination has been moved, even while the source still keeps the
        record of its connections.
        """
        if self.first("task-move-undone"):
            return "undone"
        if self.first("task-restarted"):
            return "completed"
        return "failed" if self.first("task-move-failed") else "unfinished"


def task_moves_of(events: Iterable[TraceEvent]) -> list[TaskMoveTrace]:
    """Return the moves of tasks in a trace, in the order in which they were requested.

    Besides the events that name a move, the first claim of each of the task's addresses by its new
    VM belongs to it: the part that records claims does not know of tasks.
    """
    ordered = sorted(events, key=lambda event: event.t_ns)
    grouped: dict[int, list[TraceEvent]] = {}
    for event in ordered:
        if (number := event.details.get("task_move")) is not None:
            grouped.setdefault(int(number), []).append(event)
    found = []
    for number, mine in grouped.items():
        if mine[0].name == "task-move-requested":
            whole = sorted([*mine, *_claims(ordered, mine)], key=lambda event: event.t_ns)
            found.append(TaskMoveTrace(number, mine[0].subject, mine[0].t_ns, tuple(whole)))
    return found


def _claims(ordered: Iterable[TraceEvent], mine: Sequence[TraceEvent]) -> Iterable[TraceEvent]:
    """Yield the claims by the task's new VM of addresses that its old VM had."""
    ends = mine[0].details.get("from"), mine[0].details.get("to")
    claims: dict[str, TraceEvent] = {}
    for event in ordered:
        if (
            event.name == "address-claimed"
            and mine[0].t_ns <= event.t_ns <= mine[-1].t_ns
            and (event.details.get("before"), event.subject) == ends
        ):
            claims.setdefault(str(event.details.get("address")), event)
    return claims.values()
