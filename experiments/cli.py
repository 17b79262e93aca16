"""The command line.  Each command is a few lines that call the part that does the work.

Exit codes: 0 done, and a run was complete and valid; 1 the run failed or is not valid; 2 the
command, the scenario or a file is wrong; 130 interrupted.

What is slow to import (Mininet, pandas, matplotlib) is imported by the command that needs it.
"""

import json
import shutil
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.markup import escape
from rich.table import Table

from experiments.terminal import Terminal, be_robust

if TYPE_CHECKING:
    from rich.status import Status

    from experiments.run.run import Options
    from experiments.scenario.schema import Scenario
    from experiments.sweep import Sweep

SELDOM_S = 10.0
"""Between two lines about a run's progress, where they are not rewritten."""
EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 1, 2, 130

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    help="""Move virtual machines between the servers of an emulated data centre, and see what their
traffic felt.

[bold]vmmlab run demo[/bold] is the place to start; [bold]vmmlab list[/bold] names the scenarios and
topologies there are; [bold]vmmlab doctor[/bold] says what this machine can do.""",
)
out = Terminal()
err = Terminal(stderr=True)

ScenarioName = Annotated[
    str, typer.Argument(metavar="SCENARIO", help="A scenario's name (see `list`) or a YAML file.")
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Change a field: overlay.in_flight=drop, traffic.*.rate_pps=100, moves.0.to=nve3.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]
ResultPaths = Annotated[list[Path], typer.Argument(metavar="RESULT...", help="Result directories.")]


@app.command()
def doctor(as_json: Json = False) -> None:
    """What this machine can do, what is missing, and the command that fixes it."""
    from experiments import doctor as examination

    findings = examination.examine()
    if as_json:
        print(examination.as_json(findings))
    else:
        out.print(examination.render(findings))
    raise typer.Exit(examination.exit_code(findings))


@app.command(name="list")
def list_everything(as_json: Json = False) -> None:
    """The scenarios, topologies, overlays and kinds of traffic there are, with a sentence each."""
    from experiments import overlays
    from experiments.catalogue import WORKLOADS
    from experiments.scenario import load
    from experiments.scenario import yaml_source as contents
    from topologies import catalogue

    found = {path.stem: contents.says(path) for path in sorted(load.FOLDER.glob("*.yaml"))}
    topologies = {kind: catalogue.get(kind).says for kind in catalogue.names()}
    kinds = {kind: overlays.get(kind).says for kind in overlays.names()}
    traffic = {kind: workload.SAYS for kind, workload in WORKLOADS.all().items()}
    listed = {"scenarios": found, "topologies": topologies, "overlays": kinds, "traffic": traffic}
    if as_json:
        print(json.dumps(listed, indent=2))
        return
    titles = ("scenario", "topology", "overlay", "traffic")
    for title, entries in zip(titles, listed.values(), strict=True):
        table = Table(title, "what it is", box=None, pad_edge=False)
        for name, says in entries.items():
            table.add_row(f"[bold]{name}[/bold]", escape(says))
        out.print(table, "")


@app.command()
def run(
    scenario: ScenarioName,
    settings: Settings = None,
    repeat: Annotated[int, typer.Option(min=1, help="Run it so many times, seeds counted up.")] = 1,
    out_directory: Annotated[
        Path | None,
        typer.Option("--out", help="Where the result goes; default results/<UTC time>-<name>."),
    ] = None,
    pcap: Annotated[bool, typer.Option("--pcap", help="Capture every NVE's underlay.")] = False,
    framework: Annotated[
        str | None, typer.Option(help="Short for --set overlay.framework=…: os-ken or ryu.")
    ] = None,
) -> None:
    """Run a scenario: build the data centre, send traffic, move VMs, write the result.

    The result holds every packet's fate, every event, the metrics, plots and a report.
    """
    with _mistakes_are_sentences():
        from experiments.run.run import Options, default_place, require_machine
        from experiments.scenario import load
        from experiments.scenario import yaml_source as contents

        file = load.find(scenario)
        changes = dict(contents.setting(text) for text in settings or [])
        if framework:
            changes["overlay.framework"] = framework
        content = contents.read(file)
        whole = load.resolve(content, str(file), changes)
        variants = load.variants(content, str(file), changes)
        options = Options(pcap=pcap)
        runs = _repeated(variants, repeat)
        place = out_directory or default_place(whole.name)
        _warn(require_machine(*runs.values(), pcap=pcap, place=place))
        _run_all(whole, runs, place, options)


def _repeated(variants: "dict[str, Scenario]", times: int) -> "dict[str, Scenario]":
    """The runs by name: each variant as often as asked for, with its own seed each time."""
    if times == 1:
        return variants
    return {
        f"{name}-{number}".lstrip("-"): each.model_copy(update={"seed": each.seed + number - 1})
        for name, each in variants.items()
        for number in range(1, times + 1)
    }


def _run_all(
    whole: "Scenario", runs: "dict[str, Scenario]", wanted: Path, options: "Options"
) -> None:
    from experiments.report.html import write_report
    from experiments.report.plots import draw_all

    place, problems = _record_all(whole, runs, wanted, options)
    # From here on all that was measured is on the disk; what fails now costs only itself.
    failures: list[str] = []
    page = None
    with _attempt("the plots could not be drawn", failures), out.status("drawing plots"):
        draw_all(place)
    with _attempt("the report could not be written", failures):
        page = write_report(place)
    with _attempt("the tables could not be printed", failures):
        _show_result(place)
    if out.lost:
        failures.append(f"not everything could be printed ({out.lost.strerror})")
    for failure in failures:
        said = f"{failure}; {place} has what was measured"
        err.print(f"[red]vmmlab:[/red] {escape(said)}", soft_wrap=True, highlight=False)
    if page:
        out.print(f"report  {page}", markup=False, soft_wrap=True)
    _tell(problems)
    if failures:
        raise typer.Exit(EXIT_FAILED)


def _show_result(place: Path) -> None:
    from experiments.measure import results
    from experiments.report import narrative, tables

    result = results.load(place)
    out.print_whole(tables.drawn(tables.tables(result), out.room))
    for sentence in narrative.headlines(result):
        out.print(sentence, markup=False, highlight=False)


@contextmanager
def _attempt(failure: str, failures: list[str]) -> Iterator[None]:
    """What goes wrong is one of the `failures`, and costs nothing else."""
    try:
        yield
    except Exception as error:
        failures.append(f"{failure} ({type(error).__name__}: {error})")


def _record_all(
    whole: "Scenario",
    runs: "dict[str, Scenario]",
    place: Path,
    options: "Options",
    *,
    keep_part: bool = True,
) -> tuple[Path, list[str]]:
    """A result with these runs at `place`, or beside it if that has been taken meanwhile; and what
    makes it not valid, in sentences."""
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
                with out.status(title) as status:
                    outcome = running.run(
                        each, recorder.run(name or None), options, _Progress(status, title)
                    )
                out.print(f"[green]✓[/green] {title}")
                for note in outcome.notes:
                    told = f"note: {title}: {note}"
                    out.print(told, markup=False, highlight=False, soft_wrap=True)
                problems += [f"{title}: {problem}" for problem in outcome.problems]
    finally:
        if recorder.kept:
            err.print(f"kept: {recorder.kept}", markup=False, highlight=False, soft_wrap=True)
    if recorder.place != place:
        told = f"{place} has been taken meanwhile; this result is {recorder.place}"
        err.print(told, markup=False, highlight=False, soft_wrap=True)
    return recorder.place, problems


def _warn(warnings: Sequence[str]) -> None:
    for warning in warnings:
        told = f"[yellow]warning:[/yellow] {escape(warning)}"
        err.print(told, soft_wrap=True, highlight=False)


def _tell(problems: list[str]) -> None:
    """Why the figures must not be trusted; and the exit code that says so."""
    for problem in problems:
        err.print(f"[red]not valid:[/red] {escape(problem)}", soft_wrap=True)
    if problems:
        raise typer.Exit(EXIT_FAILED)


@app.command()
def sweep(
    scenario: ScenarioName,
    vary: Annotated[
        list[str],
        typer.Option(
            metavar="KEY=VALUE,VALUE…",
            help="A field and the values to try: traffic.*.rate_pps=1000,5000. With several "
            "--vary, every combination is run.",
        ),
    ],
    settings: Settings = None,
    out_directory: Annotated[
        Path | None, typer.Option("--out", help="Where it goes; default results/sweep-<name>.")
    ] = None,
) -> None:
    """Run a scenario under every combination of some values: one table of all.

    Each combination is a result of its own below [bold]cells/[/bold]. The same command again goes
    on where it was interrupted: what is finished is not run again.

    [bold]vmmlab sweep matrix --vary 'traffic.*.rate_pps=1000,5000' --vary
    topology.link.delay_ms=0,1,10[/bold]
    """
    with _mistakes_are_sentences():
        from experiments.machine import ROOT
        from experiments.run.run import require_machine
        from experiments.scenario import load
        from experiments.scenario import yaml_source as contents
        from experiments.sweep import Sweep, cells

        file = load.find(scenario)
        content = contents.read(file)
        changes = dict(contents.setting(text) for text in settings or [])
        varied = contents.matrix(vary)
        matrix = cells(varied)
        planned = {
            cell.name: (
                load.resolve(content, str(file), {**changes, **cell.settings}),
                load.variants(content, str(file), {**changes, **cell.settings}),
            )
            for cell in matrix
        }  # all of them before the first is run: a mistake in the last is told now
        name = load.resolve(content, str(file), changes).name
        plan = {"scenario": content, "set": changes, "vary": varied}
        place = out_directory or ROOT / "results" / f"sweep-{name}"
        every = (each for _, variants in planned.values() for each in variants.values())
        _warn(require_machine(*every, place=place))
        _sweep_all(Sweep.begin(place, matrix, plan), planned)


def _sweep_all(swept: "Sweep", planned: "dict[str, tuple[Scenario, dict[str, Scenario]]]") -> None:
    from experiments.errors import RunError
    from experiments.report.plots import draw_all
    from experiments.report.tables import drawn
    from experiments.run.run import Options
    from experiments.sweep import SUMMARY, table

    problems: list[str] = []
    for number, cell in enumerate(swept.cells, start=1):
        title = f"{number} of {len(swept.cells)}: {cell.name}"
        if swept.is_finished(cell):
            out.print(f"{title} is there already", markup=False, soft_wrap=True)
        else:
            out.print(title, markup=False, soft_wrap=True)
            try:
                # A part would be taken for the whole: the same command runs the cell again.
                _record_all(*planned[cell.name], swept.place_of(cell), Options(), keep_part=False)
            except RunError as error:  # the other cells are worth having
                problems.append(f"{cell.name}: {error}; the same command runs this cell again")
                continue
        problems += [f"{cell.name}: {problem}" for problem in swept.problems(cell)]
    with out.status("adding up and drawing"):
        summary = swept.aggregate()
        figures = draw_all(swept.path)
    out.print_whole(drawn([table(summary, swept.cells[0].settings)], out.room))
    for kind, file in (("summary", swept.path / SUMMARY), *(("figure ", each) for each in figures)):
        out.print(f"{kind}  {file}", markup=False, soft_wrap=True)
    _tell(problems)


class _Progress:
    """How far a run is: one line that is rewritten; where there is no screen, now and then a new
    one."""

    def __init__(self, status: "Status", title: str) -> None:
        self._status = status
        self._title = title
        self._said_s = time.monotonic()

    def __call__(self, what: str) -> None:
        said = f"{self._title}: {what}"
        if out.is_terminal:
            self._status.update(said)
        elif time.monotonic() - self._said_s >= SELDOM_S:
            self._said_s = time.monotonic()
            out.print(said, markup=False, highlight=False, soft_wrap=True)


class Medium(StrEnum):
    """Where a figure will be seen."""

    COLUMN = "column"
    PAGE = "page"
    SLIDE = "slide"
    SCREEN = "screen"


class FigureFormat(StrEnum):
    """A figure's file format."""

    PDF = "pdf"
    SVG = "svg"
    PNG = "png"


@app.command()
def plot(
    results: Annotated[
        list[Path],
        typer.Argument(metavar="RESULT|SWEEP...", help="Directories of results or of sweeps."),
    ],
    medium: Annotated[
        Medium,
        typer.Option(
            "--for",
            help="Where they will be seen: one column (3.5 inch) or the width of a page (7.2 inch) "
            "of print, a 16:9 slide, a screen.",
        ),
    ] = Medium.SCREEN,
    formats: Annotated[
        list[FigureFormat] | None,
        typer.Option("--format", help="May be given several times; without it, svg."),
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option("--only", metavar="NAME", help="This figure only; several times for several."),
    ] = None,
    data: Annotated[
        bool, typer.Option("--data", help="Write what is drawn as CSV beside each figure, too.")
    ] = False,
) -> None:
    """Draw the figures of recorded results again.  Needs no root and no network.

    They go into the folder [bold]plots/[/bold] of each result: for a screen as
    [bold]timeline.svg[/bold], for a column as [bold]timeline-column.pdf[/bold].

    [bold]vmmlab plot results/sample --for column --format pdf --only timeline[/bold]
    """
    with _mistakes_are_sentences():
        from experiments.report import plots

        wanted = plots.chosen(only or [])
        written = [each.value for each in formats or ()] or list(plots.USUAL_FORMATS)
        for result in results:
            for sentence in plots.missing(result, wanted):
                err.print(sentence, markup=False, soft_wrap=True)
            for file in plots.draw_all(
                result, preset=medium.value, formats=written, only=wanted, data=data
            ):
                out.print(str(file), markup=False, soft_wrap=True)


@app.command()
def report(
    result: Annotated[Path, typer.Argument(metavar="RESULT", help="A result directory.")],
) -> None:
    """Write a recorded result's report.html again.  Needs no root and no network."""
    with _mistakes_are_sentences():
        from experiments.report.html import write_report

        out.print(str(write_report(result)), markup=False, soft_wrap=True)


@app.command()
def shell(
    place: Annotated[
        str,
        typer.Argument(
            metavar="TOPOLOGY|SCENARIO",
            help="A kind of topology or a scenario (see `list`), or a YAML file.",
        ),
    ] = "star",
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change a field of its scenario."),
    ] = None,
    script: Annotated[
        Path | None,
        typer.Option(
            help="Run the commands in this file, up to the first that fails (exit code 1)."
        ),
    ] = None,
) -> None:
    """Mininet's command line on a data centre with an overlay: move VMs by hand and look inside.

    Of a scenario it takes all but traffic, moves and failures. Commands that are piped in are run
    to the end; the exit code is 1 if one of them has failed.
    """
    with _mistakes_are_sentences():
        from experiments.errors import UsageError
        from experiments.run.run import require_machine
        from experiments.scenario import yaml_source as contents
        from experiments.shell import open_shell, scenario_of

        if script and not script.is_file():
            raise UsageError(f"--script: there is no file {script}")
        chosen = scenario_of(place, dict(contents.setting(text) for text in settings or []))
        _warn(require_machine(chosen))
        if open_shell(chosen, out, script):
            raise typer.Exit(EXIT_FAILED)


@app.command()
def clean() -> None:
    """Remove what a crashed run left on this machine, and nothing else."""
    with _mistakes_are_sentences():
        from experiments.machine import ROOT
        from experiments.measure import recording
        from experiments.run.run import require_root
        from topologies.emulation import host_settings
        from topologies.emulation.session import leftovers

        require_root()
        said = [sentence for leftover in leftovers() for sentence in leftover.remove()]
        said += host_settings.settle()
        for partial in recording.partials(ROOT / "results"):
            shutil.rmtree(partial)
            said.append(f"removed {partial}, which a run did not finish")
        for sentence in said:
            out.print(sentence, markup=False, soft_wrap=True)
        if not said:
            out.print("nothing to clean")


@contextmanager
def _mistakes_are_sentences() -> Iterator[None]:
    """Mistakes of the user end in a sentence and an exit code, not in a traceback."""
    from experiments.errors import RunError, UsageError

    try:
        yield
    except UsageError as error:
        _fail(str(error), EXIT_USAGE)
    except RunError as error:
        _fail(str(error), EXIT_FAILED)
    except (KeyboardInterrupt, Terminated):
        _fail("interrupted; everything that was started is ended", EXIT_INTERRUPTED)


def _fail(message: str, code: int) -> NoReturn:
    # Escaped: a message may quote what rich would take for its markup.
    err.print(f"[red]vmmlab:[/red] {escape(message)}", soft_wrap=True, highlight=False)
    raise typer.Exit(code)


def main() -> None:
    """The console script."""
    be_robust()
    for ending in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, _terminate)
    app()


class Terminated(BaseException):
    """The process was told to end, or its terminal has gone.  Ctrl-C in a shell is for the command
    that runs there; this is for the shell."""


def _terminate(*_: Any) -> NoReturn:
    raise Terminated
