"""The table of a move's life, over every pair of phase and event."""

from itertools import product

import pytest

from controller.core.move_fsm import (
    FINISHED,
    REPEATS,
    TRANSITIONS,
    MoveAction,
    MoveEvent,
    OutOfTurn,
    Phase,
    advance,
    diagram,
)

PAIRS = list(product(Phase, MoveEvent))


@pytest.mark.parametrize(("phase", "event"), PAIRS)
def test_every_event_in_every_phase_has_its_declared_answer(phase: Phase, event: MoveEvent) -> None:
    """A legal successor, a declared repeat, or a refusal; the last two change nothing."""
    if (phase, event) in TRANSITIONS:
        assert advance(phase, event) == TRANSITIONS[phase, event]
    elif (phase, event) in REPEATS:
        assert advance(phase, event) == (phase, MoveAction.NOTHING)
    else:
        with pytest.raises(OutOfTurn, match=f"is {phase} cannot take the event {event}") as refusal:
            advance(phase, event)
        assert (refusal.value.phase, refusal.value.event) == (phase, event)


def test_no_pair_is_both_a_transition_and_a_repeat() -> None:
    assert not TRANSITIONS.keys() & REPEATS
    assert TRANSITIONS.keys() | REPEATS <= set(PAIRS)


def test_every_transition_goes_forward() -> None:
    """Phases are in the order of a move's life; `?until=` of the northbound relies on it."""
    order = list(Phase)

    assert all(
        order.index(successor) > order.index(phase)
        for (phase, _), (successor, _) in TRANSITIONS.items()
    )


def test_every_phase_is_reached_and_only_the_finished_ones_are_final() -> None:
    reached = {Phase.PREPARING} | {successor for successor, _ in TRANSITIONS.values()}
    left = {phase for phase, _ in TRANSITIONS}

    assert reached == set(Phase)
    assert left == set(Phase) - FINISHED


def test_a_finished_move_is_never_changed_again() -> None:
    for phase, event in product(FINISHED, MoveEvent):
        if (phase, event) in REPEATS:
            assert advance(phase, event) == (phase, MoveAction.NOTHING)
        else:
            with pytest.raises(OutOfTurn):
                advance(phase, event)


@pytest.mark.parametrize("event", [MoveEvent.ROLL_BACK_ASKED, MoveEvent.TIMED_OUT])
def test_a_move_can_be_given_up_until_the_vm_has_arrived(event: MoveEvent) -> None:
    order = list(Phase)
    for phase in set(Phase) - FINISHED:
        restored = TRANSITIONS.get((phase, event)) == (Phase.ROLLED_BACK, MoveAction.ROLL_BACK)
        assert restored == (order.index(phase) < order.index(Phase.ACTIVATED))


@pytest.mark.shows("R3.5", "R4.1.2")
def test_the_mapping_changes_once_on_every_way_to_completion() -> None:
    """Completed means that both the entries and the tunnel are gone."""
    for way in _ways(Phase.PREPARING):
        actions = [TRANSITIONS[pair][1] for pair in way]
        events = {event for _, event in way}
        if TRANSITIONS[way[-1]][0] is Phase.COMPLETED:
            assert actions.count(MoveAction.ACTIVATE) == actions.count(MoveAction.REDIRECT) == 1
            assert {MoveEvent.LAST_ENTRY_GONE, MoveEvent.TUNNEL_ENDED} <= events
        else:
            assert MoveAction.ACTIVATE not in actions
            assert actions[-1] is MoveAction.ROLL_BACK


def _ways(phase: Phase) -> list[list[tuple[Phase, MoveEvent]]]:
    """Every way from a phase to a finished one."""
    if phase in FINISHED:
        return [[]]
    return [
        [pair, *rest]
        for pair, (successor, _) in TRANSITIONS.items()
        if pair[0] is phase
        for rest in _ways(successor)
    ]


def test_the_diagram_shows_every_transition() -> None:
    lines = diagram().splitlines()

    assert lines[:2] == ["stateDiagram-v2", "    [*] --> preparing"]
    assert "    redirected --> activated: activated / activate" in lines
    assert "    rolled_back --> [*]" in lines
    assert len(lines) == 2 + len(TRANSITIONS) + len(FINISHED)
