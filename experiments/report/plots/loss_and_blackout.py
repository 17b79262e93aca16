"""What each flow lost in each move, and how long it was silent: run beside run.

A few moves are bars with their numbers; of many, a row is a flow and each of its moves a point.
"""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.measure.results import Result
from experiments.report.format import count, counts, milliseconds, span
from experiments.report.plots import _style
from experiments.report.tables import has_few_moves

SAYS = "Packets lost and longest silence, per move and flow."
PLACE = 30
_BAR_ROOM = 0.8


def suits(result: Result) -> bool:
    return any(len(run.metrics) for run in result.runs.values())


def draw(result: Result) -> Figure:
    runs = {name: run.metrics for name, run in result.runs.items()}
    few = has_few_moves(result)
    rows = _rows(runs) if few else _flow_rows(runs)
    colours = _style.run_colours(runs)
    figure = _style.figure(13, 1.8 + len(rows) * max(0.55, 0.24 * len(runs)))
    left, right = figure.subplots(1, 2, sharey=True)
    for axes, column in ((left, "lost"), (right, "blackout_ms")):
        (_draw_bars if few else _draw_points)(axes, runs, rows, column, colours)
        _scale(axes, runs, column)
    pauses = pd.concat(list(runs.values()))["pause_ms"].dropna()
    if few and len(pauses):
        right.axvline(pauses.median(), color=_style.INK, linewidth=1.2, linestyle=":")
        right.annotate(
            f"guest pause {milliseconds(pauses.median())} ms",
            (pauses.median(), 1.0),
            xycoords=right.get_xaxis_transform(),
            xytext=(3, 3),
            textcoords="offset points",
            fontsize=11,
        )
    left.set_yticks(range(len(rows)), [_row_label(row) for row in rows], fontsize=11)
    left.set_ylim(len(rows) - 0.4, -0.6)
    left.set_xlabel("packets lost")
    right.set_xlabel("blackout: longest silence (ms)")
    if len(runs) > 1:
        figure.legend(*left.get_legend_handles_labels(), loc="outside upper right", ncols=len(runs))
    return figure


def _rows(runs: dict[str, pd.DataFrame]) -> list[tuple[int, str, str]]:
    """(move, correspondent's NVE, flow), in the order in which they are drawn."""
    found = {
        (int(row["move"]), str(row["correspondent_nve"]), str(row["flow"]))
        for metrics in runs.values()
        for row in metrics.to_dict("records")
    }
    return sorted(found)


def _flow_rows(runs: dict[str, pd.DataFrame]) -> list[tuple[int, str, str]]:
    """The same with one row for all moves of a flow; its correspondent may have moved, too."""
    return sorted({(0, "", str(flow)) for metrics in runs.values() for flow in metrics["flow"]})


def _row_label(row: tuple[int, str, str]) -> str:
    move, nve, flow = row
    return f"move {move}, behind {nve}: {flow}" if move else flow


def _draw_bars(
    axes: Axes,
    runs: dict[str, pd.DataFrame],
    rows: list[tuple[int, str, str]],
    column: str,
    colours: dict[str, str],
) -> None:
    thickness = _BAR_ROOM / len(runs)
    for place, (name, metrics) in enumerate(runs.items()):
        indexed = metrics.set_index(["move", "flow"])[column]
        values = [indexed.get((move, flow), np.nan) for move, _, flow in rows]
        offset = (place - (len(runs) - 1) / 2) * thickness
        bars = axes.barh(
            [row + offset for row in range(len(rows))],
            values,
            height=thickness * 0.9,
            color=colours[name],
            label=name,
        )
        write = count if column == "lost" else milliseconds
        axes.bar_label(bars, [write(value) for value in values], padding=3, fontsize=10)


def _draw_points(
    axes: Axes,
    runs: dict[str, pd.DataFrame],
    rows: list[tuple[int, str, str]],
    column: str,
    colours: dict[str, str],
) -> None:
    lane = _BAR_ROOM / len(runs)
    for place, (name, metrics) in enumerate(runs.items()):
        row_of = {flow: row for row, (_, _, flow) in enumerate(rows)}
        offset = (place - (len(runs) - 1) / 2) * lane
        axes.plot(
            metrics[column],
            metrics["flow"].map(row_of) + offset,
            linestyle="none",
            marker="o",
            markersize=6,
            markeredgewidth=0,
            alpha=0.4,
            color=colours[name],
            label=name,
            clip_on=False,
        )


def _scale(axes: Axes, runs: dict[str, pd.DataFrame], column: str) -> None:
    """Symmetric-log scale: 0 is shown as what it is, and 5 stays visible beside 5,000."""
    axes.set_xscale("symlog", linthresh=1, linscale=0.4)
    highest = max((metrics[column].max() for metrics in runs.values()), default=1)
    axes.set_xlim(0, max(1.0, float(np.nan_to_num(highest, nan=1.0))) * 6)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.grid(visible=False, axis="y")


def caption(result: Result) -> str:
    parts = []
    for name, run in result.runs.items():
        metrics = run.metrics
        blackout = metrics["blackout_ms"].dropna()
        if not len(blackout):
            continue
        lost = metrics["lost"]
        parts.append(
            f"{name}: per move a flow lost {counts(lost.min(), lost.max())} packets and was silent "
            f"for {span(blackout.min(), blackout.max())}."
        )
    parts.append("What exceeds the guest pause is what the network added.")
    return " ".join(parts)
