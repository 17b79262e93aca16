"""What standbys have lost, and for how long their VMs were silent, by how often they are mirrored.

A point is a take-over.  The lost changes are as old as the first request that had been answered
since the mirror was taken: at most the interval plus the time that a mirror takes.  A hot standby
has every change before it is answered: its interval is 0.
"""

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from experiments.measure.results import Result
from experiments.report.format import duration, listing, span, things
from experiments.report.plots import _style
from experiments.report.plots._runs import rows_of_runs
from experiments.report.plots._style import Preset

QUESTION = "How much of a VM's state is lost with its server, by how often it is mirrored?"
PLACE = 39
PANELS = {"lost_age_ms": "age of the lost state (s)", "silence_ms": "silence of the service (s)"}
KINDS = ("hot", "warm", "cold")
_LINEAR_UP_TO = 100
"""The intervals have a logarithmic axis, without the hot standby, if the longest exceeds the
shortest by a larger factor."""


def suits(result: Result) -> bool:
    return bool((data(result).get("interval_s", pd.Series(dtype=float)) > 0).any())


def data(result: Result) -> pd.DataFrame:
    """A row for each take-over of a VM whose service was asked."""
    table = rows_of_runs(result, "takeovers")
    return table if table.empty else table.dropna(subset=list(PANELS))


def draw(result: Result, preset: Preset) -> Figure:
    table = data(result)
    intervals = table.loc[table["interval_s"] > 0, "interval_s"]
    shortest, longest = float(intervals.min()), float(intervals.max())
    linear = longest / shortest <= _LINEAR_UP_TO
    low, high = (0.0, longest * 1.1) if linear else (shortest / 1.5, longest * 1.5)
    figure = _style.figure(preset, 32 * preset.em_in)
    panels = figure.subplots(2, 1, sharex=True)
    kinds = [kind for kind in KINDS if (table["kind"] == kind).any()]
    for axes, (column, label) in zip(panels, PANELS.items(), strict=True):
        if column == "lost_age_ms":
            ends = [low, longest] if linear else [low, high]
            axes.plot(ends, ends, color=_style.FAINT, linestyle="--", zorder=1)
        for kind in kinds:
            mine = table[table["kind"] == kind]
            number = KINDS.index(kind)
            _style.dots(
                *(axes, mine["interval_s"], mine[column] / 1e3, preset),
                marker=number,
                colour=number,
            )
        axes.set_ylabel(_style.wrapped(label, preset.characters(0.3)))
        bound = longest if column == "lost_age_ms" else 0.0
        axes.set_ylim(0, max(float(table[column].max()) / 1e3, bound) * 1.1)
        _style.linear(axes, "y", 5)
    if linear:
        panels[1].set_xlim(low - longest * 0.02, high)
        _style.linear(panels[1], "x", 6)
    else:
        _style.log(panels[1], "x", low, high, 6)
    panels[1].set_xlabel("interval between mirrors (s)")
    handles = [
        _style.point_handle(KINDS.index(kind), f"{kind} standby", preset, line=False)
        for kind in kinds
    ]
    handles.append(Line2D([], [], label="as old as the interval", color=_style.FAINT, ls="--"))
    _style.legend(figure, preset, handles)
    return figure


def caption(result: Result) -> str:
    table = data(result).sort_values("interval_s")
    said = []
    if len(hot := table[table["kind"] == "hot"]):
        lost = int(hot["lost_requests"].sum())
        which = "request" if lost < 2 else "requests"
        vms = listing(list(dict.fromkeys(hot["vm"])))
        said.append(
            f"With a hot standby, {vms} lost {lost or 'no'} answered {which}, and the service was "
            f"silent for {span(hot['silence_ms'].min(), hot['silence_ms'].max())}."
        )
    mirrored = table[table["interval_s"] > 0].to_dict("records")
    for row in (mirrored[0], mirrored[-1]) if len(mirrored) > 1 else mirrored:
        said.append(
            f"Mirrored every {row['interval_s']:g} s ({row['kind']} standby), {row['vm']} lost the "
            f"last {duration(row['lost_age_ms'])} of its state "
            f"({things(int(row['lost_requests']), 'answered request')}) and was silent for "
            f"{duration(row['silence_ms'])}."
        )
    return " ".join(said)
