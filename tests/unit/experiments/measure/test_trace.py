"""Events find their move."""

import pytest

from experiments.measure.trace import TraceEvent, moves_of


def event(t_ns, name, subject="vm1", **details):
    return TraceEvent(t_ns, "nva", name, subject, details)


def test_no_events_no_moves():
    assert moves_of([]) == []


def test_a_move_knows_its_ends_and_its_outcome():
    [move] = moves_of(
        [
            event(10, "move-requested", move=1, **{"from": "nve1", "to": "nve2"}),
            event(90, "move-completed", move=1, packets_via_source_after_convergence=0),
        ]
    )
    assert (move.vm, move.source_nve, move.destination_nve) == ("vm1", "nve1", "nve2")
    assert move.outcome == "completed"
    assert move.detail("packets_via_source_after_convergence") == 0
    assert move.detail("packets") is None


@pytest.mark.parametrize(
    ("ending", "outcome"),
    [("move-rolled-back", "rolled back"), ("move-failed", "failed"), ("vm-resumed", "unfinished")],
)
def test_other_outcomes(ending, outcome):
    [move] = moves_of([event(1, "move-requested", move=1), event(2, ending, move=1)])
    assert move.outcome == outcome


def test_an_event_that_names_no_move_belongs_to_the_latest_of_its_vm():
    first, second = moves_of(
        [
            event(1, "move-requested", move=1),
            event(2, "entry-pulled", nve="nve3"),
            event(3, "move-requested", move=2),
            event(4, "entry-pulled", nve="nve3"),
            event(5, "entry-pulled", subject="vm9", nve="nve3"),
        ]
    )
    assert first.time_of("entry-pulled") == 2
    assert second.time_of("entry-pulled") == 4
    assert len(second.events) == 2


def test_the_order_of_the_file_does_not_matter():
    events = [event(2, "vm-paused", move=1), event(1, "move-requested", move=1)]
    [move] = moves_of(events)
    assert [each.name for each in move.events] == ["move-requested", "vm-paused"]
