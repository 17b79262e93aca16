"""The events of a task's move are found, and what the network has heard of it."""

from typing import Any

from experiments.measure.task_moves import task_moves_of
from tests.helpers.kinds_of_results import claim, task_event

THERE: dict[str, Any] = {"from": "vm1", "to": "vm2"}
BACK: dict[str, Any] = {"from": "vm2", "to": "vm1"}


def test_a_move_has_the_claims_of_its_destination_and_no_others():
    events = [
        claim(0, "192.168.9.50", "vm1", "vm2"),  # of an earlier move
        task_event(1, "task-move-requested", **THERE),
        task_event(3, "task-restarted"),
        claim(4, "192.168.9.50", "vm1", "vm2"),
        task_event(5, "task-move-requested", 2, **BACK),
        claim(6, "fd77::9:50", "vm1", "vm2"),  # late: the next move has begun
        claim(7, "192.168.9.50", "vm1", "vm3"),
        task_event(8, "task-restarted", 2),
        claim(9, "192.168.9.50", "vm2", "vm1"),
        task_event(10, "task-move-completed"),
        task_event(11, "task-move-completed", 2),
    ]
    first, second = task_moves_of(reversed(events))
    assert [(move.task, move.source_vm, move.destination_vm) for move in (first, second)] == [
        ("web", "vm1", "vm2"),
        ("web", "vm2", "vm1"),
    ]
    assert [each.details["address"] for each in first.events if each.source == "nva"] == [
        *("192.168.9.50", "fd77::9:50"),
    ]
    assert [each.name for each in second.events] == [
        *("task-move-requested", "task-restarted", "address-claimed", "task-move-completed"),
    ]


def test_how_a_move_ended():
    def outcome(*names: str) -> str:
        asked = task_event(0, "task-move-requested", **THERE)
        (move,) = task_moves_of([asked, *(task_event(1, name) for name in names)])
        return move.outcome

    assert outcome() == "unfinished"
    assert outcome("task-restarted") == "completed"
    assert outcome("task-restarted", "task-move-completed") == "completed"
    assert outcome("task-move-failed") == "failed"
    assert outcome("task-move-failed", "task-move-undone") == "undone"


def test_a_trace_without_tasks_has_none():
    assert task_moves_of([]) == []
