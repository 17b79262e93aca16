"""Which connections of a task begin with the congestion window that they had."""

from nve.task.initial_window import LARGEST, MOST, USUAL, carried


def test_the_widest_are_carried_up_to_a_bound() -> None:
    assert carried([]) == []
    assert carried([USUAL, 0, USUAL + 1, LARGEST + 1]) == [None, None, USUAL + 1, LARGEST]
    found = carried([1000] * MOST + [999, 1001])
    assert found == [1000] * (MOST - 1) + [None, None, 1001]
