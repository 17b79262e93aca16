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


def test_a_run_without_moves_says_nothing_of_them() -> None:
    assert MoveCount(0).so_far() == []
