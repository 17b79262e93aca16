"""A sweep: every combination once, resumable, and one table of all that is finished."""

from pathlib import Path

import pandas as pd
import pytest

from experiments.measure.results import ResultError
from experiments.sweep import FLOWS, MOVES, SUMMARY, Sweep, cells, table
from tests.helpers import many_moves

VARIED = {"traffic.*.rate_pps": [100, 200], "topology.link.delay_ms": [0, 1]}
PLAN = {"scenario": {"name": "x"}, "vary": VARIED}


def names(varied) -> list[str]:
    return [cell.name for cell in cells(varied)]


def test_every_combination_has_a_cell_and_the_last_key_changes_fastest():
    assert names(VARIED) == [
        "rate_pps=100,delay_ms=0",
        "rate_pps=100,delay_ms=1",
        "rate_pps=200,delay_ms=0",
        "rate_pps=200,delay_ms=1",
    ]
    assert dict(cells(VARIED)[1].settings) == {
        "traffic.*.rate_pps": 100,
        "topology.link.delay_ms": 1,
    }


def test_keys_that_end_alike_are_told_apart():
    assert names({"control.delay_ms": [1], "topology.link.delay_ms": [2]}) == [
        "control.delay_ms=1,topology.link.delay_ms=2"
    ]


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ("../../etc", "where=..-..-etc"),
        ({"delay_ms": 1}, "where=delay_ms-1"),
        (True, "where=true"),
        (None, "where=None"),
        ("x" * 300, "where=" + "x" * 60),
    ],
)
def test_a_cells_name_can_be_a_directorys(value, name):
    assert names({"where": [value]}) == [name]


def test_values_that_read_alike_are_told_apart():
    first, second = names({"where": ["a b", "a-b"]})
    assert first != second


def test_a_sweep_goes_on_with_what_it_was_begun_with(tmp_path):
    begun = Sweep.begin(tmp_path / "s", cells(VARIED), PLAN)
    finished = begun.cells[2]
    many_moves.write_result(begun.place_of(finished), moves=6)
    again = Sweep.begin(tmp_path / "s", cells(VARIED), PLAN)
    assert [cell.name for cell in again.cells if again.is_finished(cell)] == [finished.name]


def test_a_sweep_does_not_go_on_with_something_else(tmp_path):
    Sweep.begin(tmp_path / "s", cells(VARIED), PLAN)
    with pytest.raises(ResultError, match="holds a sweep of something else"):
        Sweep.begin(tmp_path / "s", cells(VARIED), {**PLAN, "set": {"seed": 2}})


def test_a_directory_of_something_else_is_not_touched(tmp_path):
    (tmp_path / "s").mkdir()
    with pytest.raises(ResultError, match="is not a sweep; name another directory with --out"):
        Sweep.begin(tmp_path / "s", cells(VARIED), PLAN)
    assert not list((tmp_path / "s").iterdir())


def test_a_place_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ResultError, match="cannot be written"):
        Sweep.begin(tmp_path / "file" / "s", cells(VARIED), PLAN)


@pytest.fixture
def swept(tmp_path: Path) -> Sweep:
    """Two of four cells are finished; the second of them has lost three packets."""
    sweep = Sweep.begin(tmp_path / "s", cells(VARIED), PLAN)
    many_moves.write_result(sweep.place_of(sweep.cells[0]), moves=6)
    many_moves.write_result(sweep.place_of(sweep.cells[3]), moves=6, lost=range(310, 313))
    return sweep


def test_what_is_finished_is_added_up(swept):
    summary = swept.aggregate()
    assert summary["traffic.*.rate_pps"].tolist() == [100, 200]
    assert summary["lost"].tolist() == [0, 3]
    assert summary["moves"].tolist() == [6, 6]
    assert pd.read_csv(swept.path / SUMMARY)["lost"].tolist() == [0, 3]
    assert len(pd.read_csv(swept.path / FLOWS)) == 4
    moves = pd.read_csv(swept.path / MOVES)
    assert len(moves) == 24
    assert moves.groupby("topology.link.delay_ms")["lost"].sum().to_dict() == {0: 0, 1: 3}
    assert not list(swept.path.glob(".*"))


def test_the_table_shows_each_combination_in_a_line(swept):
    shown = table(swept.aggregate(), VARIED)
    assert shown.headings[:3] == ("rate_pps", "delay_ms", "run")
    assert [row[:3] for row in shown.rows] == [("100", "0", "many"), ("200", "1", "many")]
    assert [row[shown.headings.index("lost")] for row in shown.rows] == ["0", "3"]


def test_a_cell_that_is_not_valid_says_so_also_later(swept):
    manifest = swept.place_of(swept.cells[0]) / "manifest.json"
    told = manifest.read_text().replace('"valid": true', '"valid": false')
    manifest.write_text(told.replace('"problems": []', '"problems": ["it rained"]'))
    assert swept.problems(swept.cells[0]) == ["many: it rained"]
    assert swept.problems(swept.cells[3]) == []
    assert [row[2] for row in table(swept.aggregate(), VARIED).rows] == ["many !", "many"]


def test_a_sweep_of_which_nothing_is_finished_has_empty_tables(tmp_path):
    sweep = Sweep.begin(tmp_path / "s", cells(VARIED), PLAN)
    assert sweep.aggregate().empty
    assert (sweep.path / SUMMARY).read_text().startswith("traffic.*.rate_pps,")
