"""TCP throughput over time, as iperf3's receiver reports it, with retransmissions and moves."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.measure.results import Result
from experiments.report.format import count
from experiments.report.plots import _style
from experiments.report.plots._timeline import NS_PER_S, Timeline, draw_moves

SAYS = "TCP throughput over time; the crosses are intervals with retransmissions."
PLACE = 50


def suits(result: Result) -> bool:
    return any(run.throughput is not None and len(run.throughput) for run in result.runs.values())


def draw(result: Result) -> Figure:
    runs = dict(list(result.runs.items())[: _style.MOST_RUNS])
    figure = _style.figure(13, 1.2 + 2.6 * len(runs))
    grid = figure.subplots(len(runs), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    for axes, (name, run) in zip(grid, runs.items(), strict=True):
        timeline = Timeline(run)
        _draw_throughput(axes, run, timeline)
        draw_moves(axes, timeline, titled=True)
        axes.set_title(name)
        axes.set_ylabel("Mbit/s")
    grid[0].set_ylim(0, grid[0].get_ylim()[1] * 1.2)
    grid[-1].set_xlabel("time since the traffic began (s); grey: the VM stands still")
    handles, labels = grid[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper right", ncols=min(4, max(1, len(labels))))
    return figure


def _draw_throughput(axes: Axes, run: Result, timeline: Timeline) -> None:
    if run.throughput is None:
        return
    looks = _style.looks(run.throughput["flow"].unique())
    for flow, rows in run.throughput.groupby("flow"):
        look = looks[str(flow)]
        at_s = (rows["t_ns"] - timeline.start_ns) / NS_PER_S
        megabits = rows["bits_per_second"] / 1e6
        axes.plot(at_s, megabits, color=look.colour, linestyle=look.line, label=f"{flow} TCP")
        resent = rows["retransmits"] > 0
        axes.plot(
            at_s[resent],
            megabits[resent],
            linestyle="none",
            marker="x",
            markersize=7,
            clip_on=False,
            color=_style.LOST,
            label="retransmissions",
        )


def caption(result: Result) -> str:
    return " ".join(
        f"{name}: {_about(str(flow), rows)}"
        for name, run in result.runs.items()
        if run.throughput is not None
        for flow, rows in run.throughput.groupby("flow")
    )


def _about(flow: str, rows: pd.DataFrame) -> str:
    average = rows["bits_per_second"].mean() / 1e6
    return (
        f"{flow} carried {average:.1f} Mbit/s on average, stood still for "
        f"{longest_stall_s(rows):.1f} s at the longest and retransmitted "
        f"{count(rows['retransmits'].sum())} segments."
    )


def longest_stall_s(rows: pd.DataFrame) -> float:
    """The longest run of intervals in which nothing arrived."""
    rows = rows.sort_values("t_ns")
    lengths_ns = rows["t_ns"].diff().fillna(0)
    stalled = rows["bits_per_second"] == 0
    stall_number = (~stalled).cumsum()
    longest_ns = lengths_ns[stalled].groupby(stall_number[stalled]).sum().max()
    return 0.0 if pd.isna(longest_ns) else float(longest_ns) / NS_PER_S
