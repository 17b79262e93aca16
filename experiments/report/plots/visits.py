"""What a client of a task has got of its document over time, run beside run.

Time is counted from when the move began.  A line that ends, and begins anew at zero, is a client
that had to begin again.
"""

import pandas as pd
from matplotlib.figure import Figure

from experiments.measure import visits
from experiments.measure.results import Result
from experiments.report.format import listing
from experiments.report.plots import _style
from experiments.report.plots._runs import runs_of
from experiments.report.plots._style import Preset

QUESTION = "How does a client of a task get its document while the task moves?"
PLACE = 33
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
        # No line leads down to where a client begins again: nothing was received backwards.
        whole_mb = mine["whole_mb"].mask(mine["whole_mb"].diff() < 0)
        axes.plot(
            *(mine["since_move_s"], whole_mb),
            color=_style.colour(number),
            linestyle=_style.line(number),
            marker=_style.marker(number),
            markevery=max(1, len(mine) // 6),
            markersize=preset.marker_pt * 2,
        )
    axes.axvline(0, color=_style.FAINT, linewidth=preset.line_pt)
    axes.set_ylim(0, float(table["whole_mb"].max()) * 1.08)
    axes.set_xlabel("time since the task stopped (s)")
    axes.set_ylabel("received of the document (MB)")
    _style.linear(axes, "x", 6 if preset.narrow else 10)
    _style.linear(axes, "y", 6)
    handles = [
        _style.point_handle(number, name, preset)
        for number, name in enumerate(names[: _style.MOST_TOLD_APART])
    ]
    _style.legend(figure, preset, handles if len(names) > 1 else [])
    return figure


def caption(result: Result) -> str:
    """Return whose document came whole at the first attempt, and who had to begin again."""
    again: list[str] = []
    at_once: list[str] = []
    for name, mine in data(result).groupby("run", sort=False):
        (again if (mine["whole_mb"].diff() < 0).any() else at_once).append(str(name))
    said = []
    if at_once:
        said.append(f"In {listing(at_once)}, the download went on where it was.")
    if again:
        said.append(f"In {listing(again)}, it began again, where the line starts anew.")
    said.append("The vertical line is when the task stopped.")
    return " ".join(said)
