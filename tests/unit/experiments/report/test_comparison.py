"""Results beside each other: nothing is put into one table that cannot be compared."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from experiments.cli import EXIT_USAGE, app
from experiments.measure.recording import Recorder
from experiments.measure.results import ResultError
from experiments.report import comparison
from experiments.report.comparison import ComparedRun
from tests.helpers import synthetic
from tests.helpers.data import RECORDED


@pytest.fixture(scope="module")
def runs() -> list[ComparedRun]:
    return comparison.compared([RECORDED])


def test_a_run_is_a_row_with_the_figures_of_its_moves(runs: list[ComparedRun]) -> None:
    drop, tunnel = runs
    assert (drop.name, tunnel.name) == ("synthetic/drop", "synthetic/tunnel")
    assert (drop.moves, drop.completed, drop.sent, drop.lost) == (2, 2, 3300, 588)
    per_move = drop.lost_per_move
    assert (per_move.min, per_move.median, per_move.max) == (294, 294, 294)
    assert tunnel.lost_per_move.max == 18
    (table,) = comparison.tables(runs)
    assert {len(row) for row in table.rows} == {len(table.headings)}
    assert comparison.caveat(runs) is None


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"datapath": "system"}, "datapath"),
        ({"links": "netem"}, "emulation of links"),
        ({"pauses_ms": (500.0,)}, "pauses asked for"),
    ],
)
def test_another_kind_of_run_is_another_table(
    runs: list[ComparedRun], changed: dict[str, object], named: str
) -> None:
    other = replace(runs[1], kind=replace(runs[1].kind, **changed))  # type: ignore[arg-type]
    first, second = comparison.tables([runs[0], other])

    assert [row[0] for row in first.rows] == ["synthetic/drop"]
    assert [row[0] for row in second.rows] == ["synthetic/tunnel"]
    caveat = comparison.caveat([runs[0], other])
    assert caveat is not None
    assert f"they differ in {named}, so" in caveat


def test_what_else_differs_is_listed_and_nothing_else(runs: list[ComparedRun]) -> None:
    other = replace(runs[1], conditions={**runs[1].conditions, "CPUs": "64"}, valid=False)
    figures, conditions = comparison.tables([runs[0], other])

    assert figures.rows[1][0] == "synthetic/tunnel !"
    assert conditions.headings == ("run", "CPUs")
    assert conditions.rows[1] == ("synthetic/tunnel", "64")


def test_results_of_one_name_are_told_apart_by_their_places(tmp_path: Path) -> None:
    copy = tmp_path / "again"
    shutil.copytree(RECORDED, copy)
    names = [run.name for run in comparison.compared([RECORDED, copy])]
    assert names[2:] == [f"{copy}/drop", f"{copy}/tunnel"]
    assert len(set(names)) == 4


@pytest.mark.parametrize("moved", [True, False])
def test_a_run_without_moves_or_probes_has_dashes(tmp_path: Path, moved: bool) -> None:
    with Recorder.create(tmp_path / "r") as recorder:
        synthetic.record(recorder.run(), "drop", 10, probed=not moved, moved=moved)
    (run,) = comparison.compared([tmp_path / "r"])
    assert run.recovery_ms.max is None
    assert comparison.tables([run])[0].rows[0][9] == "–"


def test_a_sweep_is_refused_with_what_to_do_instead(tmp_path: Path) -> None:
    (tmp_path / "summary.csv").touch()
    with pytest.raises(ResultError, match=r"is a sweep, .* name results, such as those in .*cells"):
        comparison.compared([tmp_path])


def test_the_command_prints_tables_or_json_and_refuses_what_is_no_result(tmp_path: Path) -> None:
    command = CliRunner()
    printed = command.invoke(app, ["compare", str(RECORDED)])
    data = command.invoke(app, ["compare", str(RECORDED), "--json"])
    refused = command.invoke(app, ["compare", str(tmp_path)])

    assert printed.exit_code == 0
    assert "tunnel" in printed.output
    assert [run["lost"] for run in json.loads(data.output)] == [588, 36]
    assert refused.exit_code == EXIT_USAGE
