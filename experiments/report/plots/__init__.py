"""The catalogue of figures: one file per figure, found by scanning this folder.

A figure is a module here whose name does not begin with an underscore, with

    QUESTION               the question that it answers
    PLACE                  a number: where it stands among the others
    suits(result)          whether the result has what it needs
    draw(result, preset)   -> Figure, of one run or of several side by side (`result.runs`)
    caption(result)        the answer: a sentence or two, made from the numbers
    data(result)           -> DataFrame: what is drawn, to be drawn by somebody else

One that is about a sweep has `OF = "sweep"` and gets a `SweepTables` in the place of a result.  A
figure is drawn for a *preset*: a column or a page of print, a slide, a screen.  Figures are drawn
from recorded files alone.
"""

import importlib
import io
import pkgutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from experiments.measure.results import ResultError, load, written_into

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from experiments.report.plots._style import Preset

FOLDER = "plots"
FORMATS = ("svg", "png", "pdf")
USUAL_FORMATS = ("svg",)
USUAL_PRESET = "screen"
PRESET_NAMES = ("column", "page", "slide", "screen")


class Plot(Protocol):
    """What a module in this folder has to define."""

    QUESTION: str
    PLACE: int

    def suits(self, subject: Any) -> bool: ...

    def draw(self, subject: Any, preset: "Preset") -> "Figure": ...

    def caption(self, subject: Any) -> str: ...

    def data(self, subject: Any) -> "pd.DataFrame": ...


def names(of: str = "result") -> list[str]:
    """Return the figures of results, or of sweeps, in the order in which a reader should see
    them.
    """
    found = [module.name for module in pkgutil.iter_modules(__path__)]
    plots = [name for name in found if not name.startswith("_")]
    mine = [name for name in plots if getattr(get(name), "OF", "result") == of]
    return sorted(mine, key=lambda name: (get(name).PLACE, name))


def get(name: str) -> Plot:
    return cast(Plot, importlib.import_module(f"{__name__}.{name}"))


def suiting(subject: Any, of: str = "result") -> dict[str, Plot]:
    """Return the figures that can be drawn from this result or sweep."""
    plots = {name: get(name) for name in names(of)}
    return {name: plot for name, plot in plots.items() if plot.suits(subject)}


def chosen(only: Sequence[str]) -> list[str]:
    """Return the names as given, if there are such figures.  Raises ResultError."""
    known = [*names(), *names("sweep")]
    for name in only:
        if name not in known:
            raise ResultError(f"there is no figure {name!r}; there are {', '.join(known)}")
    return list(only)


def draw_all(
    path: Path,
    *,
    preset: str = USUAL_PRESET,
    formats: Sequence[str] = USUAL_FORMATS,
    only: Sequence[str] = (),
    data: bool = False,
) -> list[Path]:
    """Draw the figures of the result or the sweep at `path` into its folder `plots`; return the
    files.

    Raises ResultError.
    """
    subject, of = _subject(path)
    wanted, written = chosen(only), []
    for name, plot in suiting(subject, of).items():
        if not wanted or name in wanted:
            files = [file_of(path, name, suffix, preset) for suffix in formats]
            draw(subject, plot, preset, files)
            written += files
            if data:
                table = file_of(path, name, "csv")
                with written_into(path):
                    plot.data(subject).to_csv(table, index=False)
                written.append(table)
    return written


def missing(path: Path, only: Sequence[str]) -> list[str]:
    """Return a sentence for each requested figure that this result has no data for."""
    subject, of = _subject(path)
    there = suiting(subject, of)
    return [
        f"{path} has nothing to draw {name} from ({get(name).QUESTION})"
        for name in only
        if name not in there
    ]


def draw(subject: Any, plot: Plot, preset: str, files: Sequence[Path]) -> None:
    """Draw one figure into these files, whose suffixes give the formats."""
    from experiments.report.plots import _style

    chosen_preset = _style.PRESETS[preset]
    with _style.applied(chosen_preset), written_into(subject.path):
        figure = plot.draw(subject, chosen_preset)
        for file in files:
            file.parent.mkdir(exist_ok=True)
            with file.open("wb") as target:
                _style.save(figure, target, file.suffix.removeprefix("."))


def as_svg(subject: Any, plot: Plot, preset: str) -> bytes:
    """Return one figure as the text of an SVG file."""
    from experiments.report.plots import _style

    chosen_preset, target = _style.PRESETS[preset], io.BytesIO()
    with _style.applied(chosen_preset):
        _style.save(plot.draw(subject, chosen_preset), target, "svg")
    return target.getvalue()


def file_of(path: Path, name: str, suffix: str = "svg", preset: str = USUAL_PRESET) -> Path:
    """Return plots/timeline.svg for the screen, plots/timeline-column.pdf for others."""
    whole = name if preset == USUAL_PRESET or suffix == "csv" else f"{name}-{preset}"
    return path / FOLDER / f"{whole}.{suffix}"


def _subject(path: Path) -> tuple[Any, str]:
    from experiments.report.plots import _sweep

    if _sweep.is_sweep(path):
        return _sweep.SweepTables.read(path), "sweep"
    return load(path), "result"
