"""Strategies of dissemination: found by file name, answering two questions (R4.1.3)."""

import pytest

from controller.dissemination import names, strategy

INVOLVED, PRESENT = frozenset({"nve1", "nve2"}), frozenset({"nve2", "nve3"})


def test_finds_the_strategies_in_their_folder() -> None:
    assert names() == ["pull", "push"]


@pytest.mark.shows("R4.1.3")
def test_pull_tells_those_who_take_part_and_lets_entries_time_out() -> None:
    """Section 4.1 of the draft."""
    pull = strategy("pull", 7)

    assert pull.lifetime_s == 7
    assert pull.told_at_once(INVOLVED, PRESENT) == INVOLVED


def test_pull_has_a_lifetime_by_itself() -> None:
    assert strategy("pull", None).lifetime_s == 30


@pytest.mark.shows("R4.1.3")
def test_push_tells_everybody_and_for_good() -> None:
    """Section 7 of the draft."""
    push = strategy("push", None)

    assert push.lifetime_s is None
    assert push.told_at_once(INVOLVED, PRESENT) == INVOLVED | PRESENT


@pytest.mark.parametrize(
    ("name", "lifetime_s", "complaint"),
    [
        ("gossip", None, "mapping_update 'gossip' is none of pull, push"),
        ("push", 5, "with push, entries have no lifetime; leave lifetime_s out"),
        ("pull", 0, "lifetime_s is 0; OpenFlow time-outs are whole seconds"),
        ("pull", -1, "lifetime_s is -1; OpenFlow time-outs are whole seconds"),
    ],
)
def test_what_cannot_be_is_refused(name: str, lifetime_s: int | None, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        strategy(name, lifetime_s)
