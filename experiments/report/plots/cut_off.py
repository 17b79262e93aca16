"""How long each flow was silent in each move, and what it lost, with runs side by side.

A row is a flow.  In it each group of runs has a mark: the value of its one move, or the median of
many with a line from the least to the most.  The grey bar behind a mark is the pause of the guest,
which no network can undo; on a logarithmic axis, where a bar's length is meaningless, it is a line.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from experiments.measure.results import Result
from experiments.report.format import counts, duration, listing, span
from experiments.report.plots import _style
from experiments.report.plots._runs import Floats, RunGroup, groups_of, runs_of
from experiments.report.plots._style import Preset

QUESTION = "How long were correspondents cut off?"
PLACE = 40
OF_MOVE = ("move", "vm", "outcome")
OF_FLOW = ("flow", "role", "correspondent_nve", "pause_ms")
COLUMNS = {"blackout_ms": "longest silence (ms)", "lost": "packets lost"}
_LOG_FROM = 12.0
"""The scale is logarithmic if the greatest value exceeds the least above zero by this factor."""


def suits(result: Result) -> bool:
    return any(
        run.moves and run.flows and len(run.result.metrics) for run in runs_of(result).values()
    )


def _metrics(group: RunGroup) -> pd.DataFrame:
    """Return the metrics of every flow in every move of a group that was not refused."""
    tables = [run.result.metrics for run in group.runs if len(run.result.metrics)]
    if not tables:
        return pd.DataFrame(columns=[*OF_FLOW, *COLUMNS])
    together = pd.concat(tables, ignore_index=True)
    return together[(together["outcome"] != "refused") & together["flow"].notna()]


def _labels(tables: Sequence[pd.DataFrame], most: int) -> "list[pd.Series[str]]":
    """Return, for each table, the label of the row that each of its lines belongs to.

    Rows are flows; of too many flows, the NVEs of their other ends; or all flows together.
    """

    def by_flow(table: pd.DataFrame) -> "pd.Series[str]":
        return table["flow"].astype(str)

    def by_place(table: pd.DataFrame) -> "pd.Series[str]":
        words = {"to": "from VMs behind", "from": "to VMs behind", "reference": "not touched,"}
        role = table["role"].map(words)
        return role.astype(str) + " " + table["correspondent_nve"].fillna("?").astype(str)

    def together(table: pd.DataFrame) -> "pd.Series[str]":
        return pd.Series("all flows", index=table.index)

    for labels in (by_flow, by_place):
        found = {label for table in tables if len(table) for label in labels(table)}
        if len(found) <= most:
            return [labels(table) for table in tables]
    return [together(table) for table in tables]


def draw(result: Result, preset: Preset) -> Figure:
    groups = groups_of(result)
    tables = [_metrics(group) for group in groups]
    if not any(len(table) for table in tables):
        return _style.a_sentence(
            preset, "No move was made: every one that was asked for was refused."
        )
    by_run = len(groups) > _style.MOST_TOLD_APART
    room = int((preset.most_height_in - 7 * preset.em_in) / (1.15 * preset.em_in))
    most = min(12, max(3, room // max(len(groups), 1)))
    if by_run:
        names = [group.label for group in groups]
        labels = [
            pd.Series(name, index=table.index, dtype=object)
            for name, table in zip(names, tables, strict=True)
        ]
    else:
        labels = _labels(tables, most)
        names = sorted({name for each in labels for name in each})
    lanes = 1 if by_run else len(groups)
    label_room = 18 if preset.narrow else 30
    written = [_style.wrapped(name, label_room, 2) for name in names]
    lines = max(label.count("\n") + 1 for label in written)
    row_em = max(1.7, 1.05 * lanes + 0.5, 1.35 * lines + 0.2)
    figure = _style.figure(preset, (len(names) * row_em + 7.5) * preset.em_in)
    panels = figure.subplots(1, 2, sharey=True)
    for axes, column in zip(panels, COLUMNS, strict=True):
        values = [pd.to_numeric(table[column], errors="coerce") for table in tables]
        pauses = [pd.to_numeric(table["pause_ms"], errors="coerce") for table in tables]
        zero_at = _scale(axes, values, pauses if column == "blackout_ms" else [], preset)
        for number, (table, value, label) in enumerate(zip(tables, values, labels, strict=True)):
            for row, name in enumerate(names):
                here = label == name
                lane = 0.0 if by_run else (number - (lanes - 1) / 2) * 0.8 / lanes
                look = 0 if by_run else number
                if column == "blackout_ms":
                    _draw_pause(axes, table.loc[here, "pause_ms"], row + lane, lanes)
                _draw_values(axes, value[here].dropna(), row + lane, look, zero_at, preset)
        axes.set_xlabel(COLUMNS[column])
        axes.grid(visible=False, axis="y")
    panels[0].set_yticks(range(len(names)), written)
    panels[0].set_ylim(len(names) - 0.4, -0.6)
    paused = any(pd.to_numeric(table["pause_ms"]).notna().any() for table in tables)
    pause = [Patch(color=_style.PAUSED, label="pause of the VM")] if paused else []
    handles = (
        []
        if by_run or len(groups) == 1
        else [
            _style.point_handle(number, group.title, preset, line=False)
            for number, group in enumerate(groups)
        ]
    )
    _style.legend(figure, preset, [*handles, *pause])
    return figure


def _scale(
    axes: Axes,
    values: Sequence["pd.Series[float]"],
    pauses: Sequence["pd.Series[float]"],
    preset: Preset,
) -> float:
    """Set the scale; return where zero is drawn.

    It is linear; or logarithmic from the least value above zero, and zero has its own place left of
    it.
    """
    whole: Floats = np.concatenate([value.dropna().to_numpy(dtype=float) for value in values])
    most = 3 if preset.narrow else 5
    positive = whole[whole > 0]
    top = float(whole.max(initial=0.0))
    if not len(positive) or top / float(positive.min()) < _LOG_FROM:
        axes.set_xlim(0, top * 1.12 if top > 0 else 1)
        _style.linear(axes, "x", most, integer=not pauses)
        return 0.0
    medians = [float(pause.median()) for pause in pauses if pause.median() > 0]
    low = max(min([float(positive.min()), *medians]) / 1.3, 0.1) if pauses else 1.0
    if not (whole <= 0).any():
        _style.log(axes, "x", low, top * 1.4, most if preset.narrow else most + 1)
        return low
    zero_at = low / 2.5
    _style.log(axes, "x", zero_at / 1.5, top * 1.4, most)
    ticks = [tick for tick in _style.log_ticks(low, top * 1.4, most) if tick >= low]
    axes.set_xticks([zero_at, *ticks], ["0", *(_style.number(tick) for tick in ticks)])
    axes.axvline((zero_at * low) ** 0.5, color=_style.FAINT, linewidth=0.6, linestyle=":")
    return zero_at


def _draw_pause(axes: Axes, pauses: "pd.Series[float]", row: float, lanes: int) -> None:
    there = pd.to_numeric(pauses, errors="coerce").dropna()
    if not len(there):
        return
    pause_ms, half = float(there.median()), 0.31 / lanes
    if axes.get_xscale() == "linear":
        axes.barh(row, pause_ms, height=2 * half, color=_style.PAUSED, zorder=1)
    elif pause_ms > axes.get_xlim()[0]:
        axes.vlines(pause_ms, row - half, row + half, color=_style.PAUSED, linewidth=3, zorder=1)


def _draw_values(
    axes: Axes,
    values: "pd.Series[float]",
    row: float,
    look: int,
    zero_at: float,
    preset: Preset,
) -> None:
    if not len(values):
        return
    shown = values.clip(lower=zero_at) if zero_at else values
    colour = _style.colour(look)
    if len(shown) > 1:
        axes.hlines(row, shown.min(), shown.max(), color=colour, linewidth=preset.line_pt, zorder=2)
        if len(shown) <= 400:
            axes.plot(
                shown,
                np.full(len(shown), row),
                linestyle="none",
                marker="|",
                markersize=preset.text_pt * 0.55,
                color=colour,
                alpha=0.5,
                zorder=2,
            )
    axes.plot(
        float(shown.median()),
        row,
        linestyle="none",
        marker=_style.marker(look),
        markersize=preset.marker_pt * 2.4,
        color=colour,
        clip_on=False,
        zorder=3,
    )


def caption(result: Result) -> str:
    parts = []
    groups = groups_of(result)
    for group in groups:
        table = _metrics(group)
        silence = pd.to_numeric(table["blackout_ms"], errors="coerce").dropna()
        pause = pd.to_numeric(table["pause_ms"], errors="coerce").dropna()
        if not len(silence):
            continue
        lost = table["lost"]
        paused = span(pause.min(), pause.max()) if len(pause) else ""
        of_pause = f" (the VM was paused for {paused})" if len(pause) else ""
        parts.append(
            f"{group.label}: in a move, a flow was silent for {span(silence.min(), silence.max())}"
            f"{of_pause} and lost {counts(lost.min(), lost.max())} packets."
        )
    if not parts:
        return "No flow was touched by a move that was made."
    if len(parts) > _style.MOST_TOLD_APART:
        parts = [_in_short(groups)]
    if _taken_over(groups):
        parts.append(
            "In a take-over nothing was paused: its silence begins when the server is lost, and is "
            "that of noticing it and of starting the standby, too."
        )
    if any(pd.to_numeric(_metrics(group)["pause_ms"]).notna().any() for group in groups):
        parts.append("The network added what exceeds the grey mark.")
    return " ".join(parts)


def _taken_over(groups: Sequence[RunGroup]) -> bool:
    return any(move.is_take_over for group in groups for run in group.runs for move in run.moves)


def _in_short(groups: Sequence[RunGroup]) -> str:
    worst = {
        group.label: float(pd.to_numeric(_metrics(group)["blackout_ms"], errors="coerce").max())
        for group in groups
    }
    ordered = sorted((each for each in worst if worst[each] == worst[each]), key=lambda k: worst[k])
    return (
        f"The longest silence was {duration(worst[ordered[0]])} in {ordered[0]} and "
        f"{duration(worst[ordered[-1]])} in {listing([ordered[-1]])}."
    )


def data(result: Result) -> pd.DataFrame:
    """Return the columns of moves.csv that are drawn, for all runs."""
    columns = [*OF_MOVE, *OF_FLOW, *COLUMNS]
    tables = [run.result.metrics[columns].assign(run=name) for name, run in runs_of(result).items()]
    return pd.concat(tables, ignore_index=True)
