"""NVEs that are out of reach during a move."""

import pytest

from controller.core.move_fsm import Phase
from tests.helpers import promises
from tests.helpers.authority import (
    phase_of,
    push,
    redirected,
)
from tests.helpers.fabric import Fabric


def test_an_nve_that_was_away_during_a_move_holds_the_new_rules_when_it_is_back() -> None:
    pushing = push()
    pushing.disconnect("nve2")
    move = redirected(pushing)
    pushing.activate(move)
    pushing.settle()
    assert promises.disagreeing(pushing) != []

    pushing.connect("nve2")
    pushing.settle()

    assert promises.disagreeing(pushing) == []
    assert promises.unreached(pushing) == []


def test_a_confirmation_that_was_lost_comes_with_the_next_connection(pulling: Fabric) -> None:
    move = pulling.request_move("vm1", "nve3")
    pulling.disconnect("nve3")
    pulling.settle()
    assert phase_of(move) is Phase.PREPARING

    pulling.connect("nve3")
    pulling.settle()

    assert phase_of(move) is Phase.PREPARED


@pytest.mark.shows("R3.4")
def test_a_move_does_not_converge_while_an_nve_out_of_reach_holds_an_old_entry() -> None:
    """After convergence not one packet crosses the source NVE."""
    pushing = push()
    pushing.disconnect("nve2")
    move = redirected(pushing)
    pushing.activate(move)
    pushing.settle()

    assert phase_of(move) is Phase.ACTIVATED
