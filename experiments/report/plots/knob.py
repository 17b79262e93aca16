"""A sweep: the effect of a factor that was varied, as lines; of two factors, a line for each value
of the second, or a map if both have many values.

Numbers have a numeric axis: linear, or logarithmic if all are positive and they span more than two
decades.  Other values, and those of a map, are in a row at equal distances.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import ScaledTranslation

from experiments.report.format import count, listing, milliseconds, things
from experiments.report.plots import _style
from experiments.report.plots._style import Preset
from experiments.report.plots._sweep import SweepTables

OF = "sweep"
QUESTION = "What depends on what was varied?"
PLACE = 10
MEASURES = {
    "blackout_ms": "longest silence (ms)",
    "lost": "packets lost per move and flow",
    "pause_ms": "pause (ms)",
    "transfer_total_ms": "transfer of the state (ms)",
    "recovery_excess_ms": "recovery (ms)",
    "convergence_ms": "convergence (ms)",
}
OF_STATE = ("pause_ms", "transfer_total_ms")
"""Drawn only where state was moved: otherwise a pause is what was asked for."""
MOST_PANELS = {"column": 4, "slide": 4}
LINEAR_DECADES = 2
MOST_LINES = 5
"""How many values of the second factor are drawn as lines; more are a map."""


def suits(sweep: SweepTables) -> bool:
    return True


def _measures(sweep: SweepTables) -> list[str]:
    """Return the measures that were recorded."""
    with_state = len(_values(sweep, "transfer_total_ms")) > 0
    return [
        column
        for column in MEASURES
        if len(_values(sweep, column)) and (with_state or column not in OF_STATE)
    ]


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
    measures = measures[: MOST_PANELS.get(preset.name)]
    first = sweep.factors[0]
    columns = 1 if preset.narrow else 2
    rows = -(-len(measures) // columns)
    figure = _style.figure(preset, (rows * 19 + 6) * preset.em_in)
    grid = figure.subplots(rows, columns, squeeze=False)
    as_map = _as_map(sweep)
    for axes, measure in zip(grid.flat, measures, strict=False):
        if as_map:
            _draw_map(axes, sweep, measure, preset)
        else:
            _draw_lines(axes, sweep, measure, preset)
        _style.title(axes, preset, MEASURES[measure], 0.8 / columns)
        axes.set_xlabel(_style.wrapped(sweep.words[first].axis, preset.characters(0.8 / columns)))
    for unused in grid.flat[len(measures) :]:
        unused.set_axis_off()
    if not as_map:
        groups = _groups(sweep)
        handles = [
            _style.point_handle(number, label, preset)
            for number, (label, _) in enumerate(groups)
            if label
        ]
        _style.legend(figure, preset, handles)
    return figure


def _as_map(sweep: SweepTables) -> bool:
    _, *others = sweep.factors
    return bool(others) and len(sweep.values(others[0])) > MOST_LINES


def _groups(sweep: SweepTables) -> list[tuple[str, pd.DataFrame]]:
    """Return the rows of each combination of the other factors and of the runs of a cell."""
    _, *others = sweep.factors
    keys = [*others, *(["run"] if sweep.moves["run"].nunique() > 1 else [])]
    if not keys:
        return [("", sweep.moves)]
    found = [
        (
            ", ".join(
                sweep.words[key].with_value(str(value)) if key != "run" else str(value)
                for key, value in zip(keys, values, strict=True)
            ),
            [
                sweep.values(key).index(str(value))
                for key, value in zip(others, values, strict=False)
            ],
            rows,
        )
        for values, rows in sweep.moves.groupby(keys, sort=False)
    ]
    return [(label, rows) for label, _, rows in sorted(found, key=lambda each: each[1])]


def _draw_lines(axes: Axes, sweep: SweepTables, measure: str, preset: Preset) -> None:
    factor = sweep.factors[0]
    names = sweep.values(factor)
    numeric = sweep.is_numeric(factor)
    places = {name: float(name) if numeric else float(place) for place, name in enumerate(names)}
    groups = _groups(sweep)
    for number, (_, rows) in enumerate(groups):
        found: list[tuple[float, float, float, float]] = []
        for name, of_value in rows.groupby(factor, sort=False):
            values = pd.to_numeric(of_value[measure], errors="coerce").dropna()
            if len(values) and name in places:
                found.append((places[str(name)], values.median(), values.min(), values.max()))
        if not found:
            continue
        at, middle, low, high = np.array(sorted(found)).T
        colour = _style.colour(number)
        # Beside each other, so that no bar covers another one.
        beside_pt = (number - (len(groups) - 1) / 2) * preset.line_pt * 1.6
        shifted = axes.transData + ScaledTranslation(beside_pt / 72, 0, axes.figure.dpi_scale_trans)
        axes.vlines(
            at, low, high, color=colour, linewidth=preset.line_pt, alpha=0.7, transform=shifted
        )
        axes.plot(
            at,
            middle,
            color=colour,
            marker=_style.marker(number),
            linestyle=_style.line(number),
            markersize=preset.marker_pt * 2,
            transform=shifted,
        )
    _scale_of_factor(axes, [places[name] for name in names], names, preset, numeric=numeric)
    # What is drawn beside its place does not count for the limits.
    values = _values(sweep, measure)
    top = float(values.max()) * 1.08 if len(values) else 0.0
    axes.set_ylim(0, top if top > 0.06 else 1)
    _style.linear(axes, "y", 5, integer=measure == "lost")


def _scale_of_factor(
    axes: Axes,
    places: Sequence[float],
    names: Sequence[str],
    preset: Preset,
    *,
    numeric: bool,
) -> None:
    """Set the horizontal axis: the numbers, or the names at equal distances."""
    most = 4 if preset.narrow else 6
    low, high = min(places), max(places)
    if not numeric or low == high:
        every = -(-len(names) // most)
        axes.set_xticks(list(places)[::every], [_cut(name) for name in names[::every]])
        axes.set_xlim(low - 0.5, high + 0.5)
        return
    if low > 0 and high / low > 10**LINEAR_DECADES:
        margin = (high / low) ** 0.05
        _style.log(axes, "x", low / margin, high * margin, most)
        return
    margin = (high - low) * 0.06
    axes.set_xlim(low - margin, high + margin)
    _style.linear(axes, "x", most)
    widest = max(len(_style.number(place)) for place in places) + 2
    room = preset.characters(0.75 if preset.narrow else 0.38)
    apart = min(np.diff(sorted(set(places)))) / (high - low + 2 * margin)
    if apart * room >= widest:  # the values themselves, where they have room
        axes.set_xticks(sorted(set(places)))


def _draw_map(axes: Axes, sweep: SweepTables, measure: str, preset: Preset) -> None:
    across, down, *_ = sweep.factors
    columns, rows = sweep.values(across), sweep.values(down)
    values = sweep.moves.assign(value=pd.to_numeric(sweep.moves[measure], errors="coerce"))
    medians = values.groupby([down, across])["value"].median()
    cells = np.array([[medians.get((row, column), np.nan) for column in columns] for row in rows])
    there = cells[~np.isnan(cells)]
    low, high = float(there.min(initial=0.0)), float(there.max(initial=0.0)) or 1.0
    drawn = axes.imshow(cells, aspect="auto", cmap="cividis", origin="lower", vmin=low, vmax=high)
    part = 0.62 if preset.narrow else 0.27
    room = max(1, preset.characters(part) // (max(map(len, map(_cut, columns))) + 1))
    every_x, every_y = -(-len(columns) // room), -(-len(rows) // 10)
    axes.set_xticks(range(0, len(columns), every_x), [_cut(name) for name in columns[::every_x]])
    axes.set_yticks(range(0, len(rows), every_y), [_cut(name) for name in rows[::every_y]])
    axes.set_ylabel(_style.wrapped(sweep.words[down].axis, preset.characters(0.3)))
    write = count if measure == "lost" else milliseconds
    written = {
        (row, column): write(float(cells[row, column])) if cells[row, column] else "0"
        for row, column in zip(*np.nonzero(~np.isnan(cells)), strict=True)
    }
    widest = max(map(len, written.values()), default=0) + 1
    if len(columns) * widest <= preset.characters(part) and len(rows) <= 8:
        for (row, column), words in written.items():
            dark = cells[row, column] <= (low + high) / 2
            axes.text(
                *(column, row, words),
                ha="center",
                va="center",
                fontsize=preset.small_pt,
                color="white" if dark else _style.INK,
            )
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
    words = sweep.words[first]
    zero = [_name(measure) for measure in _measures(sweep) if _always_zero(sweep, measure)]
    for measure in _measures(sweep)[:2]:
        if _name(measure) in zero:
            continue
        values = sweep.moves.assign(value=pd.to_numeric(sweep.moves[measure], errors="coerce"))
        medians = values.groupby(first)["value"].median().dropna()
        if len(medians):
            lowest, highest = str(medians.idxmin()), str(medians.idxmax())
            write = count if measure == "lost" else milliseconds
            low, high = write(float(medians.min())), write(float(medians.max()))
            name = _name(measure)
            unit = "" if measure == "lost" else " ms"
            said.append(
                f"Median {name}: {low}{unit} at every value of {words.name}."
                if low == high
                else f"Median {name}: from {low}{unit} ({words.with_value(lowest)}) to "
                f"{high}{unit} ({words.with_value(highest)})."
            )
    if zero:
        said.append(f"In every combination, {listing(zero)} {'is' if len(zero) == 1 else 'are'} 0.")
    said.append(_about_marks(sweep))
    if sweep.unfinished:
        varied = [each.name for each in sweep.words.values()]
        said.append(
            f"{things(sweep.unfinished, 'combination')} of {listing(varied)} "
            f"{'has' if sweep.unfinished == 1 else 'have'} no result yet."
        )
    return " ".join(said)


def _about_marks(sweep: SweepTables) -> str:
    if not _as_map(sweep):
        return "Marks are medians over moves, flows and repeats; bars reach from least to most."
    pooled = [f"values of {sweep.words[factor].name}" for factor in sweep.factors[2:]]
    runs = ["runs"] if sweep.moves["run"].nunique() > 1 else ["repeats"]
    over = listing([*("moves", "flows"), *runs, *pooled])
    return f"Each cell is the median over {over}; a white cell has no value."


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
