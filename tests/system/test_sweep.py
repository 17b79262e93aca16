"""`vmmlab sweep` on real parts, at tiny size: what it leaves, and that it goes on where it was."""

import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest

from experiments.measure import results
from tests.helpers.command import TINY, complaint, vmmlab

VARY = ("--vary", "traffic.*.rate_pps=50,100", "--vary", "moves.0.pause_ms=0,20")
CELLS = [f"rate_pps={rate},pause_ms={pause}" for rate in (50, 100) for pause in (0, 20)]


@pytest.fixture(scope="module")
def scenario(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("sweep") / "tiny.yaml"
    file.write_text(TINY)
    return file


@pytest.fixture(scope="module")
def out(scenario: Path) -> Path:
    return scenario.parent / "matrix"


@pytest.fixture(scope="module")
def swept(scenario: Path, out: Path) -> "subprocess.CompletedProcess[str]":
    return vmmlab("sweep", scenario, *VARY, "--out", out)


def test_every_combination_is_a_result_and_a_line_of_the_table(
    swept: "subprocess.CompletedProcess[str]", out: Path
) -> None:
    assert swept.returncode == 0, swept.stderr
    assert sorted(path.name for path in (out / "cells").iterdir()) == sorted(CELLS)
    for name in CELLS:
        assert results.load(out / "cells" / name).manifest["valid"] is True
    summary = pd.read_csv(out / "summary.csv")
    assert summary["traffic.*.rate_pps"].tolist() == [50, 50, 100, 100]
    assert summary["moves.0.pause_ms"].tolist() == [0, 20, 0, 20]
    assert summary["completed"].tolist() == [1] * 4
    assert "Every combination in one line" in swept.stdout
    assert f"summary  {out}/summary.csv" in swept.stdout


def test_it_goes_on_where_it_was(
    swept: "subprocess.CompletedProcess[str]", scenario: Path, out: Path, tmp_path: Path
) -> None:
    """A sweep of which one cell is missing runs that cell, and no other."""
    begun = Path(shutil.copytree(out, tmp_path / "matrix"))
    missing = begun / "cells" / CELLS[2]
    shutil.rmtree(missing)
    kept = {path.name: path.stat().st_mtime_ns for path in (begun / "cells").iterdir()}

    done = vmmlab("sweep", scenario, *VARY, "--out", begun)

    assert done.returncode == 0, done.stderr
    assert done.stdout.count("is there already") == 3
    assert results.load(missing).manifest["valid"] is True
    now = {path.name: path.stat().st_mtime_ns for path in (begun / "cells").iterdir()}
    assert {name: now[name] for name in kept} == kept
    assert len(pd.read_csv(begun / "summary.csv")) == 4


def test_it_does_not_go_on_with_something_else(
    swept: "subprocess.CompletedProcess[str]", scenario: Path, out: Path
) -> None:
    done = vmmlab("sweep", scenario, *VARY, "--set", "seed=7", "--out", out)

    assert done.returncode == 2
    assert "holds a sweep of something else" in complaint(done)


@pytest.mark.parametrize(
    ("vary", "sentence"),
    [
        ("traffic.*.rate_pps", "--vary traffic.*.rate_pps: write it as key=value,value"),
        ("seed=1,1", "--vary seed=1,1: a value occurs twice"),
        ("topology.nves=2,1", "topology.nves: Input should be greater than or equal to 2"),
        ("moves.0.sped=1,2", "moves.0.sped: there is no such key here"),
    ],
)
def test_a_mistake_is_told_before_anything_is_run(
    scenario: Path, tmp_path: Path, vary: str, sentence: str
) -> None:
    done = vmmlab("sweep", scenario, "--vary", vary, "--out", tmp_path / "m")

    assert done.returncode == 2
    assert sentence in complaint(done)
    assert not (tmp_path / "m").exists()
