"""The catalogue of plots: one file per plot, found by scanning this folder.

A plot is a module here whose name does not begin with an underscore, with

    SAYS                 a sentence: what the plot shows
    suits(result)        whether the result has what it needs
    draw(result)         -> Figure, of one run or of several side by side (`result.runs`)
    caption(result)      a sentence or two, made from the numbers, that say what one sees

Plots are drawn from recorded files alone.
"""

import importlib
import pkgutil
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from experiments.measure.results import Result, load, written_into

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FOLDER = "plots"
FORMATS = ("svg", "png")


class Plot(Protocol):
    """What a module in this folder has to offer."""

    SAYS: str

    def suits(self, result: Result) -> bool: ...

    def draw(self, result: Result) -> "Figure": ...

    def caption(self, result: Result) -> str: ...


def names() -> list[str]:
    """All plots, in the order in which a reader should see them."""
    found = [module.name for module in pkgutil.iter_modules(__path__)]
    plots = [name for name in found if not name.startswith("_")]
    return sorted(plots, key=lambda name: (_place(name), name))


def get(name: str) -> Plot:
    return cast(Plot, importlib.import_module(f"{__name__}.{name}"))


def suiting(result: Result) -> dict[str, Plot]:
    """The plots that can be drawn from this result."""
    plots = {name: get(name) for name in names()}
    return {name: plot for name, plot in plots.items() if plot.suits(result)}


def draw_all(path: Path) -> list[Path]:
    """Draws every plot of a result into its folder `plots`; returns the files."""
    result = load(path)
    return [file for name in suiting(result) for file in draw(result, name)]


def draw(result: Result, name: str) -> list[Path]:
    """Draws one plot into the result's folder `plots`, in all formats."""
    from experiments.report.plots import _style

    files = [image_of(result, name, suffix) for suffix in FORMATS]
    with _style.applied(), written_into(result.path):
        figure = get(name).draw(result)
        for file in files:
            file.parent.mkdir(exist_ok=True)
            _style.save(figure, file)
    return files


def image_of(result: Result, name: str, suffix: str = "svg") -> Path:
    return result.path / FOLDER / f"{name}.{suffix}"


def _place(name: str) -> int:
    return int(getattr(get(name), "PLACE", 100))
