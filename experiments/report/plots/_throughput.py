"""Draws TCP as iperf3's receivers report it: what arrived in each interval, and what was sent
again.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from experiments.report.plots import _style
from experiments.report.plots._runs import Floats, RunGroup, TracedRun, binned
from experiments.report.plots._style import Preset

NS_PER_S = 1e9
_WHOLE = 0.7
"""A part of the usual interval; a shorter one is not a whole one."""


def of_run(run: TracedRun) -> pd.DataFrame | None:
    """Return the whole intervals of a run's TCP flows, or None if the run had no TCP workload.

    The columns are `flow`, `at_s` (the interval's end), `mbit_per_s`, `retransmits`.  iperf3 that
    had to wait for a processor reports short intervals, and its last one ends when the workload is
    stopped.  The rate of a few milliseconds is meaningless: such an interval is made one with those
    behind it, and left out at the end.
    """
    table = run.result.throughput
    if table is None or not len(table):
        return None
    parts = []
    for flow, rows in table.sort_values("t_ns").groupby("flow", sort=True):
        kept = _whole_intervals(rows)
        parts.append(
            pd.DataFrame(
                {
                    "flow": str(flow),
                    "at_s": (kept["t_ns"] - run.start_ns) / NS_PER_S,
                    "mbit_per_s": kept["bits_per_second"] / 1e6,
                    "retransmits": kept["retransmits"],
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


def _whole_intervals(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the intervals of one flow with short ones joined, as `t_ns` and rates."""
    length_ns = rows["t_ns"].diff()
    usual_ns = length_ns.median() if len(rows) > 2 else 0.0
    length_ns = length_ns.fillna(usual_ns or 1.0)
    number = np.zeros(len(rows), dtype=int)
    joined, so_far_ns = 0, 0.0
    for place, each_ns in enumerate(length_ns):
        number[place] = joined
        so_far_ns += each_ns
        if so_far_ns >= _WHOLE * usual_ns:
            joined, so_far_ns = joined + 1, 0.0
    weighed = rows.assign(bits=rows["bits_per_second"] * length_ns, length_ns=length_ns)
    whole = weighed[number < joined].groupby(number[number < joined])
    sums = whole[["bits", "length_ns", "retransmits"]].sum()
    return pd.DataFrame(
        {
            "t_ns": whole["t_ns"].last(),
            "bits_per_second": sums["bits"] / sums["length_ns"],
            "retransmits": sums["retransmits"],
        }
    )


def flows_of_runs(runs: Iterable[TracedRun]) -> list[str]:
    tables = (of_run(run) for run in runs)
    return sorted({flow for table in tables if table is not None for flow in table["flow"]})


def most_mbit_per_s(runs: Iterable[TracedRun]) -> float:
    """Return the highest rate of these runs, which are drawn to one scale; never zero."""
    tables = [table for run in runs if (table := of_run(run)) is not None and len(table)]
    return max([0.1, *(float(table["mbit_per_s"].max()) for table in tables)])


def draw(axes: Axes, group: RunGroup, preset: Preset) -> None:
    """Draw a line for each flow; of repeats, and of many flows, the median and the range."""
    tables = [table for run in group.runs if (table := of_run(run)) is not None]
    flows = flows_of_runs(group.runs)
    summed = len(flows) > _style.MOST_TOLD_APART
    for number, flow in enumerate(["all"] if summed else flows):
        mine = [table if summed else table[table["flow"] == flow] for table in tables]
        if len(group.runs) > 1 or summed:
            _draw_range(axes, mine, number)
        else:
            _draw_line(axes, mine[0], number, preset)
    axes.set_ylim(0, most_mbit_per_s(group.runs) * 1.15)
    _style.linear(axes, "y", 4)


def _draw_line(axes: Axes, table: pd.DataFrame, number: int, preset: Preset) -> None:
    axes.plot(
        table["at_s"],
        table["mbit_per_s"],
        color=_style.colour(number),
        linestyle=_style.line(number),
    )
    again = table[table["retransmits"] > 0]
    if again.empty:
        return  # matplotlib takes an empty unclipped artist for one at the figure's corner
    axes.plot(
        again["at_s"],
        again["mbit_per_s"],
        linestyle="none",
        marker="x",
        markersize=preset.marker_pt * 2,
        markeredgewidth=preset.line_pt,
        color=_style.INK,
        clip_on=False,
        zorder=3,
    )


def _draw_range(axes: Axes, tables: Sequence[pd.DataFrame], number: int) -> None:
    together = pd.concat(tables)
    if not len(together):
        return
    interval_s = float(together["at_s"].sort_values().diff().max() or 0.1)
    interval_s = max(interval_s, 0.1)
    edges: Floats = np.arange(0, float(together["at_s"].max()) + 2 * interval_s, interval_s)
    middle, low, high = binned(
        together["at_s"].to_numpy(), together["mbit_per_s"].to_numpy(), edges
    )
    there = ~np.isnan(middle)
    centre = edges[:-1] + interval_s / 2
    colour = _style.colour(number)
    axes.fill_between(centre[there], low[there], high[there], color=colour, alpha=0.25, linewidth=0)
    axes.plot(centre[there], middle[there], color=colour)


def handles(runs: Sequence[TracedRun], preset: Preset) -> list[Line2D]:
    """Return the legend's entries: each flow, and the meaning of the crosses, once."""
    flows = flows_of_runs(runs)
    if len(flows) > _style.MOST_TOLD_APART:
        flows = ["all TCP flows"]
    entries = [
        Line2D(
            [], [], color=_style.colour(number), linestyle=_style.line(number), label=f"TCP {flow}"
        )
        for number, flow in enumerate(flows)
    ]
    tables = [table for run in runs if (table := of_run(run)) is not None]
    if not any((table["retransmits"] > 0).any() for table in tables):
        return entries
    cross = Line2D(
        [],
        [],
        linestyle="none",
        marker="x",
        markersize=preset.marker_pt * 2,
        color=_style.INK,
        label="retransmissions",
    )
    return [*entries, cross]


def longest_stall_s(table: pd.DataFrame) -> float:
    """Return the longest sequence of intervals of a flow in which nothing arrived, in seconds."""
    rows = table.sort_values("at_s")
    lengths_s = rows["at_s"].diff().fillna(0)
    stalled = rows["mbit_per_s"] == 0
    stall_number = (~stalled).cumsum()
    longest_s = lengths_s[stalled].groupby(stall_number[stalled]).sum().max()
    return 0.0 if pd.isna(longest_s) else float(longest_s)
