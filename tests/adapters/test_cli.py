"""What was measured is there, whatever becomes of drawing and printing it, and of later runs.

The runs record made-up packets instead of building a lab, and nothing is drawn.
"""

import errno
import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import typer

from experiments import cli
from experiments.carry_out import run_all, sweep_all
from experiments.errors import RunError
from experiments.measure import recording, results
from experiments.measure.recording import RunRecorder
from experiments.measure.results import ResultError
from experiments.report import html, plots
from experiments.run import run as running
from experiments.sweep import Sweep, cells
from experiments.terminal import Screen, Terminal
from tests.helpers import runs, synthetic

FAILING_SEED = 9


class Printed:
    """What has been printed, and how the command ended."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch
        self.status = 0

    def run(self, place: Path, *seeds: int, columns: str = "", out: Any = None) -> None:
        """`vmmlab run`, with a variant for each seed if there is more than one."""
        wanted = {f"seed{seed}": runs.scenario(seed=seed) for seed in seeds}
        if len(seeds) == 1:
            wanted = {"": next(iter(wanted.values()))}
        with self._printing(columns, out) as screen:
            self._ended(run_all(runs.scenario(), wanted, place, running.Options(), screen))

    def sweep(self, place: Path, *seeds: int) -> None:
        """`vmmlab sweep`, with a cell for each seed."""
        matrix = cells({"seed": seeds})
        planned = {
            cell.name: (wanted := runs.scenario(**cell.settings), {"": wanted}) for cell in matrix
        }
        with self._printing() as screen:
            self._ended(sweep_all(Sweep.begin(place, matrix, {}), planned, screen))

    @contextmanager
    def _printing(self, columns: str = "", out: Any = None) -> Iterator[Screen]:
        self._monkeypatch.delenv("COLUMNS", raising=False)
        if columns:
            self._monkeypatch.setenv("COLUMNS", columns)
        self._files = out or io.StringIO(), io.StringIO()
        screen = Screen(*(Terminal(file=file) for file in self._files))
        self._monkeypatch.setattr(cli, "err", screen.err)
        try:
            with cli._mistakes_are_sentences():
                yield screen
        except typer.Exit as ending:
            self.status = ending.exit_code

    def _ended(self, well: bool) -> None:
        self.status = 0 if well else cli.EXIT_FAILED

    @property
    def out(self) -> str:
        return self._files[0].getvalue()

    @property
    def err(self) -> str:
        return self._files[1].getvalue()


@pytest.fixture
def printed(monkeypatch: pytest.MonkeyPatch) -> Printed:
    def measured(scenario: Any, recorder: RunRecorder, *_: object) -> running.RunOutcome:
        if scenario.seed == FAILING_SEED:
            raise RunError("the run failed: the NVA did not start")
        synthetic.record(recorder, "drop", 10)
        return running.RunOutcome()

    monkeypatch.setattr(running, "run", measured)
    monkeypatch.setattr(plots, "draw_all", lambda _: [])
    monkeypatch.setattr(html, "write_report", lambda path: path / "report.html")
    return Printed(monkeypatch)


def broken(error: Exception) -> Callable[[Path], None]:
    def fail(_: Path) -> None:
        raise error

    return fail


@pytest.mark.parametrize(
    ("what", "name", "said"),
    [
        (plots, "draw_all", "the plots could not be drawn (ValueError: no such font)"),
        (html, "write_report", "the report could not be written (ValueError: no such font)"),
    ],
)
def test_what_cannot_be_drawn_costs_nothing_else(
    printed: Printed,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    what: Any,
    name: str,
    said: str,
) -> None:
    monkeypatch.setattr(what, name, broken(ValueError("no such font")))
    printed.run(tmp_path / "r", 1)

    assert printed.status == 1
    assert f"vmmlab: {said}; {tmp_path}/r has what was measured\n" in printed.err
    assert "not valid" not in printed.err
    assert "vm2>vm1/ipv4" in printed.out
    assert results.load(tmp_path / "r").variants == []


def test_what_cannot_be_printed_costs_nothing_else(printed: Printed, tmp_path: Path) -> None:
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        printed.run(tmp_path / "r", 1, out=full)

    assert printed.status == 1
    assert "not everything could be printed (No space left on device)" in printed.err
    assert results.load(tmp_path / "r").variants == []


def test_a_run_that_fails_does_not_cost_those_before_it(printed: Printed, tmp_path: Path) -> None:
    printed.run(tmp_path / "r", 1, FAILING_SEED)

    assert printed.status == 1
    assert printed.err.splitlines() == [
        f"kept: seed1 had been finished and can be found in {tmp_path}/r",
        "vmmlab: the run failed: the NVA did not start",
    ]
    assert list(results.load(tmp_path / "r").runs) == ["seed1"]


def test_a_cell_that_fails_does_not_keep_the_others(printed: Printed, tmp_path: Path) -> None:
    printed.sweep(tmp_path / "m", FAILING_SEED, 1)

    assert printed.status == 1
    assert printed.err.splitlines()[0] == (
        f"not valid: seed={FAILING_SEED}: the run failed: the NVA did not start; "
        "the same command runs this cell again"
    )
    assert [path.name for path in (tmp_path / "m" / "cells").iterdir()] == ["seed=1"]
    assert "Every combination in one line" in printed.out


def test_a_result_of_a_run_at_the_same_time_is_not_touched(
    printed: Printed, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    measured = running.run

    def overtaken(*of_run: Any) -> running.RunOutcome:
        (tmp_path / "r").mkdir()
        return measured(*of_run)

    monkeypatch.setattr(running, "run", overtaken)
    printed.run(tmp_path / "r", 1)

    assert printed.status == 0
    assert printed.err == f"{tmp_path}/r has been taken meanwhile; this result is {tmp_path}/r-2\n"
    assert list((tmp_path / "r").iterdir()) == []
    assert f"report  {tmp_path}/r-2/report.html" in printed.out
    assert results.load(tmp_path / "r-2").variants == []


@pytest.mark.parametrize("columns", ["", pytest.param("80", marks=pytest.mark.thorough), "50"])
def test_no_table_cuts_a_number_or_a_heading(
    printed: Printed, tmp_path: Path, columns: str
) -> None:
    """Piped, it is as wide as it needs; otherwise words are broken and columns left out."""
    printed.run(tmp_path / "r", 1, 2, columns=columns)

    assert "…" not in printed.out
    assert "silence" in printed.out
    if columns:
        rows = [line for line in printed.out.splitlines() if not line.startswith("report ")]
        assert max(map(len, rows)) <= int(columns)
    assert ("via source" in printed.out.split("no room for")[0]) == (columns != "50")


def test_a_result_of_another_user_is_a_sentence(tmp_path: Path) -> None:
    result = synthetic.write_result(tmp_path / "r", rate_pps=10)
    (result / "plots").write_text("nobody can make a directory of it", encoding="utf-8")

    with pytest.raises(ResultError, match=r"cannot be written .*; copy the result to"):
        html.write_report(result)


def test_the_errors_that_mean_a_full_disk() -> None:
    assert recording.is_disk_full(OSError(errno.ENOSPC, "no space"))
    assert not recording.is_disk_full(OSError(errno.EACCES, "not yours"))
