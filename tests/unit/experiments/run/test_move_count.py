"""Moves that are over are counted, however they have ended, each once."""

from experiments.measure.event_log import EventLog
from experiments.run.move_count import MoveCount


def test_moves_that_are_over_are_counted_while_the_log_grows() -> None:
    log, moves = EventLog(), MoveCount(3)
    log.subscribe(moves.hear)
    said = [moves.so_far()]
    for name, number in [
        ("move-converged", 1),
        ("move-completed", 1),
        ("move-rolled-back", 2),
        ("move-rolled-back", 2),
        ("move-completed", 4),  # a take-over, which nobody had planned
    ]:
        log.note("nva", name, "vm1", move=number)
        said.append(moves.so_far())
    assert [words for (words,) in said] == [f"{over} of 3 moves" for over in (0, 0, 1, 2, 2, 2)]


def test_moves_of_tasks_are_counted_beside() -> None:
    log, moves = EventLog(), MoveCount(1, 2)
    log.subscribe(moves.hear)
    log.note("runner", "task-move-failed", "web", task_move=1)
    assert moves.so_far() == ["0 of 1 moves", "1 of 2 moves of tasks"]
    log.note("nva", "move-completed", "vm1", move=1)
    log.note("runner", "task-move-completed", "web", task_move=2)
    assert moves.so_far() == ["1 of 1 moves", "2 of 2 moves of tasks"]
    assert MoveCount(0, 1).so_far() == ["0 of 1 moves of tasks"]


def test_a_run_without_moves_says_nothing_of_them() -> None:
    assert MoveCount(0).so_far() == []
