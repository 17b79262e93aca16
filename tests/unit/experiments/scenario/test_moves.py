"""Moves of a scenario: what is refused, and when a VM may move again."""

from typing import Any

import pytest

from experiments.errors import ScenarioError
from experiments.measure.trace import TraceEvent
from experiments.scenario.moves import GAP_S, AfterEvent
from tests.helpers.scenarios import GOOD, assert_a_sentence, complaint, resolved

MISTAKES: dict[str, tuple[str, Any, str, str]] = {
    # what: (key, value, the field that is named, the remedy or what is wrong)
    "move of nobody": ("moves.0.vm", "vm9", "moves.0.vm", "there are vm1, vm2, other1"),
    "move to nowhere": ("moves.0.to", "nve9", "moves.0.to", "there are nve1, nve2, nve3"),
    "move to where it is": ("moves.0.to", "nve1", "moves.0.to", "name another NVE"),
    "move before the start": ("moves.0.at_s", -1, "moves.0.at_s", "greater than or equal to 0"),
    "move after the end": ("moves.1.at_s", 20, "moves.1.at_s", "raise duration_s above 20"),
    "move too early": ("moves.1.at_s", 1.2, "moves.1.at_s", "the earliest is 1.55"),
    "refused by nothing": ("moves.1.expect", "refused", "moves.1.expect", "while it stands still"),
    "expectation": ("moves.0.expect", "miracle", "moves.0.expect", "'completed' or 'refused'"),
    "mode": ("moves.0.mode", "lukewarm", "moves.0.mode", "Input should be 'hot'"),
    "announcement": ("moves.0.announce", "shout", "moves.0.announce", "'garp', 'garp-reply'"),
    "repeated nothing": ("moves.1.announce_times", 3, "moves.1", "name a form"),
    "lost nothing": ("moves.1.announcement_lost", True, "moves.1", "name a form"),
    "announced too often": ("moves.0.announce_times", 11, "moves.0.announce_times", "equal to 10"),
    "no time": ("moves.0.at_s", None, "moves.0", "say when: either at_s or at"),
    "two times": ("moves.0.at", {"after": "move-completed"}, "moves.0", "either at_s or at"),
    "no such event": ("moves.0.at", {"after": "moved"}, "moves.0.at.after", "move-completed"),
    "event of nobody": (
        *("moves.0", {"at": {"after": "vm-paused", "of": "vm9"}, "vm": "vm1", "to": "nve2"}),
        *("moves.0.at.of", "there are vm1, vm2, other1, nve1"),
    ),
    "event after the end": (
        *("moves.0", {"at": {"after": "vm-paused", "from_s": 30}, "vm": "vm1", "to": "nve2"}),
        *("moves.0.at.from_s", "raise duration_s above 30"),
    ),
    "refused after an event": (
        *(
            "moves.0",
            {"at": {"after": "vm-paused"}, "expect": "refused", "vm": "vm1", "to": "nve2"},
        ),
        *("moves.0", "needs at_s"),
    ),
    "never announced": ("moves.0.announce_times", 0, "moves.0.announce_times", "equal to 1"),
}


@pytest.mark.parametrize(("key", "value", "field", "remedy"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_a_sentence_with_file_field_and_remedy(
    key: str, value: Any, field: str, remedy: str
) -> None:
    assert_a_sentence(complaint(GOOD, **{key: value}), field, remedy)


def test_the_next_move_of_a_vm_waits_until_it_has_arrived() -> None:
    """Not until the leftovers of the move before are gone: those may overlap."""
    next_s = 1 + 0.05 + GAP_S
    resolved(moves__1__at_s=next_s)

    with pytest.raises(ScenarioError, match=f"the earliest is {next_s:g}"):
        resolved(moves__1__at_s=next_s - 0.01)


def test_a_move_while_the_vm_stands_still_may_be_expected_to_be_refused() -> None:
    """It changes neither where the VM is nor when it may move next."""
    moves = [
        {"at_s": 1, "vm": "vm1", "to": "nve2", "pause_ms": 1000},
        {"at_s": 1.5, "vm": "vm1", "to": "nve3", "pause_ms": 60_000, "expect": "refused"},
        {"at_s": 2.5, "vm": "vm1", "to": "nve3"},
    ]
    assert [move.expect for move in resolved(moves=moves).moves].count("refused") == 1


def test_moves_are_checked_in_the_order_of_time() -> None:
    moves = [{"at_s": 10, "vm": "vm1", "to": "nve1"}, {"at_s": 1, "vm": "vm1", "to": "nve3"}]

    assert [move.at_s for move in resolved(moves=moves).moves] == [10, 1]


@pytest.mark.parametrize(
    ("of", "subject", "details", "since_traffic_s", "meant"),
    [
        ([], "vm2", {}, 1, True),
        ([], "vm2", {}, 0.9, False),
        ("nve3", "vm1", {"nve": "nve3", "to": "nve1"}, 1, True),
        ("nve3", "nve2, nve3", {}, 1, True),
        ("nve3", "vm1", {"nve": "nve2"}, 1, False),
        (["nve3", "vm1"], "vm1", {"nve": "nve3"}, 2, True),
        (["nve3", "vm1"], "vm2", {"nve": "nve3"}, 2, False),
    ],
)
def test_which_event_a_move_waits_for(
    of: Any, subject: str, details: dict[str, str], since_traffic_s: float, meant: bool
) -> None:
    at = AfterEvent.model_validate({"after": "entry-pulled", "of": of, "from_s": 1})

    assert at.is_meant(TraceEvent(0, "nva", "entry-pulled", subject, details), since_traffic_s) is (
        meant
    )
    assert not at.is_meant(TraceEvent(0, "nva", "entry-expired", subject, details), since_traffic_s)
