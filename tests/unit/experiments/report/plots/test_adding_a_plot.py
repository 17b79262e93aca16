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

from matplotlib.figure import Figure

SAYS = "How many packets were sent."


def suits(result):
    return True


def draw(result):
    figure = Figure()
    figure.subplots().bar(list(result.runs), [len(run.packets) for run in result.runs.values()])
    return figure


def caption(result):
    return "As many as are drawn."
'''


def test_a_new_plot_is_a_new_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    added = tmp_path / "plots"
    added.mkdir()
    (added / "packets_sent.py").write_text(COUNT)
    monkeypatch.setattr(plots, "__path__", [*plots.__path__, str(added)])
    importlib.invalidate_caches()
    try:
        result = load(Path(shutil.copytree(RECORDED, tmp_path / "result")))
        assert plots.suiting(result)["packets_sent"].SAYS == "How many packets were sent."
        svg, png = plots.draw(result, "packets_sent")
        assert (svg.name, png.name) == ("packets_sent.svg", "packets_sent.png")
        assert svg.stat().st_size > 0
    finally:
        sys.modules.pop("experiments.report.plots.packets_sent", None)
