"""report.html: a result on one page that stands alone.

Figures are inside it as data, nothing is fetched from anywhere, and everything in it comes from the
result's files: it can be deleted and written again, copied to another machine, or mailed.  Figures
that have been drawn are taken as they are (`vmmlab plot` draws them again), missing ones are drawn.
Each is in the page in two sizes: for a wide window, and for a phone.

A few sentences and one table come first, then the data centre, then a figure for each question; how
it was measured, what to beware of, and all numbers are folded.
"""

import base64
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2

from experiments.measure import totals
from experiments.measure.results import Result, load, written_into
from experiments.measure.task_moves import task_moves_of
from experiments.measure.trace import KNOWN, TraceEvent, moves_of
from experiments.report import interactive, move_tables, narrative, plots, summary, tables
from experiments.report.text_table import ReportTable

REPORT = "report.html"
_TEMPLATES = Path(__file__).parent / "templates"
_NOT_ENVIRONMENT = {
    "schema",
    "complete",
    "name",
    "variants",
    "problems",
    "notes",
    "kernel_counters",
    "probes",
    "links",
    "valid",
}


@dataclass(frozen=True)
class PageFigure:
    """A figure as the page shows it."""

    name: str
    question: str
    answer: str
    wide_uri: str
    narrow_uri: str


@dataclass(frozen=True)
class Line:
    """One event of a move: when, counted from the request, which part reports it, and what it
    means.
    """

    after_ms: str
    source: str
    event: str
    meaning: str
    details: str


@dataclass(frozen=True)
class TimeLine:
    """The events of one move of one run, or its failures and take-overs."""

    title: str
    since: str
    """What its times are counted from."""
    lines: list[Line]


def write_report(path: Path) -> Path:
    """Write report.html into the result at `path`; return the file.  Raises ResultError."""
    result = load(path)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
    )
    page = environment.get_template("report.html.j2").render(
        name=result.name,
        css=_template("report.css"),
        uplot=_template("uPlot.iife.min.js"),
        uplot_css=_template("uPlot.min.css"),
        uplot_licence=_template("uPlot.LICENSE"),
        script=_template("timeline.js"),
        full_size=_template("full_size.js"),
        answer=summary.in_words(result),
        summary=summary.table(result),
        time_line=interactive.time_line(result),
        says=result.scenario.get("says", ""),
        valid=all(run.manifest.get("valid", True) for run in result.runs.values()),
        findings=[*narrative.headlines(result), *narrative.what_happened(result)],
        tables=_tables(result),
        figures=list(_figures(result)),
        time_lines=list(_time_lines(result)),
        notes=narrative.honest_notes(result),
        facts=_facts(result),
        runs=list(result.runs),
        scenario=(result.path / "scenario.yaml").read_text(encoding="utf-8"),
    )
    report = path / REPORT
    with written_into(path):
        report.write_text(page, encoding="utf-8")
    return report


def _tables(result: Result) -> list[ReportTable]:
    """Return the tables of the terminal, and the totals, which it leaves out if there are few
    moves.
    """
    shown = tables.tables(result)
    few = tables.has_moves(result) and tables.has_few_moves(result)
    return [move_tables.of_totals(result), *shown] if few else shown


def _template(name: str) -> str:
    return (_TEMPLATES / name).read_text(encoding="utf-8")


def _figures(result: Result) -> Iterator[PageFigure]:
    for name, plot in plots.suiting(result).items():
        image = plots.file_of(result.path, name)
        if not image.exists():
            plots.draw(result, plot, plots.USUAL_PRESET, [image])
        narrow = plots.as_svg(result, plot, "column")
        answer = plot.caption(result)
        yield PageFigure(
            name, plot.QUESTION, answer, _data_uri(image.read_bytes()), _data_uri(narrow)
        )


def _data_uri(svg: bytes) -> str:
    return f"data:image/svg+xml;base64,{base64.b64encode(svg).decode()}"


def _time_lines(result: Result) -> Iterator[TimeLine]:
    for run_name, run in result.runs.items():
        moves = moves_of(run.events)
        if len(moves) > tables.FEW_MOVES:
            told = totals.worst(run.metrics, move_tables.WORST_MOVES)
            moves = [move for move in moves if move.number in told]
        for move in moves:
            route = f"{move.vm} {move.source_nve}→{move.destination_nve}"
            lines = list(_lines(move.events, move.requested_ns))
            yield TimeLine(f"{run_name}, move {move.number}: {route}", "the request", lines)
        for task_move in task_moves_of(run.events)[: move_tables.WORST_MOVES]:
            route = f"{task_move.task} {task_move.source_vm}→{task_move.destination_vm}"
            lines = list(_lines(task_move.events, task_move.requested_ns))
            title = f"{run_name}, move {task_move.number} of a task: {route}"
            yield TimeLine(title, "the request", lines)
        if failures := _failures(run.events):
            began = [event.t_ns for event in run.events if event.name == "traffic-started"]
            lines = list(_lines(failures, min(began, default=failures[0].t_ns)))
            title = f"{run_name}: failures and what came of them"
            yield TimeLine(title, "the traffic began", lines)


_FAILED = frozenset(
    {"failure-injected", "server-lost", "server-cut-off", "instance-cut-off", "vm-lost"}
)
_OF_FAILURES = _FAILED | {
    *("failure-ended", "vm-fenced", "instance-fenced", "instance-not-fenced", "instance-alone"),
    *("mirror-ready", "mirror-failed", "mirror-whole-again", "nve-disconnected", "nve-connected"),
}
"""The events that tell what failed, who noticed, and who took over."""


def _failures(events: Iterable[TraceEvent]) -> list[TraceEvent]:
    """Return what failed and what came of it, from the first failure on; may be empty."""
    told = [event for event in events if event.name in _OF_FAILURES]
    first = next((place for place, event in enumerate(told) if event.name in _FAILED), len(told))
    return told[first:]


def _lines(events: Iterable[TraceEvent], origin_ns: int) -> Iterator[Line]:
    for event in events:
        details = {
            key: value for key, value in event.details.items() if key not in ("move", "task_move")
        }
        if event.name in _OF_FAILURES and event.subject:
            details = {"of": event.subject, **details}
        yield Line(
            after_ms=f"{(event.t_ns - origin_ns) / 1e6:,.1f}",
            source=event.source,
            event=event.name,
            meaning=KNOWN.get(event.name, ""),
            details=", ".join(f"{key} {value}" for key, value in details.items()),
        )


def _facts(result: Result) -> list[tuple[str, list[str]]]:
    """Return what the manifests say about where and how the runs were made: one row per key."""
    manifests = [run.manifest for run in result.runs.values()]
    keys = dict.fromkeys(key for manifest in manifests for key in manifest)
    return [
        (key.replace("_", " "), [_as_text(manifest.get(key)) for manifest in manifests])
        for key in keys
        if key not in _NOT_ENVIRONMENT
    ]


def _as_text(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, dict):
        return ", ".join(f"{key} {_as_text(inner)}" for key, inner in value.items())
    if isinstance(value, list):
        return " ".join(map(str, value))
    return value if isinstance(value, str) else json.dumps(value)
