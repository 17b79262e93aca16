"""The trace as text."""

from experiments.measure.trace import TraceEvent
from experiments.report.trace_text import as_json, as_line, since_moves


def times(*names: str) -> list[tuple[float, str]]:
    events = [TraceEvent(n * 10**9, "nva", name) for n, name in enumerate(names, start=5)]
    return [(since_s, event.name) for since_s, event in since_moves(events)]


def test_times_count_from_the_move() -> None:
    asked, other = "move-requested", "announced"
    assert times(other, asked, other, asked, other) == [
        *((-1, other), (0, asked), (1, other)),
        *((0, asked), (1, other)),
    ]
    assert times(other, other) == [(0, other), (1, other)]
    assert times() == []


def test_an_event_is_a_line_or_an_object() -> None:
    event = TraceEvent(5, "nva", "move-prepared", "vm1", {"move": 1})
    assert as_line(-0.25, event).split() == [
        "-0.2500",
        "s",
        "nva",
        "move-prepared",
        "vm1",
        "move=1",
    ]
    assert as_json(1.23456789, event) == {
        "t_ns": 5,
        "since_move_s": 1.234568,
        "source": "nva",
        "event": "move-prepared",
        "subject": "vm1",
        "details": {"move": 1},
    }
