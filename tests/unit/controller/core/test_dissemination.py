"""Strategies of dissemination: found by file name, answering two questions (R4.1.3)."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from controller.core import dissemination
from controller.core.dissemination import names, strategy
from experiments.scenario.load import as_mapping
from tests.helpers.nva import settings
from tests.helpers.scenarios import GOOD, complaint, resolved

INVOLVED, PRESENT = frozenset({"nve1", "nve2"}), frozenset({"nve2", "nve3"})


def test_finds_the_strategies_in_their_folder() -> None:
    assert {"pull", "push"} <= set(names())
    assert names() == sorted(set(names()))


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
        ("gossip", None, f"there is no mapping_update 'gossip'; there are {', '.join(names())}$"),
        ("push", 5, "with push, entries have no lifetime; leave lifetime_s out"),
        ("pull", 0, "lifetime_s is 0; OpenFlow time-outs are whole seconds"),
        ("pull", -1, "lifetime_s is -1; OpenFlow time-outs are whole seconds"),
    ],
)
def test_what_cannot_be_is_refused(name: str, lifetime_s: int | None, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        strategy(name, lifetime_s)


NEW = '''
class Strategy:
    """Nobody is told; entries are forgotten after two seconds, if nothing else is said."""

    def __init__(self, lifetime_s, keeps_expired):
        if keeps_expired:
            raise ValueError("a rumour is forgotten for good; leave on_expiry out")
        self.lifetime_s, self.keeps_expired = lifetime_s or 2, False

    def told_at_once(self, involved, present):
        return frozenset()
'''


@pytest.fixture
def rumour(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A strategy that somebody has added as one new file."""
    (tmp_path / "rumour.py").write_text(NEW)
    monkeypatch.setattr(dissemination, "__path__", [*dissemination.__path__, str(tmp_path)])
    yield "rumour"
    if sys.modules.pop(f"{dissemination.__name__}.rumour", None):
        del dissemination.rumour  # type: ignore[attr-defined]


def test_a_new_file_is_all_that_a_new_strategy_takes(rumour: str, tmp_path: Path) -> None:
    """Scenarios and the NVA have it as it is, with what it takes and what it refuses."""
    asked = {"mapping_update": rumour, "lifetime_s": 7}

    assert rumour in names()
    assert as_mapping(resolved(overlay=asked))["overlay"]["mapping_update"] == rumour
    assert settings(tmp_path, **asked).dissemination().lifetime_s == 7
    assert settings(tmp_path, mapping_update=rumour).dissemination().lifetime_s == 2
    assert complaint(GOOD, overlay={**asked, "on_expiry": "keep"}) == (
        "my.yaml: overlay: a rumour is forgotten for good; leave on_expiry out"
    )
    assert complaint(GOOD, **{"overlay.mapping_update": "gossip"}) == (
        f"my.yaml: overlay: there is no mapping_update 'gossip'; there are {', '.join(names())}"
    )
