"""Series: one entry that stands for many moves, and mistakes told where they were written."""

from typing import Any

import pytest

from tests.helpers.scenarios import GOOD, complaint, resolved

SERIES: dict[str, Any] = {
    "series": 5,
    "at_s": 1,
    "every_s": 1.2,
    "vm": "vm1",
    "to": ["nve2", "nve3"],
    "pause_ms": [0, 50, 500],
    "announce": "na",
}


def test_a_series_is_listed_move_by_move() -> None:
    listed = resolved(moves=[SERIES, {"at_s": 9, "vm": "vm1", "to": "nve1"}]).moves

    assert [move.at_s for move in listed] == [1, 2.2, 3.4, 4.6, 5.8, 9]
    assert [move.to for move in listed] == ["nve2", "nve3", "nve2", "nve3", "nve2", "nve1"]
    assert [move.pause_ms for move in listed[:5]] == [0, 50, 500, 0, 50]
    assert {move.announce for move in listed[:5]} == {"na"}


def test_a_series_may_take_vms_in_turn_and_all_at_once() -> None:
    vms = {f"v{number}": "nve1" for number in range(10)}
    series = {"series": 10, "at_s": 1, "every_s": 0, "vm": list(vms), "to": "nve2"}
    listed = resolved(tenants=[{"vni": 1, "vms": vms}], traffic=[], moves=[series]).moves

    assert {(move.at_s, move.to) for move in listed} == {(1.0, "nve2")}
    assert [move.vm for move in listed] == list(vms)


def test_settings_reach_into_a_series_as_it_was_written() -> None:
    changed = resolved(moves=[SERIES], moves__0__series=2, moves__0__pause_ms=7)

    assert [move.pause_ms for move in changed.moves] == [7, 7]


SERIES_MISTAKES: dict[str, tuple[dict[str, Any], str]] = {
    "none": ({"series": 0}, "moves.1.series: Input should be greater than or equal to 1"),
    "no interval": ({"every_s": None}, "moves.1.every_s: Input should be a valid number"),
    "endless": ({"every_s": float("inf")}, "moves.1.every_s: Input should be a finite number"),
    "empty list": ({"to": []}, "moves.1.to is an empty list; give the values to take in turn"),
    "key": ({"sped": 1}, "moves.1.sped: there is no such key here"),
    "value": ({"pause_ms": [0, -1]}, "moves.1.pause_ms: Input should be greater than or equal"),
    "too fast": ({"every_s": 0.9}, "moves.1.at_s: vm1 is still being moved at 12.7; the earliest"),
    "nowhere": ({"to": ["nve2", "nve8"]}, "moves.1.to: there is no NVE 'nve8'"),
    "to itself": ({"to": "nve2"}, "moves.1.to: vm1 is at nve2 already"),
}


@pytest.mark.parametrize(("changes", "sentence"), SERIES_MISTAKES.values(), ids=SERIES_MISTAKES)
def test_a_mistake_in_a_series_names_it_where_it_was_written(
    changes: dict[str, Any], sentence: str
) -> None:
    first = {"at_s": 1, "vm": "vm2", "to": "nve3"}
    told = complaint(GOOD, moves=[first, {**SERIES, "at_s": 10, **changes}])

    assert told.startswith(f"my.yaml: {sentence}")
    assert told.count("moves.1") == 1, "once, not once for every move of the series"
