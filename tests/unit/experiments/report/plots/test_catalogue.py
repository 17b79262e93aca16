"""Every plot can be drawn from every recorded schema version, and says what one sees."""

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from experiments.measure.results import Recorder, Result, load
from experiments.measure.trace import TraceEvent
from experiments.report import plots
from experiments.report.plots import _style, _timeline
from tests.helpers import synthetic
from tests.helpers.data import DATA
from tests.helpers.packets import packets as make_packets

RECORDED = sorted(DATA.glob("result-v*"))


@pytest.fixture(params=RECORDED, ids=lambda path: path.name)
def recorded(request) -> Result:
    return load(request.param)


@pytest.fixture
def bare(tmp_path) -> Result:
    """A run without moves, TCP, or a single packet that arrived."""
    with Recorder.create(tmp_path / "bare") as recorder:
        run = recorder.run()
        run.scenario(synthetic.scenario("drop", 10))
        run.manifest({"name": "bare"})
        run.events([TraceEvent(1, "runner", "run-started")])
        run.packets(make_packets([None] * 10))
        run.moves(load(RECORDED[0]).runs["drop"].moves.head(0))
    return load(tmp_path / "bare")


def test_there_is_a_recorded_result():
    assert RECORDED


@pytest.mark.parametrize("name", plots.names())
def test_every_plot_is_drawn_from_a_recorded_result(recorded, name):
    plot = plots.get(name)
    assert plot.suits(recorded)
    assert plot.draw(recorded).axes
    assert plot.SAYS.endswith(".")
    assert "drop" in plot.caption(recorded)


def test_one_run_alone_is_drawn_too(recorded):
    run = recorded.runs["tunnel"]
    for plot in plots.suiting(run).values():
        assert plot.draw(run).axes
        assert plot.caption(run)


@pytest.mark.shows("T5")
def test_every_plot_is_a_file_in_both_formats(drawn_result):
    files = sorted((drawn_result / "plots").iterdir())
    assert len(files) == 2 * len(plots.names())
    for file in files:
        if file.suffix == ".svg":
            ElementTree.fromstring(file.read_text())
        else:
            assert file.read_bytes().startswith(b"\x89PNG")


def test_the_same_plot_is_the_same_file(drawn_result, tmp_path):
    with _style.applied():
        _style.save(plots.get("tcp_throughput").draw(load(drawn_result)), tmp_path / "again.svg")
    drawn = drawn_result / "plots" / "tcp_throughput.svg"
    assert (tmp_path / "again.svg").read_bytes() == drawn.read_bytes()


def test_the_worst_recovery_of_any_run_is_inside_its_axes(recorded):
    metrics = recorded.runs["tunnel"].metrics
    metrics["recovery_excess_ms"] = 10 * recorded.runs["drop"].metrics["recovery_excess_ms"].max()
    for axes in plots.get("recovery").draw(recorded).axes:
        bottom, top = axes.get_ylim()
        shown = np.concatenate([np.asarray(line.get_ydata(), float) for line in axes.get_lines()])
        assert bottom <= shown.min()
        assert shown.max() <= top


def test_a_run_without_moves_or_arrivals_has_the_plots_it_can_have(bare):
    suiting = plots.suiting(bare)
    assert list(suiting) == ["delay_over_time"]
    for plot in suiting.values():
        assert plot.draw(bare).axes
        assert "10 of 10 packets were lost" in plot.caption(bare)


def test_the_catalogue_is_the_folder():
    folder = Path(plots.__file__).parent
    files = {file.stem for file in folder.glob("*.py") if not file.stem.startswith("_")}
    assert set(plots.names()) == files


def test_events_that_are_close_share_a_name():
    shown = [(0.0, "requested"), (0.1, "paused"), (1.0, "converged")]
    clusters = _timeline._clusters(shown, width_s=0.5)
    assert clusters == [shown[:2], shown[2:]]
    assert _timeline._stacked(["a", "b", "c", "d"]) == "a, b,\nc, d"
