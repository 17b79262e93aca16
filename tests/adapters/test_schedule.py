"""When moves are asked for that wait for an event of the trace."""

import time
from concurrent.futures import Future
from typing import Any

import pytest

from experiments.measure.event_log import EventLog
from experiments.measure.trace import TraceEvent
from experiments.run.schedule import Schedule
from experiments.run.table_checks import TableChecks
from experiments.scenario.moves import MoveSpec

DURATION_S = 0.4


class Asked:
    """An orchestrator that notes when it is asked for a move."""

    def __init__(self) -> None:
        self.at_ns: dict[int, int] = {}

    def move(self, number: int, _move: MoveSpec) -> "Future[None]":
        self.at_ns[number] = time.time_ns()
        over: Future[None] = Future()
        over.set_result(None)
        return over


def carried_out(move: dict[str, Any], *events: TraceEvent) -> tuple[Asked, Schedule, int]:
    """A schedule with this move of vm1, to its end; the events happen after it has begun."""
    log, asked = EventLog(), Asked()
    tables = TableChecks(None, 0, lambda: False, log)
    spec = MoveSpec.model_validate({"vm": "vm1", "to": "nve2", **move})
    orchestrator: Any = asked
    schedule = Schedule(orchestrator, [spec], lambda: False, tables, log, DURATION_S)
    start_ns = time.time_ns()
    schedule.start(start_ns)
    for event in events:
        log.append(TraceEvent(start_ns + event.t_ns, *(event.source, event.name), event.subject))
    schedule.join()
    return asked, schedule, start_ns


def test_it_begins_so_long_after_the_event() -> None:
    """As the event says when it was, not when it is heard of."""
    event = TraceEvent(10_000_000, "nva", "entry-pulled", "vm1")
    other = TraceEvent(0, "nva", "entry-pulled", "vm2")
    asked, schedule, start_ns = carried_out(
        {"at": {"after": "entry-pulled", "of": "vm1", "s": 0.1}}, other, event
    )

    assert schedule.problems == []
    assert asked.at_ns[1] >= start_ns + 110_000_000


@pytest.mark.parametrize("s", [0, 0.1])
def test_an_event_that_never_happens_is_a_problem_and_holds_nothing_up(s: float) -> None:
    at = {"after": "entry-pulled", "of": "vm1", "s": s, "from_s": 0.1}
    early = TraceEvent(0, "nva", "entry-pulled", "vm1")
    asked, schedule, _ = carried_out({"at": at}, early)

    assert asked.at_ns == {}
    assert schedule.problems == [
        "move 1 of vm1 was not asked for: there was no entry-pulled of vm1 from 0.1 s on"
    ]
