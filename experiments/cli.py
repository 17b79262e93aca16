"""The command line.  Each command is a few lines that call the part that does the work.

Exit codes: 0 done, and a run was complete and valid; 1 the run failed or is not valid; 2 the
command, the scenario or a file is wrong; 130 interrupted.

What is slow to import (Mininet, pandas, matplotlib) is imported by the command that needs it.
"""

import json
import shutil
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.markup import escape
from rich.table import Table

from experiments.terminal import Screen, Terminal, be_robust
from nve.linux import capabilities

EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 1, 2, 130

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    help="""Move virtual machines between the servers of an emulated data centre, and measure what
happens to their traffic.

Start with [bold]vmmlab run demo[/bold]. [bold]vmmlab list[/bold] lists scenarios and topologies;
[bold]vmmlab doctor[/bold] says what this machine can do.""",
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


@app.command()
def doctor(as_json: Json = False) -> None:
    """Say what this machine can do, what is missing, and which command fixes it."""
    from experiments import doctor as examination

    findings = examination.examine()
    if as_json:
        print(examination.as_json(findings))
    else:
        out.print(examination.render(findings))
    raise typer.Exit(examination.exit_code(findings))


@app.command(name="list")
def list_everything(as_json: Json = False) -> None:
    """List scenarios, topologies, overlays and kinds of traffic, with a sentence each."""
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
    repeat: Annotated[
        int, typer.Option(min=1, help="Run it this many times, each with the next seed.")
    ] = 1,
    out_directory: Annotated[
        Path | None,
        typer.Option("--out", help="Directory of the result; default results/<UTC time>-<name>."),
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
        from experiments.carry_out import repeated, run_all
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
        runs = repeated(variants, repeat)
        place = out_directory or default_place(whole.name)
        _warn(require_machine(*runs.values(), pcap=pcap, place=place))
        if not run_all(whole, runs, place, options, Screen(out, err)):
            raise typer.Exit(EXIT_FAILED)


def _warn(warnings: Sequence[str]) -> None:
    for warning in warnings:
        told = f"[yellow]warning:[/yellow] {escape(warning)}"
        err.print(told, soft_wrap=True, highlight=False)


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
        Path | None,
        typer.Option("--out", help="Directory of the sweep; default results/sweep-<name>."),
    ] = None,
) -> None:
    """Run a scenario with every combination of some values; one table compares them.

    Each combination is a result of its own below [bold]cells/[/bold]. After an interruption, the
    same command runs only what is not finished.

    [bold]vmmlab sweep matrix --vary 'traffic.*.rate_pps=1000,5000' --vary
    topology.link.delay_ms=0,1,10[/bold]
    """
    with _mistakes_are_sentences():
        from experiments.carry_out import sweep_all
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
        }  # all are read before the first is run, so that a mistake in the last is reported now
        name = load.resolve(content, str(file), changes).name
        plan = {"scenario": content, "set": changes, "vary": varied}
        place = out_directory or ROOT / "results" / f"sweep-{name}"
        every = (each for _, variants in planned.values() for each in variants.values())
        _warn(require_machine(*every, place=place))
        if not sweep_all(Sweep.begin(place, matrix, plan), planned, Screen(out, err)):
            raise typer.Exit(EXIT_FAILED)


class Medium(StrEnum):
    """The medium in which a figure will be seen."""

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
            help="The medium: a printed column (3.5 inch), a printed page's width (7.2 inch), a "
            "16:9 slide, or a screen.",
        ),
    ] = Medium.SCREEN,
    formats: Annotated[
        list[FigureFormat] | None,
        typer.Option("--format", help="May be repeated; default svg."),
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option("--only", metavar="NAME", help="Draw only this figure; may be repeated."),
    ] = None,
    data: Annotated[
        bool, typer.Option("--data", help="Also write each figure's data as CSV beside it.")
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
    as_guestperf: Annotated[
        bool,
        typer.Option(
            "--guestperf",
            help="Instead, write each transfer of state in the form of QEMU's guestperf, as "
            "guestperf/move-N.json.",
        ),
    ] = False,
) -> None:
    """Write a recorded result's report.html again.  Needs no root and no network."""
    with _mistakes_are_sentences():
        if as_guestperf:
            from experiments.report import guestperf

            if not (files := guestperf.write(result)):
                err.print(f"{result} has no transfer of state", markup=False, soft_wrap=True)
                raise typer.Exit(EXIT_USAGE)
        else:
            from experiments.report.html import write_report

            files = [write_report(result)]
        for file in files:
            out.print(str(file), markup=False, soft_wrap=True)


@app.command()
def compare(
    results: Annotated[
        list[Path], typer.Argument(metavar="RESULT RESULT...", help="Directories of results.")
    ],
    as_json: Json = False,
) -> None:
    """Show recorded results beside each other.  Needs no root and no network.

    There is a row for each run, and a table for each kind of run: runs with another datapath,
    another emulation of links, or other pauses asked for are not put into one table. What else
    differs is listed.

    [bold]vmmlab compare results/before results/after[/bold]
    """
    with _mistakes_are_sentences():
        from experiments.report import comparison
        from experiments.report.text_table import drawn

        runs = comparison.compared(results)
        if as_json:
            print(json.dumps(comparison.as_data(runs), indent=2))
            return
        out.print_whole(drawn(comparison.tables(runs), out.room))
        if caveat := comparison.caveat(runs):
            out.print(caveat, markup=False, soft_wrap=True)


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
    """Open Mininet's command line on a data centre: move VMs by hand, look into the switches.

    A scenario's traffic, moves and failures are left out. Piped commands all run; the exit code is
    1 if one has failed.
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
    """End the command with a sentence and an exit code for a user's mistake, not with a
    traceback.
    """
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
    """Run the command line: the entry point of the console script."""
    be_robust()
    capabilities.find_system_programs()
    for ending in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, _terminate)
    app()


class Terminated(BaseException):
    """The process was told to end, or its terminal has gone.

    In a shell, Ctrl-C goes to the command that runs there; this exception ends the shell itself.
    """


def _terminate(*_: Any) -> NoReturn:
    raise Terminated
