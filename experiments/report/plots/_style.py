"""The style of all figures, defined in this one file.

A figure is drawn for the medium in which it will be seen (`Preset`), at its final size: 7 pt here
is 7 pt there.  Colours are Okabe and Ito's, which people who cannot tell red from green can tell
apart; whatever has a colour has a marker and a line style of its own, too, for a printer without
colours.
"""

import textwrap
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any, Literal

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7A6A00", "#000000")
MARKERS = ("o", "^", "s", "D", "v", "P", "X", "*")
LINES: tuple[Any, ...] = (
    *("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)), (0, (6, 2, 1, 2, 1, 2))),
)
MOST_TOLD_APART = len(PALETTE)
"""How many things can be told apart in one picture; more are small multiples or a summary."""
INK, FAINT, GRID = "#222222", "#8a8a8a", "#e4e4e4"
PREPARING, PAUSED, SETTLING, TAKING_OVER = "#dbe9f6", "#c9c9c9", "#fbe8c8", "#f3d3e3"
"""The phases of a move."""
DARK = {PREPARING: "#132c47", PAUSED: "#4d4d4d", SETTLING: "#45360f", TAKING_OVER: "#4a1c39"}
"""The same on a dark page."""
LEAST_TEXT_PT = 7.0
"""Smaller text cannot be read in print."""
_CHARACTER = 0.6
"""The width of a character as a part of the text size, somewhat above the average."""
_SVG_RASTER_DPI, _PDF_RASTER_DPI = 110, 300
"""The resolution of points that are too many to be vectors; all else is drawn as lines and text."""


@dataclass(frozen=True)
class Preset:
    """The medium of a figure: its width, its greatest height, its text, and how much it shows."""

    name: str
    says: str
    width_in: float
    most_height_in: float
    text_pt: float
    small_pt: float
    panels: int
    """How many panels with many points are placed below each other."""
    dpi: int
    line_pt: float
    marker_pt: float

    @property
    def narrow(self) -> bool:
        """Whether a list has to be below a picture rather than beside it."""
        return self.width_in / self.text_pt < 0.6

    @property
    def em_in(self) -> float:
        """The size of the text in inches, the unit of heights of rows."""
        return self.text_pt / 72

    def characters(self, part: float = 1.0) -> int:
        """Return how many characters of small text fit into a part of the width."""
        return max(8, int(self.width_in * part * 72 / (self.small_pt * _CHARACTER)))


PRESETS = {
    preset.name: preset
    for preset in (
        Preset("column", "one column of a two-column paper", 3.5, 8.6, 7.6, 7.0, 3, 300, 0.9, 1.5),
        Preset(
            "page", "both columns, or the width of a page", 7.2, 8.8, 8.4, 7.4, 4, 300, 1.1, 1.8
        ),
        Preset("slide", "a projector, 16:9", 12.8, 6.9, 16.0, 13.0, 2, 150, 2.2, 3.6),
        Preset("screen", "a browser", 9.6, 14.0, 10.5, 9.2, 4, 110, 1.4, 2.2),
    )
}

_SETTINGS: Any = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Verdana", "Arial"],
    "mathtext.default": "regular",
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "legend.frameon": False,
    "legend.borderaxespad": 0.2,
    "legend.columnspacing": 1.2,
    "legend.handletextpad": 0.5,
    "legend.handlelength": 1.7,
    "figure.facecolor": "white",
    "figure.constrained_layout.use": True,
    "pdf.fonttype": 42,  # TrueType: text can be searched, and journals take it
    "ps.fonttype": 42,
    "svg.fonttype": "none",  # text is text
    "svg.hashsalt": "vmmlab",  # identifiers that do not change from run to run
}


def _settings(preset: Preset) -> Any:
    text, small = preset.text_pt, preset.small_pt
    return _SETTINGS | {
        "font.size": text,
        "axes.titlesize": text,
        "axes.titlepad": text * 0.45,
        "axes.labelsize": text,
        "axes.labelpad": text * 0.3,
        "axes.linewidth": preset.line_pt * 0.6,
        "xtick.labelsize": small,
        "ytick.labelsize": small,
        "xtick.major.width": preset.line_pt * 0.6,
        "ytick.major.width": preset.line_pt * 0.6,
        "xtick.major.size": text * 0.3,
        "ytick.major.size": text * 0.3,
        "xtick.major.pad": text * 0.25,
        "ytick.major.pad": text * 0.25,
        "grid.linewidth": preset.line_pt * 0.5,
        "legend.fontsize": small,
        "lines.linewidth": preset.line_pt,
        "lines.markersize": preset.marker_pt * 2,
        "figure.constrained_layout.h_pad": 0.03,
        "figure.constrained_layout.w_pad": 0.03,
        "figure.dpi": preset.dpi,
    }


@contextmanager
def applied(preset: Preset) -> Iterator[None]:
    """Apply the style in the block, in which a figure is made and saved."""
    with mpl.rc_context(_settings(preset)):
        yield


def figure(preset: Preset, height_in: float) -> Figure:
    """Return an empty figure, made without pyplot: no window system, and nothing to close."""
    height_in = min(max(height_in, 1.2), preset.most_height_in)
    return Figure(figsize=(preset.width_in, height_in))


def save(drawn: Figure, target: IO[bytes], suffix: str) -> None:
    """Save a figure without a date in the file: the same figure is the same file.

    The canvas saves it, as `savefig` would draw all of it twice, first to lay it out.
    """
    lay_out(drawn)
    usual_dpi = drawn.get_dpi()
    drawn.set_dpi({"svg": _SVG_RASTER_DPI, "pdf": _PDF_RASTER_DPI}.get(suffix, usual_dpi))
    canvas: Any  # matplotlib has no types
    if suffix == "svg":
        canvas = FigureCanvasSVG(drawn)
        canvas.print_svg(target, metadata={"Date": None})
    elif suffix == "pdf":
        # Only here: it loads a library of fonts, which takes half a second.
        from matplotlib.backends.backend_pdf import FigureCanvasPdf

        canvas = FigureCanvasPdf(drawn)
        canvas.print_pdf(target, metadata={"CreationDate": None})
    else:
        canvas = FigureCanvasAgg(drawn)
        canvas.print_png(target)
    drawn.set_dpi(usual_dpi)


def lay_out(drawn: Figure) -> None:
    """Lay a figure out once for all formats, as this takes long."""
    if (engine := drawn.get_layout_engine()) is not None:
        engine.execute(drawn)
        drawn.set_layout_engine("none")


def a_sentence(preset: Preset, words: str) -> Figure:
    """Return a figure with a sentence, for results that have nothing to draw."""
    drawn = figure(preset, 8 * preset.em_in)
    axes = drawn.subplots()
    axes.set_axis_off()
    axes.text(0.5, 0.5, wrapped(words, preset.characters(0.8)), ha="center", va="center")
    return drawn


def wrapped(text: str, characters: int, most_lines: int = 3) -> str:
    return "\n".join(
        textwrap.wrap(text, max(8, characters), max_lines=most_lines, placeholder=" …")
    )


def cut(text: str, characters: int) -> str:
    return text if len(text) <= characters else f"{text[: max(characters - 1, 1)]}…"


def title(
    axes: Axes, preset: Preset, text: str, part: float = 0.85, *, pad: float | None = None
) -> None:
    """Write a title that stays within its part of the width; `pad` (pt) is kept free below it."""
    fitting = int(preset.characters(part) * preset.small_pt / preset.text_pt * 0.92)
    axes.set_title(wrapped(text, fitting, most_lines=2), pad=pad)


def legend(drawn: Figure, preset: Preset, handles: Sequence[Any]) -> None:
    """Draw the legend below everything, in as many columns as fit."""
    if not handles:
        return
    columns = _legend_columns(preset, handles)
    by_column = [handle for first in range(columns) for handle in handles[first::columns]]
    drawn.legend(handles=by_column, loc="outside lower left", ncols=columns)


def legend_in(preset: Preset, handles: Sequence[Any]) -> float:
    """Return the height of the legend of these handles, in inches."""
    if not handles:
        return 0.0
    return -(-len(handles) // _legend_columns(preset, handles)) * 1.5 * preset.small_pt / 72


def _legend_columns(preset: Preset, handles: Sequence[Any]) -> int:
    longest = max(len(str(handle.get_label())) for handle in handles) + 4
    return max(1, min(len(handles), preset.characters(0.97) // longest))


def point_handle(number: int, label: str, preset: Preset, *, line: bool = True) -> Line2D:
    """Return a legend's entry for what is drawn in the n-th look."""
    return Line2D(
        [],
        [],
        color=colour(number),
        marker=marker(number),
        markersize=preset.marker_pt * 2.2,
        linestyle=LINES[number % len(LINES)] if line else "none",
        label=label,
    )


def colour(number: int) -> str:
    return PALETTE[number % len(PALETTE)]


def marker(number: int) -> str:
    return MARKERS[number % len(MARKERS)]


def line(number: int) -> Any:
    return LINES[number % len(LINES)]


def dots(
    axes: Axes,
    xs: Iterable[float],
    ys: Iterable[float],
    preset: Preset,
    *,
    marker: int,
    colour: int,
) -> None:
    """Draw single measurements, with the look of these numbers, whole also at the axes' edges."""
    axes.plot(
        *(list(xs), list(ys)),
        linestyle="none",
        marker=MARKERS[marker % len(MARKERS)],
        markersize=preset.marker_pt * 2.6,
        color=PALETTE[colour % len(PALETTE)],
        clip_on=False,
        zorder=3,
    )


Axis = Literal["x", "y"]


def linear(axes: Axes, axis: Axis, most: int, *, integer: bool = False) -> None:
    """Set a linear scale with at most `most` labels."""
    locator = MaxNLocator(nbins=max(most - 1, 1), integer=integer, steps=[1, 2, 2.5, 5, 10])
    _axis(axes, axis).set_major_locator(locator)
    _axis(axes, axis).set_major_formatter(FuncFormatter(lambda value, _: number(value)))


def log(axes: Axes, axis: Axis, low: float, high: float, most: int) -> None:
    """Set a logarithmic scale over the values, with labels that are numbers and do not overlap."""
    low, high = max(low, 1e-6), max(high, low * 1.5, 1e-6)
    if axis == "x":
        axes.set_xscale("log")
        axes.set_xlim(low, high)
    else:
        axes.set_yscale("log")
        axes.set_ylim(low, high)
    chosen = _axis(axes, axis)
    chosen.set_major_locator(FixedLocator(log_ticks(low, high, most)))
    chosen.set_minor_locator(NullLocator())
    chosen.set_major_formatter(FuncFormatter(lambda value, _: number(value)))


def log_ticks(low: float, high: float, most: int) -> list[float]:
    """Return the densest ticks of 1-2-5, 1-3, powers of ten, or every n-th of those that fit."""
    first, last = int(np.floor(np.log10(low))), int(np.ceil(np.log10(high)))
    tens = range(first, last + 1)

    def within(subs: Sequence[float], step: int, start: int = 0) -> list[float]:
        ticks = (
            sub * 10.0**ten for ten in tens if (ten - first - start) % step == 0 for sub in subs
        )
        return [tick for tick in ticks if low <= tick * 1.0000001 and tick <= high * 1.0000001]

    sparse = [
        max((within((1,), step, start) for start in range(step)), key=len) for step in range(1, 8)
    ]
    choices = [within((1, 2, 5), 1), within((1, 3), 1), *sparse]
    fitting = [ticks for ticks in choices if 1 < len(ticks) <= max(most, 2)]
    if fitting:
        return fitting[0]
    return [_rounded(low), _rounded(high)] if _rounded(low) != _rounded(high) else [_rounded(low)]


def _rounded(value: float) -> float:
    return float(f"{value:.2g}")


def number(value: float) -> str:
    """Return 0.02, 1, 10, 2,000: never a power of ten, which would be small print."""
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}".replace("e-0", "e-")


def _axis(axes: Axes, axis: Axis) -> Any:
    return axes.xaxis if axis == "x" else axes.yaxis
