"""A result as tables: all that the terminal shows, in its order, and the report.

Of a few moves each has its tables, of many there are the totals (`experiments.report.move_tables`).
Below them is, if there was any: state that came over, what standbys cost, what became of tasks
(`experiments.report.task_tables`), differences between runs side by side, failures, and what was
dropped or refused.
"""

from collections.abc import Callable
from typing import Any

from experiments.measure.results import Result
from experiments.measure.trace import moves_of
from experiments.report.format import MISSING, count, megabytes, milliseconds
from experiments.report.move_tables import (
    move_title,
    of_flows,
    of_many_moves,
    of_moves,
    of_the_worst,
    of_totals,
)
from experiments.report.task_tables import of_connections, of_visits
from experiments.report.text_table import ReportTable

FEW_MOVES = 4
"""Up to this number, moves are shown one by one."""

_STATE_COLUMNS = {
    "rounds": ("transfer_iterations", count),
    "state\nMB": ("state_bytes", megabytes),
    "sent\nMB": ("transfer_bytes", megabytes),
    "pause\nms": ("pause_ms", milliseconds),
    "total\nms": ("transfer_total_ms", milliseconds),
    "ran without\nall, ms": ("post_copy_ms", milliseconds),
    "faults": ("faults", count),
    "fault\np50 ms": ("fault_p50_ms", milliseconds),
}


def _hundredths(value: float) -> str:
    return f"{value:.2f}"


_STANDBY_COLUMNS = {
    "latency\np50 ms": ("latency_p50_ms", milliseconds),
    "p99\nms": ("latency_p99_ms", milliseconds),
    "mirror\nMbit/s": ("mirror_mbit_s", _hundredths),
    "memory\nMB": ("standby_memory_mb", count),
    "requests\nlost": ("lost_requests", count),
    "state\nlost, ms": ("lost_age_ms", milliseconds),
    "silence\nms": ("silence_ms", milliseconds),
}


def tables(result: Result) -> list[ReportTable]:
    """Return the tables that the terminal shows; empty ones are left out."""
    if not has_moves(result):
        shown = [of_totals(result)]
    elif has_few_moves(result):
        shown = [*of_flows(result), of_moves(result)]
    else:
        shown = [of_totals(result), of_the_worst(result), of_many_moves(result)]
    shown += [of_state(result), of_standbys(result), of_visits(result), of_connections(result)]
    shown += of_unlike_runs(result)
    shown += [*of_failures(result), *of_refused(result)]
    return [table for table in shown if table.rows]


def has_moves(result: Result) -> bool:
    return any(len(run.metrics) for run in result.runs.values())


def has_few_moves(result: Result) -> bool:
    return all(run.metrics["move"].nunique() <= FEW_MOVES for run in result.runs.values())


def of_unlike_runs(result: Result) -> list[ReportTable]:
    """Return a table of other differences between runs side by side, if there are any.

    These are what forwards packets and what delays them: differences between figures may be due to
    it.
    """
    kinds = {run_name: _kind_of(run) for run_name, run in result.runs.items()}
    if len(set(kinds.values())) < 2:
        return []
    headings = ("run", "overlay", "datapath", "links")
    title = "Not the same in all runs (delays and losses may be due to that)"
    return [ReportTable(title, headings, [(name, *kind) for name, kind in kinds.items()], 4)]


def _kind_of(run: Result) -> tuple[str, str, str]:
    overlay = run.scenario.get("overlay", {}).get("kind", MISSING)
    datapath, links = (str(run.manifest.get(key, MISSING)) for key in ("datapath", "link_emulator"))
    return str(overlay), datapath, links


def of_failures(result: Result) -> list[ReportTable]:
    """Return a table of the failures that were injected, if any, and how their moves ended."""
    rows: list[tuple[str, ...]] = []
    for run_name, run in result.runs.items():
        ended_ns = {
            event.details["failure"]: event.t_ns
            for event in run.events
            if event.name == "failure-ended"
        }
        outcomes = {move.number: move.outcome for move in moves_of(run.events)}
        for event in run.events:
            if event.name == "failure-injected":
                told, end_ns = event.details, ended_ns.get(event.details["failure"])
                began_ns = int(told.get("began_ns", event.t_ns))
                lasted = f"{(end_ns - began_ns) / 1e9:.1f}" if end_ns else "to the end"
                at = str(told.get("during") or _since_traffic(run, began_ns))
                words = (told["kind"], event.subject, at, run_name)
                rows.append((*words, lasted, outcomes.get(int(told.get("move", 0)), MISSING)))
    headings = ("what failed", "of", "at", "run", "for s", "the move")
    return [ReportTable("Failures", headings, rows, 4)] if rows else []


def _since_traffic(run: Result, t_ns: int) -> str:
    began = [event.t_ns for event in run.events if event.name == "traffic-started"]
    return f"{(t_ns - began[0]) / 1e9:.1f} s" if began else MISSING


NOBODYS_FAULT = {
    "no-longer-forwarded": "Sent on old entries after forwarding had ended by its timer",
    "not-routed": "Broadcast, multicast and other protocols than IP, not carried at layer 3",
}
"""The refusals that are nobody's mistake, with the headings of their tables."""


def of_refused(result: Result) -> list[ReportTable]:
    """Return a table of what was dropped or refused, if anything was: whose it was and why."""
    rows: list[tuple[str, ...]] = [
        (
            row["nve"],
            row["vm"] or row["tunnel_source"] or MISSING,
            row["what"],
            run_name,
            count(int(row["packets"])),
        )
        for run_name, run in result.runs.items()
        for row in run.refused
    ]
    headings = ("NVE", "from", "what", "run", "packets")
    titled = (
        (
            "Refused: forged, unknown or too much",
            [row for row in rows if row[2] not in NOBODYS_FAULT],
        ),
        *(
            (title, [row for row in rows if row[2] == what])
            for what, title in NOBODYS_FAULT.items()
        ),
    )
    return [ReportTable(title, headings, some, 4) for title, some in titled if some]


def of_state(result: Result) -> ReportTable:
    """Return how the state of VMs came over, one row per move that brought any."""
    rows: list[tuple[str, ...]] = []
    for run_name, run in result.runs.items():
        moves = run.metrics.drop_duplicates("move")
        for row in moves[moves["transfer"].notna()].to_dict("records"):
            ended = row["transfer_end"] if row["outcome"] == "completed" else row["outcome"]
            words = (move_title(row), run_name, str(row["transfer"]), str(ended))
            numbers = [write(row[column]) for column, write in _STATE_COLUMNS.values()]
            rows.append((*words, *numbers))
    headings = ("move", "run", "transfer", "stopped", *_STATE_COLUMNS)
    return ReportTable("How the state of VMs came over", headings, rows, text_columns=4)


def of_standbys(result: Result) -> ReportTable:
    """What standbys cost while nothing failed, and what was lost when a server died."""
    rows: list[tuple[str, ...]] = []
    for run_name, run in result.runs.items():
        if run.standbys is None:
            continue
        taken_over = [] if run.takeovers is None else run.takeovers.to_dict("records")
        lost = {row["vm"]: row for row in taken_over}
        for row in run.standbys.to_dict("records"):
            seen = {**lost.get(row["vm"], {}), **row}
            kind = (
                row["kind"] if row["kind"] == "hot" else f"{row['kind']}, {row['interval_s']:g} s"
            )
            numbers = [
                _or_missing(write, seen.get(column)) for column, write in _STANDBY_COLUMNS.values()
            ]
            rows.append((row["vm"], run_name, kind, *numbers))
    headings = ("VM", "run", "standby", *_STANDBY_COLUMNS)
    return ReportTable("What standbys cost, and lost", headings, rows, text_columns=3)


def _or_missing(write: Callable[[Any], str], value: Any) -> str:
    """Write a cell that may be empty or left out: a number that is not one is not itself."""
    return MISSING if value is None or value != value else write(value)
