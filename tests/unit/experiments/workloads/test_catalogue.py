"""A kind of traffic is one file: nothing else in the project has to know of it."""

import importlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from experiments import cli, workloads
from experiments.catalogue import WORKLOADS
from experiments.measure.recording import Recorder
from experiments.measure.results import load
from experiments.scenario.load import as_mapping
from experiments.workloads import Stage
from tests.helpers.scenarios import GOOD, complaint, resolved
from tests.unit.experiments.measure.test_results import record_one

SCHEMA = (Path(__file__).parents[4] / "results" / "README.md").read_text(encoding="utf-8")

DO_NOTHING = '''
"""Sends nothing, so often."""

from experiments.measure.rows import RowSchema
from experiments.scenario.parts import Name
from experiments.scenario.traffic import TrafficSpec
from experiments.workloads import Collected

SAYS = "Nothing at all."
ROWS = RowSchema("nothing.csv", {"t_ns": "when nothing happened"}, {"t_ns": "Int64"})
PROGRAMS = ()


class Settings(TrafficSpec):
    vm: Name
    times: int = 1


class Nothing:
    ends_by_itself = True

    def __init__(self, sent, stage):
        self._times = sum(each.times for each in sent)

    def launch(self):
        pass

    def begin(self, start_ns):
        pass

    def collect(self):
        return Collected(ROWS.frame([(None,)] * self._times))

    def stop(self):
        pass


prepare = Nothing
'''


@pytest.fixture
def do_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The kind `do-nothing`, added as a file."""
    (tmp_path / "do_nothing.py").write_text(DO_NOTHING)
    (tmp_path / "_part_of_it.py").write_text("")
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "__init__.py").write_text("")
    monkeypatch.setattr(workloads, "__path__", [*workloads.__path__, str(tmp_path)])
    importlib.invalidate_caches()
    yield "do-nothing"
    sys.modules.pop("experiments.workloads.do_nothing", None)


@pytest.mark.parametrize("kind", WORKLOADS.names())
def test_every_kind_has_what_a_workload_has(kind: str) -> None:
    workload = WORKLOADS.get(kind)
    assert workload.SAYS.endswith(".")
    assert set(workload.Settings.model_fields) > {"kind"}
    for done in ("launch", "begin", "collect", "stop", "ends_by_itself"):
        assert hasattr(workload.prepare, done)


def test_a_new_kind_is_a_new_file(do_nothing: str) -> None:
    assert WORKLOADS.names() == (
        *("ask", "diskless-client", "do-nothing", "download", "fetch", "forgery"),
        *("service", "tcp-bulk", "udp-probe"),
    )
    traffic = [{"kind": do_nothing, "vm": "vm1", "times": 3}]
    scenario = resolved(traffic=traffic)
    assert as_mapping(scenario)["traffic"] == traffic
    assert "traffic.0.often: there is no such key" in complaint(
        GOOD, traffic=[{**traffic[0], "often": 1}]
    )
    listed = CliRunner().invoke(cli.app, ["list", "--json"])
    assert json.loads(listed.stdout)["traffic"][do_nothing] == "Nothing at all."


def test_what_a_new_kind_measures_is_recorded_and_read(do_nothing: str, tmp_path: Path) -> None:
    workload = WORKLOADS.get(do_nothing)
    sent = resolved(traffic=[{"kind": do_nothing, "vm": "vm1", "times": 3}]).traffic
    stage = Stage({}, None, 1.0, 1, tmp_path, None, None, str)  # type: ignore[arg-type]
    measured = workload.prepare(sent, stage).collect().table
    with Recorder.create(tmp_path / "r") as recorder:
        record_one(recorder)
        recorder.run().rows(do_nothing, measured)
    assert (tmp_path / "r" / "nothing.csv").exists()
    read = load(tmp_path / "r").rows(do_nothing)
    assert read is not None
    assert len(read) == 3


def test_the_catalogue_is_quick_to_look_at() -> None:
    look = (
        "import sys; from experiments.catalogue import WORKLOADS; WORKLOADS.all();"
        "print(*sys.modules)"
    )
    imported = subprocess.run([sys.executable, "-c", look], capture_output=True, check=True)
    modules = imported.stdout.decode().split()
    assert "experiments.workloads.tcp_bulk" in modules
    assert {"mininet", "pandas", "numpy"} & set(modules) == set()


@pytest.mark.parametrize("kind", WORKLOADS.names())
def test_the_schema_explains_the_columns_of_every_file_of_rows(kind: str) -> None:
    """In the same words, and in the same order."""
    rows = WORKLOADS.get(kind).ROWS
    if rows is None:
        return
    assert re.search(rf"^\| `{re.escape(rows.file)}` \|", SCHEMA, re.MULTILINE)
    assert explained(rows.file) == dict(rows.columns)


def explained(file: str) -> dict[str, str]:
    """The columns of the table below the heading that names the file: name and meaning."""
    _, _, section = SCHEMA.partition(f"\n### `{file}`\n")
    cells = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in section.partition("\n### ")[0].splitlines()
        if line.startswith("| `")
    ]
    return {row[0].strip("`"): row[-1] for row in cells}
