"""A sweep: the effect of a factor that was varied, as lines; of two factors, a line for each value
of the second, or a map if both have many values.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.report.format import count, listing, milliseconds, things
from experiments.report.plots import _style
from experiments.report.plots._style import Preset
from experiments.report.plots._sweep import SweepTables, short

OF = "sweep"
QUESTION = "What depends on what was varied?"
PLACE = 10
MEASURES = {
    "blackout_ms": "longest silence (ms)",
    "lost": "lost per move and flow",
    "recovery_excess_ms": "recovery (ms)",
    "convergence_ms": "convergence (ms)",
}
MOST_LINES = 5
"""How many values of the second factor are drawn as lines; more are a map."""


def suits(sweep: SweepTables) -> bool:
    return True


def _measures(sweep: SweepTables) -> list[str]:
    """Return the measures that were recorded."""
    return [column for column in MEASURES if len(_values(sweep, column))]


def _values(sweep: SweepTables, measure: str) -> "pd.Series[float]":
    if measure not in sweep.moves:
        return pd.Series(dtype=float)
    return pd.to_numeric(sweep.moves[measure], errors="coerce").dropna()


def _always_zero(sweep: SweepTables, measure: str) -> bool:
    """Return whether a measure is always zero: a sentence then says more than a panel."""
    return not _values(sweep, measure).any()


def draw(sweep: SweepTables, preset: Preset) -> Figure:
    measures = [each for each in _measures(sweep) if not _always_zero(sweep, each)]
    if not measures:
        return _style.a_sentence(preset, caption(sweep))
    first, *others = sweep.factors
    columns = 1 if preset.narrow else 2
    rows = -(-len(measures) // columns)
    figure = _style.figure(preset, (rows * 19 + 6) * preset.em_in)
    grid = figure.subplots(rows, columns, squeeze=False)
    as_map = bool(others) and len(sweep.values(others[0])) > MOST_LINES
    for axes, measure in zip(grid.flat, measures, strict=False):
        if as_map:
            _draw_map(axes, sweep, measure, first, others[0], preset)
        else:
            _draw_lines(axes, sweep, measure, first, others, preset)
        _style.title(axes, preset, MEASURES[measure], 0.8 / columns)
        axes.set_xlabel(short(first))
    for unused in grid.flat[len(measures) :]:
        unused.set_axis_off()
    if not as_map:
        groups = _groups(sweep.moves, others)
        handles = [
            _style.point_handle(number, label, preset) for number, (label, _) in enumerate(groups)
        ]
        _style.legend(figure, preset, handles if others else [])
    return figure


def _groups(moves: pd.DataFrame, others: Sequence[str]) -> list[tuple[str, pd.DataFrame]]:
    """Return the rows of each combination of the other factors and of the runs of a cell."""
    keys = [*others, *(["run"] if moves["run"].nunique() > 1 else [])]
    if not keys:
        return [("", moves)]
    return [
        (
            ", ".join(
                f"{short(key)} {value}" if key != "run" else str(value)
                for key, value in zip(keys, values, strict=True)
            ),
            rows,
        )
        for values, rows in moves.groupby(keys, sort=False)
    ]


def _draw_lines(
    axes: Axes,
    sweep: SweepTables,
    measure: str,
    factor: str,
    others: Sequence[str],
    preset: Preset,
) -> None:
    names = sweep.values(factor)
    places = {name: float(place) for place, name in enumerate(names)}
    groups = _groups(sweep.moves, others)
    for number, (_, rows) in enumerate(groups):
        shift = (number - (len(groups) - 1) / 2) * 0.5 / max(len(groups), 1) * 0.6
        found: list[tuple[float, float, float, float]] = []
        for name, of_value in rows.groupby(factor, sort=False):
            values = pd.to_numeric(of_value[measure], errors="coerce").dropna()
            if len(values) and name in places:
                at_here = places[str(name)] + shift
                found.append((at_here, values.median(), values.min(), values.max()))
        if not found:
            continue
        at, middle, low, high = np.array(sorted(found)).T
        colour = _style.colour(number)
        axes.vlines(at, low, high, color=colour, linewidth=preset.line_pt, alpha=0.7)
        axes.plot(
            at,
            middle,
            color=colour,
            marker=_style.marker(number),
            linestyle=_style.line(number),
            markersize=preset.marker_pt * 2,
        )
    every = -(-len(names) // (4 if preset.narrow else 6))
    axes.set_xticks(range(0, len(names), every), [_cut(name) for name in names[::every]])
    axes.set_xlim(-0.5, len(names) - 0.5)
    axes.set_ylim(bottom=0)
    top = axes.get_ylim()[1]
    axes.set_ylim(0, top if top > 0.06 else 1)
    _style.linear(axes, "y", 5, integer=measure == "lost")


def _draw_map(
    axes: Axes, sweep: SweepTables, measure: str, across: str, down: str, preset: Preset
) -> None:
    columns, rows = sweep.values(across), sweep.values(down)
    values = sweep.moves.assign(value=pd.to_numeric(sweep.moves[measure], errors="coerce"))
    medians = values.groupby([down, across])["value"].median()
    cells = np.array([[medians.get((row, column), np.nan) for column in columns] for row in rows])
    drawn = axes.imshow(cells, aspect="auto", cmap="cividis", origin="lower")
    every_x, every_y = -(-len(columns) // (4 if preset.narrow else 6)), -(-len(rows) // 8)
    axes.set_xticks(range(0, len(columns), every_x), [_cut(name) for name in columns[::every_x]])
    axes.set_yticks(range(0, len(rows), every_y), [_cut(name) for name in rows[::every_y]])
    axes.set_ylabel(short(down))
    axes.grid(visible=False)
    bar = axes.figure.colorbar(drawn, ax=axes, pad=0.02)
    _style.linear(bar.ax, "y", 4)


def _cut(name: str, most: int = 9) -> str:
    return name if len(name) <= most else f"{name[: most - 1]}…"


def caption(sweep: SweepTables) -> str:
    said = []
    if not len(sweep.moves):
        return f"{sweep.name}: no move was made in what is finished."
    first = sweep.factors[0]
    zero = [_name(measure) for measure in _measures(sweep) if _always_zero(sweep, measure)]
    for measure in _measures(sweep)[:2]:
        if _name(measure) in zero:
            continue
        values = sweep.moves.assign(value=pd.to_numeric(sweep.moves[measure], errors="coerce"))
        medians = values.groupby(first)["value"].median().dropna()
        if len(medians):
            lowest, highest = medians.idxmin(), medians.idxmax()
            write = count if measure == "lost" else milliseconds
            low, high = write(float(medians.min())), write(float(medians.max()))
            name = _name(measure)
            unit = "" if measure == "lost" else " ms"
            said.append(
                f"The median of {name} is {low}{unit} whatever {short(first)} is."
                if low == high
                else f"The median of {name} goes from {low}{unit} (at {short(first)} {lowest}) to "
                f"{high}{unit} (at {highest})."
            )
    if zero:
        said.append(f"In every combination, {listing(zero)} {'is' if len(zero) == 1 else 'are'} 0.")
    said.append("Marks are medians over moves, flows and repeats; bars reach from least to most.")
    if sweep.unfinished:
        said.append(
            f"{things(sweep.unfinished, 'combination')} of {listing(list(sweep.varied))} "
            "have no result yet."
        )
    return " ".join(said)


def _name(measure: str) -> str:
    return MEASURES[measure].removesuffix(" (ms)")


def data(sweep: SweepTables) -> pd.DataFrame:
    """Return median, least and greatest value of each measure, by factors and run."""
    measures = _measures(sweep)
    if not measures:
        return sweep.summary
    numbers = sweep.moves[measures].apply(pd.to_numeric, errors="coerce")
    keys = [*sweep.varied, "run"]
    together = pd.concat([sweep.moves[keys], numbers], axis=1)
    table = together.groupby(keys, sort=False).agg(["median", "min", "max"])
    table.columns = [f"{measure}_{what}" for measure, what in table.columns]
    return pd.DataFrame(table.reset_index())
