"""What standbys have lost, and for how long their VMs were silent, by how often they are mirrored.

A point is a take-over.  The lost changes are as old as the first request that had been answered
since the mirror was taken: at most the interval plus the time that a mirror takes, which is the
line.
"""

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from experiments.measure.results import Result
from experiments.report.format import duration
from experiments.report.plots import _style
from experiments.report.plots._runs import rows_of_runs
from experiments.report.plots._style import Preset

QUESTION = "How much of a VM's state is lost with its server, by how often it is mirrored?"
PLACE = 39
PANELS = {"lost_age_ms": "state lost (ms)", "silence_ms": "silence (ms)"}
_LEAST_MS = 10.0


def suits(result: Result) -> bool:
    return len(data(result)) > 0


def data(result: Result) -> pd.DataFrame:
    """A row for each take-over of a VM that was mirrored, and whose service was asked."""
    table = rows_of_runs(result, "takeovers")
    if table.empty:
        return table
    found = table.dropna(subset=list(PANELS))
    return found[found["interval_s"] > 0]


def draw(result: Result, preset: Preset) -> Figure:
    table = data(result)
    figure = _style.figure(preset, 30 * preset.em_in)
    panels = figure.subplots(2, 1, sharex=True)
    kinds = sorted(set(table["kind"]), reverse=True)
    intervals = table["interval_s"]
    low, high = float(intervals.min()) / 1.5, float(intervals.max()) * 1.5
    for axes, (column, label) in zip(panels, PANELS.items(), strict=True):
        if column == "lost_age_ms":
            axes.plot(
                *([low, high], [low * 1e3, high * 1e3]),
                color=_style.colour(len(kinds)),
                linestyle=_style.line(len(kinds)),
                zorder=1,
            )
        for number, kind in enumerate(kinds):
            mine = table[table["kind"] == kind]
            axes.plot(
                *(mine["interval_s"], mine[column].clip(lower=_LEAST_MS)),
                linestyle="none",
                color=_style.colour(number),
                marker=_style.marker(number),
                markersize=preset.marker_pt * 2.6,
                clip_on=False,
                zorder=3,
            )
        axes.set_ylabel(label)
        highest = max(float(table[column].max()), high * 1e3 if column == "lost_age_ms" else 0.0)
        _style.log(axes, "y", max(_LEAST_MS, float(table[column].min()) / 2), highest * 2, 6)
    _style.log(panels[1], "x", low, high, 6)
    panels[1].set_xlabel("interval of mirrors (s)")
    handles = [
        _style.point_handle(number, kind, preset, line=False) for number, kind in enumerate(kinds)
    ]
    look = {"color": _style.colour(len(kinds)), "linestyle": _style.line(len(kinds))}
    handles.append(Line2D([], [], label="the interval", **look))
    _style.legend(figure, preset, handles)
    return figure


def caption(result: Result) -> str:
    said = []
    for row in data(result).sort_values("interval_s").to_dict("records"):
        said.append(
            f"Mirrored every {duration(row['interval_s'] * 1e3)} ({row['kind']}), {row['vm']} lost "
            f"{duration(row['lost_age_ms'])}, {row['lost_requests']} requests that had been "
            f"answered, and was silent for {duration(row['silence_ms'])}."
        )
    first, last = said[0], said[-1]
    return first if first == last else f"{first} {last}"
