"""What a client of a task has got of its document over time, run beside run.

Time is counted from when the move began.  A line that falls to zero is a client that had to begin
again.
"""

import pandas as pd
from matplotlib.figure import Figure

from experiments.measure import visits
from experiments.measure.results import Result
from experiments.measure.visits import Visit
from experiments.report.format import duration
from experiments.report.plots import _style
from experiments.report.plots._runs import runs_of
from experiments.report.plots._style import Preset

QUESTION = "What does a client of a task notice of its move?"
PLACE = 42
COLUMNS = ("since_move_s", "whole_mb")


def suits(result: Result) -> bool:
    return len(data(result)) > 0


def data(result: Result) -> pd.DataFrame:
    """A row for each line that the client of a run has written down."""
    tables = []
    for name, run in runs_of(result).items():
        fetched, start_ns = run.result.rows("fetch"), visits.began_ns(run.result.events)
        if fetched is None or start_ns is None or not len(fetched):
            continue
        mine = fetched[fetched["flow"] == fetched["flow"].iloc[0]]
        since = (mine["t_ns"] - start_ns).astype("float64") / 1e9
        tables.append(
            pd.DataFrame({"run": name, "since_move_s": since, "whole_mb": mine["whole"] / 1e6})
        )
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def draw(result: Result, preset: Preset) -> Figure:
    table = data(result)
    figure = _style.figure(preset, 24 * preset.em_in)
    axes = figure.subplots()
    names = list(dict.fromkeys(table["run"]))
    for number, name in enumerate(names[: _style.MOST_TOLD_APART]):
        mine = table[table["run"] == name]
        axes.plot(
            *(mine["since_move_s"], mine["whole_mb"]),
            color=_style.colour(number),
            linestyle=_style.line(number),
            marker=_style.marker(number),
            markevery=max(1, len(mine) // 6),
            markersize=preset.marker_pt * 2,
        )
    axes.axvline(0, color=_style.FAINT, linewidth=preset.line_pt)
    axes.set_ylim(0, float(table["whole_mb"].max()) * 1.08)
    axes.set_xlabel("time since the task stopped (s)")
    axes.set_ylabel("of the document (MB)")
    _style.linear(axes, "x", 6 if preset.narrow else 10)
    _style.linear(axes, "y", 6)
    handles = [
        _style.point_handle(number, name, preset)
        for number, name in enumerate(names[: _style.MOST_TOLD_APART])
    ]
    _style.legend(figure, preset, handles if len(names) > 1 else [])
    return figure


def caption(result: Result) -> str:
    said = []
    for name, run in runs_of(result).items():
        found = visits.visit(run.result.events, run.result.rows("fetch"), run.result.rows("ask"))
        if found is not None:
            said.append(f"{name}: {_sentence(found)}")
    return " ".join(said)


def _sentence(found: Visit) -> str:
    parts = []
    if found.silence_ms is not None:
        parts.append(f"the download was silent for {duration(found.silence_ms)}")
    if found.wait_ms is not None:
        parts.append(f"an answer took up to {duration(found.wait_ms)}")
    if found.again:
        parts.append(f"{found.again / 1e6:.1f} MB came twice")
    return ", ".join(parts) + "."
