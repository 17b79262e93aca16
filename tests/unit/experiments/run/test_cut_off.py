"""Who is cut off, by who has heard of whom: every way in which some links of four servers fail."""

from itertools import chain, combinations

import pytest

from experiments.run.cut_off import MOST_WITNESSES, Silences, pairs, witnesses

DETECT_S, NOW_S = 1.0, 100.0
PRIMARY, STANDBY, THIRD = "p", "s", ["a", "b"]
HEARD = list(pairs(PRIMARY, STANDBY, THIRD))
SOME = list(chain.from_iterable(combinations(HEARD, n) for n in range(len(HEARD) + 1)))


def test_the_witnesses_are_a_few_of_the_others() -> None:
    servers = [f"nve{n}" for n in range(1, 9)]
    assert witnesses(servers, "nve2", "nve1") == ["nve3", "nve4", "nve5"]
    assert len(witnesses(servers, "nve7", "nve8")) == MOST_WITNESSES
    assert witnesses(servers[:2], "nve1", "nve2") == []


def test_each_listens_to_the_primary_and_witnesses_to_the_standby_too() -> None:
    assert HEARD == [("s", "p"), ("a", "p"), ("a", "s"), ("b", "p"), ("b", "s")]


@pytest.mark.shows("R7.3")
@pytest.mark.parametrize("broken", SOME, ids=lambda broken: " ".join(a + b for a, b in broken))
def test_a_primary_is_cut_off_if_nobody_hears_of_it_and_somebody_of_the_standby(
    broken: tuple[tuple[str, str], ...],
) -> None:
    """Each set of pairs that do not hear of each other any more, for 0.3 s or for 1.5 s."""
    for silent_s in (0.3, 1.5):
        silences = Silences(0)
        for pair in HEARD:
            silences.heard(*pair, NOW_S - (silent_s if pair in broken else 0.1))
        found = silences.cut_off_s(PRIMARY, STANDBY, THIRD, DETECT_S, NOW_S)
        nobody = {(each, PRIMARY) for each in (STANDBY, *THIRD)} <= set(broken)
        vouched = not {(each, STANDBY) for each in THIRD} <= set(broken)
        if nobody and vouched and silent_s > DETECT_S:
            assert found == pytest.approx(silent_s)
        else:
            assert found is None


def test_without_a_witness_nobody_can_tell() -> None:
    silences = Silences(0)
    assert silences.cut_off_s(PRIMARY, STANDBY, [], DETECT_S, NOW_S) is None


def test_who_was_never_heard_of_is_silent_since_the_beginning() -> None:
    silences = Silences(NOW_S)
    assert silences.silence_s("s", "p", NOW_S + 2) == 2
    silences.heard("a", STANDBY, NOW_S + 2)
    assert silences.cut_off_s(PRIMARY, STANDBY, THIRD, DETECT_S, NOW_S + 2) == 2
    assert silences.cut_off_s(PRIMARY, STANDBY, THIRD, DETECT_S, NOW_S + 0.5) is None
