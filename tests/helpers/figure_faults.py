"""Finds faults in a drawn figure by asking matplotlib: a sentence for each fault."""

import warnings
from collections.abc import Callable, Iterator
from itertools import combinations

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from experiments.report.plots import _style
from experiments.report.plots._style import LEAST_TEXT_PT, Preset

_TOLERANCE_PT = 0.75


def of_drawing(draw: Callable[[Preset], Figure], preset: Preset) -> list[str]:
    """Return the faults of what `draw` draws for a preset, warnings included."""
    with warnings.catch_warnings(record=True) as warned, _style.applied(preset):
        warnings.simplefilter("always")
        found = faults(draw(preset), preset)
    return [*found, *(f"warns: {each.message}" for each in warned)]


def faults(figure: Figure, preset: Preset) -> list[str]:
    """Return the faults of one figure, which is laid out but not rendered."""
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw_without_rendering()
    pt = figure.dpi / 72
    whole = figure.bbox.padded(_TOLERANCE_PT * pt)
    texts = [(text, text.get_window_extent(renderer)) for text in _texts(figure)]
    found = [*_sizes(figure, preset), *_small(texts), *_outside(figure, texts, whole)]
    return [*found, *_overlapping(texts, _TOLERANCE_PT * pt)]


def _texts(figure: Figure) -> list[Text]:
    """Return all visible texts; matplotlib keeps tick labels beyond the ends of an axis undrawn."""
    of_axes: set[Text] = set()
    drawn: list[Text] = []
    for axes in figure.get_axes():
        for axis in (axes.xaxis, axes.yaxis):
            of_axes.update(axis.findobj(Text))
            if axes.axison and axis.get_visible():
                low, high = sorted(axis.get_view_interval())
                margin = (high - low) * 1e-6
                drawn += [axis.label, axis.offsetText]
                for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks()):
                    if low - margin <= tick.get_loc() <= high + margin:
                        drawn += [tick.label1, tick.label2]
    drawn += [text for text in figure.findobj(Text) if text not in of_axes]
    return [text for text in drawn if text.get_visible() and text.get_text().strip()]


def _sizes(figure: Figure, preset: Preset) -> Iterator[str]:
    width, height = figure.get_size_inches()
    if abs(width - preset.width_in) > 1e-6 or height > preset.most_height_in + 1e-6:
        yield f"is {width:g} by {height:g} inches"


def _small(texts: list[tuple[Text, Bbox]]) -> Iterator[str]:
    for text, _ in texts:
        size_pt = float(text.get_fontsize())
        if size_pt < LEAST_TEXT_PT - 1e-6:
            yield f"{text.get_text()!r} has {size_pt:.1f} pt"


def _outside(figure: Figure, texts: list[tuple[Text, Bbox]], whole: Bbox) -> Iterator[str]:
    for text, box in texts:
        if not (
            whole.x0 <= box.x0 and box.x1 <= whole.x1 and whole.y0 <= box.y0 and box.y1 <= whole.y1
        ):
            yield f"{text.get_text()!r} is outside the figure"
    axes: Axes
    for axes in figure.get_axes():
        box = axes.bbox
        if not (whole.x0 <= box.x0 and box.x1 <= whole.x1 and whole.y0 <= box.y0):
            yield "a panel is outside the figure"
        if box.width <= 10 or box.height <= 4:
            yield f"a panel has shrunk to {box.width:.0f} by {box.height:.0f} pixels"


def _overlapping(texts: list[tuple[Text, Bbox]], tolerance: float) -> Iterator[str]:
    shrunk = [
        (
            text,
            Bbox.from_extents(
                b.x0 + tolerance, b.y0 + tolerance, b.x1 - tolerance, b.y1 - tolerance
            ),
        )
        for text, b in texts
        if b.width > 2 * tolerance and b.height > 2 * tolerance
    ]
    for (one, box), (other, other_box) in combinations(shrunk, 2):
        if box.overlaps(other_box):
            yield f"{one.get_text()!r} covers {other.get_text()!r}"


def text_of(figure: Figure) -> str:
    """Return all that is written in a figure, a line for each text."""
    return "\n".join(text.get_text() for text in figure.findobj(Text))
