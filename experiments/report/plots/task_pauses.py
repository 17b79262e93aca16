"""For how long a task stood still in each of its moves, by what the time was needed for, and when
the peer of each connection was heard again.
"""

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from experiments.measure.results import Result
from experiments.report.format import count, listing, span, things
from experiments.report.plots import _style
from experiments.report.plots._runs import rows_of_runs
from experiments.report.plots._style import Preset

QUESTION = "For how long does a task stand still, and its connections with it?"
PLACE = 34
PARTS = {
    "package_ms": "connections packaged",
    "transfer_ms": "package sent",
    "restore_ms": "connections restored",
    "rest_ms": "the rest",
}
MOST = 16
"""How many moves get a line of their own."""


def suits(result: Result) -> bool:
    return 0 < len(_moves(data(result))) <= MOST


def data(result: Result) -> pd.DataFrame:
    """A row for each connection of a task that has moved and taken its connections along."""
    table = rows_of_runs(result, "connections")
    if not len(table):
        return table
    kept = table[(table["fate"] == "migrated") & table["freeze_ms"].notna()].copy()
    known = kept[["package_ms", "transfer_ms", "restore_ms"]].fillna(0.0).sum(axis=1)
    kept["rest_ms"] = (kept["freeze_ms"] - known).clip(lower=0.0)
    return kept


def _moves(table: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Return the name and the connections of each move."""
    if not len(table):
        return []
    several = table["run"].nunique() > 1
    return [
        (
            (f"{run}\n" if several else "")
            + f"{number}: {rows['task'].iloc[0]} {rows['from_vm'].iloc[0]}→{rows['to_vm'].iloc[0]}",
            rows,
        )
        for (run, number), rows in table.groupby(["run", "move"], sort=False)
    ]


def draw(result: Result, preset: Preset) -> Figure:
    moves = _moves(data(result))
    height = len(moves) * (3.2 if "\n" in moves[0][0] else 2.6) + 8.5
    figure = _style.figure(preset, height * preset.em_in)
    axes = figure.subplots()
    longest = 0.0
    for row, (_, rows) in enumerate(moves):
        begin = 0.0
        for number, part in enumerate(PARTS):
            took = float(rows[part].fillna(0.0).iloc[0])
            axes.barh(row, took, left=begin, height=0.5, color=_FILLS[number], linewidth=0)
            begin += took
        gaps = rows["gap_ms"].dropna()
        axes.plot(
            *(gaps, [row] * len(gaps)),
            linestyle="none",
            color=_style.INK,
            marker="|",
            markersize=preset.text_pt * 1.3,
            clip_on=False,
            zorder=3,
        )
        longest = max(longest, begin, *gaps)
    axes.set_yticks(range(len(moves)), [name for name, _ in moves])
    axes.set_ylim(len(moves) - 0.5, -0.5)
    axes.set_xlim(0, longest * 1.06 or 1)
    axes.grid(visible=False, axis="y")
    _style.linear(axes, "x", 5 if preset.narrow else 8)
    axes.set_xlabel("time since the task stopped (ms)")
    handles = [
        Patch(color=_FILLS[number], label=label) for number, label in enumerate(PARTS.values())
    ]
    look = {"linestyle": "none", "marker": "|", "markersize": preset.text_pt}
    peer = Line2D([], [], color=_style.INK, label="a peer is heard again", **look)  # type: ignore[arg-type]
    _style.legend(figure, preset, [*handles, peer])
    return figure


_FILLS = ("#56B4E9", "#0072B2", "#CC79A7", "#c9c9c9")


def caption(result: Result) -> str:
    table = data(result)
    moves = _moves(table)
    freezes = [float(rows["freeze_ms"].iloc[0]) for _, rows in moves]
    gaps = table["gap_ms"].dropna()
    resets = int(table.groupby(["run", "move"])["resets"].max().sum())
    said = [
        f"In {things(len(moves), 'move')}, the task stood still for "
        f"{span(min(freezes), max(freezes))}.",
        f"It took {things(len(table), 'connection')} along; {_resets(resets)}.",
    ]
    if len(gaps):
        heard = f"Their peers were heard again {span(gaps.min(), gaps.max())} after it had stopped"
        silent = len(table) - len(gaps)
        but = [f"{count(silent)} of them not within 5 s"] if silent else []
        said.append(f"{listing([heard, *but])}.")
    return " ".join(said)


def _resets(resets: int) -> str:
    return f"{things(resets, 'segment')} reset one" if resets else "none was reset"
