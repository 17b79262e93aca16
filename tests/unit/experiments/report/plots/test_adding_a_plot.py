"""A plot is one file: nothing else in the project has to know of it."""

import importlib
import shutil
import sys
from pathlib import Path

import pytest

from experiments.measure.results import load
from experiments.report import plots
from tests.helpers.data import RECORDED

COUNT = '''
"""How many packets were sent."""

import pandas as pd
from matplotlib.figure import Figure

QUESTION = "How many packets were sent?"
PLACE = 100


def suits(result):
    return True


def draw(result, preset):
    figure = Figure()
    figure.subplots().bar(list(result.runs), [len(run.packets) for run in result.runs.values()])
    return figure


def caption(result):
    return "As many as are drawn."


def data(result):
    return pd.DataFrame({"sent": [len(run.packets) for run in result.runs.values()]})
'''


@pytest.mark.thorough
def test_a_new_plot_is_a_new_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    added = tmp_path / "plots"
    added.mkdir()
    (added / "packets_sent.py").write_text(COUNT)
    monkeypatch.setattr(plots, "__path__", [*plots.__path__, str(added)])
    importlib.invalidate_caches()
    try:
        copied = Path(shutil.copytree(RECORDED, tmp_path / "result"))
        assert "packets_sent" in plots.suiting(load(copied))
        only = ["packets_sent"]
        svg, png, csv = plots.draw_all(copied, formats=["svg", "png"], only=only, data=True)
        assert (svg.name, png.name) == ("packets_sent.svg", "packets_sent.png")
        assert svg.stat().st_size > 0
        assert csv.read_text().startswith("sent\n")
    finally:
        sys.modules.pop("experiments.report.plots.packets_sent", None)
