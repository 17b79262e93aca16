"""Carries out `vmmlab run` and `vmmlab sweep`: records the runs, draws and reports them, and tells
the user about progress and outcome.

Everything that was measured is on the disk before anything is drawn or printed, so that a failure
of drawing or printing loses no measurement.
"""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rich.markup import escape

from experiments.terminal import Screen, Terminal

if TYPE_CHECKING:
    from rich.status import Status

    from experiments.run.run import Options
    from experiments.scenario.schema import Scenario
    from experiments.sweep import Sweep

SELDOM_S = 10.0
"""The time between two lines about a run's progress if they are not rewritten, in seconds."""


def repeated(variants: "dict[str, Scenario]", times: int) -> "dict[str, Scenario]":
    """Return the runs by name: each variant as often as asked for, with its own seed each time."""
    if times == 1:
        return variants
    return {
        f"{name}-{number}".lstrip("-"): each.model_copy(update={"seed": each.seed + number - 1})
        for name, each in variants.items()
        for number in range(1, times + 1)
    }


def run_all(
    whole: "Scenario",
    runs: "dict[str, Scenario]",
    wanted: Path,
    options: "Options",
    screen: Screen,
) -> bool:
    """Record these runs of `whole` at `wanted`, draw, report and print them.

    Returns whether all of that went well and every run is valid.
    """
    from experiments.report.html import write_report
    from experiments.report.plots import draw_all

    place, problems = _record_all(whole, runs, wanted, options, screen)
    # From here on all that was measured is on the disk; what fails now costs only itself.
    failures: list[str] = []
    page = None
    with _attempt("the plots could not be drawn", failures), screen.out.status("drawing plots"):
        draw_all(place)
    with _attempt("the report could not be written", failures):
        page = write_report(place)
    with _attempt("the tables could not be printed", failures):
        _show_result(place, screen)
    if screen.out.lost:
        failures.append(f"not everything could be printed ({screen.out.lost.strerror})")
    for failure in failures:
        said = f"{failure}; {place} has what was measured"
        screen.err.print(f"[red]vmmlab:[/red] {escape(said)}", soft_wrap=True, highlight=False)
    if page:
        screen.out.print(f"report  {page}", markup=False, soft_wrap=True)
    return _told(problems, screen) and not failures


def _show_result(place: Path, screen: Screen) -> None:
    from experiments.measure import results
    from experiments.report import narrative, tables
    from experiments.report.text_table import drawn

    result = results.load(place)
    screen.out.print_whole(drawn(tables.tables(result), screen.out.room))
    for sentence in narrative.headlines(result):
        screen.out.print(sentence, markup=False, highlight=False)


@contextmanager
def _attempt(failure: str, failures: list[str]) -> Iterator[None]:
    """Add an exception of the block to `failures` instead of raising it."""
    try:
        yield
    except Exception as error:
        failures.append(f"{failure} ({type(error).__name__}: {error})")


def _record_all(
    whole: "Scenario",
    runs: "dict[str, Scenario]",
    place: Path,
    options: "Options",
    screen: Screen,
    *,
    keep_part: bool = True,
) -> tuple[Path, list[str]]:
    """Record a result with these runs at `place`, or beside it if that has been taken meanwhile.

    Returns the place, and sentences that say why the result is not valid.
    """
    from experiments.measure import recording
    from experiments.run import run as running
    from experiments.scenario.load import as_mapping

    problems: list[str] = []
    names = list(runs) if list(runs) != [""] else None
    recorder = recording.Recorder.create(place, variants=names, keep_part=keep_part)
    try:
        with recorder:
            if names:
                recorder.overall(as_mapping(whole), {"name": whole.name, "command": sys.argv})
            for name, each in runs.items():
                title = f"{whole.name} {name}".strip()
                with screen.out.status(title) as status:
                    outcome = running.run(
                        each,
                        recorder.run(name or None),
                        options,
                        _Progress(status, title, screen.out),
                    )
                screen.out.print(f"[green]✓[/green] {title}")
                for note in outcome.notes:
                    told = f"note: {title}: {note}"
                    screen.out.print(told, markup=False, highlight=False, soft_wrap=True)
                problems += [f"{title}: {problem}" for problem in outcome.problems]
    finally:
        if recorder.kept:
            screen.err.print(
                f"kept: {recorder.kept}", markup=False, highlight=False, soft_wrap=True
            )
    if recorder.place != place:
        told = f"{place} has been taken meanwhile; this result is {recorder.place}"
        screen.err.print(told, markup=False, highlight=False, soft_wrap=True)
    return recorder.place, problems


def _told(problems: list[str], screen: Screen) -> bool:
    """Print why the figures must not be trusted; return whether they may be."""
    for problem in problems:
        screen.err.print(f"[red]not valid:[/red] {escape(problem)}", soft_wrap=True)
    return not problems


def sweep_all(
    swept: "Sweep",
    planned: "dict[str, tuple[Scenario, dict[str, Scenario]]]",
    screen: Screen,
) -> bool:
    """Run the cells that are not finished, and summarise all.  Returns the same as `run_all`."""
    from experiments.errors import RunError
    from experiments.report.plots import draw_all
    from experiments.report.text_table import drawn
    from experiments.run.run import Options
    from experiments.sweep import SUMMARY, table

    problems: list[str] = []
    for number, cell in enumerate(swept.cells, start=1):
        title = f"{number} of {len(swept.cells)}: {cell.name}"
        if swept.is_finished(cell):
            screen.out.print(f"{title} is there already", markup=False, soft_wrap=True)
        else:
            screen.out.print(title, markup=False, soft_wrap=True)
            try:
                # A part would be taken for the whole; the same command runs the cell again.
                _record_all(
                    *planned[cell.name], swept.place_of(cell), Options(), screen, keep_part=False
                )
            except RunError as error:  # go on with the other cells
                problems.append(f"{cell.name}: {error}; the same command runs this cell again")
                continue
        problems += [f"{cell.name}: {problem}" for problem in swept.problems(cell)]
    with screen.out.status("adding up and drawing"):
        summary = swept.aggregate()
        figures = draw_all(swept.path)
    screen.out.print_whole(drawn([table(summary, swept.cells[0].settings)], screen.out.room))
    for kind, file in (("summary", swept.path / SUMMARY), *(("figure ", each) for each in figures)):
        screen.out.print(f"{kind}  {file}", markup=False, soft_wrap=True)
    return _told(problems, screen)


class _Progress:
    """Shows the progress of a run in one line that is rewritten; without a screen, in occasional
    lines.
    """

    def __init__(self, status: "Status", title: str, out: Terminal) -> None:
        self._out = out
        self._status = status
        self._title = title
        self._said_s = time.monotonic()

    def __call__(self, what: str) -> None:
        said = f"{self._title}: {what}"
        if self._out.is_terminal:
            self._status.update(said)
        elif time.monotonic() - self._said_s >= SELDOM_S:
            self._said_s = time.monotonic()
            self._out.print(said, markup=False, highlight=False, soft_wrap=True)
