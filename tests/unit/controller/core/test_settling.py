"""What follows from an input: all of it, whatever the order in which moves are looked at."""

from collections.abc import Callable

import pytest

from controller.core.authority import Authority
from controller.core.move_fsm import Phase
from controller.core.moves import Moves
from tests.helpers import promises
from tests.helpers.fabric import Fabric
from tests.unit.controller.core.test_interference import (
    PULL,
    PUSH,
    assert_nothing_is_left,
    fabric,
    travel,
)

WAYS = {"vm1": ["nve2", "nve3", "nve2"], "vm2": ["nve3", "nve1"], "vm3": ["nve4", "nve1", "nve4"]}
BOTH = pytest.mark.parametrize(
    "dissemination",
    [pytest.param(PULL, id="pull"), pytest.param(PUSH, id="push", marks=pytest.mark.thorough)],
)


def travelled(dissemination: tuple[str, int | None], look: Callable[[Fabric], None]) -> Fabric:
    """Several VMs, several moves each, one message at a time; `look` after each message."""
    at = fabric(dissemination)

    def settle() -> None:
        while ways := at.under_way():
            at.deliver(*ways[0])
            look(at)

    moves = travel(at, WAYS, settle)
    assert_nothing_is_left(at, moves)
    return at


def told(at: Fabric) -> object:
    """What a caller and the NVEs get to see, whatever the order of what happens at once."""
    records = [(line.t_ns, line.event, line.subject, str(line.details)) for line in at.trace]
    return sorted(records), {nve: at.authority.desired.rules(nve) for nve in at.nves}


@BOTH
def test_nothing_is_left_to_do_when_an_input_has_been_taken(
    dissemination: tuple[str, int | None],
) -> None:
    """Not only for the moves that were woken."""

    def look(at: Fabric) -> None:
        assert promises.unsettled(at) == []

    travelled(dissemination, look)


def test_what_is_left_to_do_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The check above, checked: confirmations wake nobody."""
    monkeypatch.setattr(Moves, "confirmed", lambda self, nve, tokens: None)
    at = fabric(PUSH)
    at.request_move("vm1", "nve2")
    at.settle()

    assert any("move-prepared" in each for each in promises.unsettled(at))


@BOTH
def test_the_order_in_which_moves_are_looked_at_makes_no_difference(
    dissemination: tuple[str, int | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    forth = told(travelled(dissemination, lambda at: None))
    go_on = Moves.go_on

    def backwards(self: Moves) -> bool:
        self._awake = dict(reversed(self._awake.items()))
        return go_on(self)

    monkeypatch.setattr(Moves, "go_on", backwards)
    assert told(travelled(dissemination, lambda at: None)) == forth


@BOTH
def test_settling_ends(
    dissemination: tuple[str, int | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Soon: it never takes more rounds than a move has phases, however many moves there are."""
    rounds, longest = 0, 0
    go_on, settle = Moves.go_on, Authority._settle

    def counted(self: Moves) -> bool:
        nonlocal rounds
        rounds += 1
        return go_on(self)

    def measured(self: Authority) -> None:
        nonlocal rounds, longest
        rounds = 0
        settle(self)
        longest = max(longest, rounds)

    monkeypatch.setattr(Moves, "go_on", counted)
    monkeypatch.setattr(Authority, "_settle", measured)
    travelled(dissemination, lambda at: None)

    assert 1 < longest < len(Phase)
