"""A result as tables: what each move did to each flow, with runs side by side, and what moves took.

Of a few moves each has its tables.  For many moves there is one line per flow over all packets of
the run, the spread of what the moves took, and the moves that did most damage.

All cells are text, so that the terminal and the report show the same.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from experiments.measure import totals, visits
from experiments.measure.results import Result
from experiments.measure.totals import Spread
from experiments.measure.trace import moves_of
from experiments.report.format import MISSING, count, milliseconds

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Group

FEW_MOVES = 4
"""Up to this number, moves are shown one by one."""
WORST_MOVES = 5


@dataclass(frozen=True)
class ReportTable:
    """A title, headings and rows of text; every row is as long as the headings."""

    title: str
    headings: tuple[str, ...]
    rows: list[tuple[str, ...]]
    text_columns: int
    """How many columns from the left are words; the others are numbers."""


_FLOW_COLUMNS = {
    "lost": ("lost", count),
    "silence\nms": ("blackout_ms", milliseconds),
    "recov.\nms": ("recovery_ms", milliseconds),
    "before\nms": ("delay_before_p50_ms", milliseconds),
    "during\nms": ("delay_during_p50_ms", milliseconds),
    "after\nms": ("delay_after_p50_ms", milliseconds),
    "dup.": ("duplicated", count),
    "out of\norder": ("reordered", count),
}
_MOVE_COLUMNS = {
    "pause\nms": ("pause_ms", milliseconds),
    "total\nms": ("request_to_completion_ms", milliseconds),
    "conv.\nms": ("convergence_ms", milliseconds),
    "tun-\nnelled": ("tunnelled_packets", count),
    "dropped\nthere": ("dropped_at_source_packets", count),
    "in-flight\nms": ("in_flight_lifetime_ms", milliseconds),
    "via source\nlater": ("packets_via_source_after_convergence", count),
}


_TOTAL_COLUMNS = {
    "sent": ("sent", count),
    "lost": ("lost", count),
    "dup.": ("duplicated", count),
    "out of\norder": ("reordered", count),
    "recov.\np50 ms": ("recovery_excess_p50_ms", milliseconds),
    "p99\nms": ("recovery_excess_p99_ms", milliseconds),
    "max\nms": ("recovery_excess_max_ms", milliseconds),
    "silence\nmax ms": ("blackout_max_ms", milliseconds),
}
_WORST_COLUMNS = {
    "asked\nms": ("pause_asked_ms", milliseconds),
    "pause\nms": ("pause_ms", milliseconds),
    "lost": ("lost", count),
    "dup.": ("duplicated", count),
    "out of\norder": ("reordered", count),
    "recov.\nmax ms": ("recovery_excess_ms", milliseconds),
}
_SPREAD_OF_MOVES = {
    "pause above what was asked (ms)": ("pause_above_asked_ms", milliseconds),
    "request to completion (ms)": ("request_to_completion_ms", milliseconds),
    "held at the destination (ms)": ("outbound_held_ms", milliseconds),
    "convergence (ms)": ("convergence_ms", milliseconds),
    "in-flight tunnel (ms)": ("in_flight_lifetime_ms", milliseconds),
    "packets tunnelled": ("tunnelled_packets", count),
    "packets dropped at the source": ("dropped_at_source_packets", count),
    "packets via source later": ("packets_via_source_after_convergence", count),
}


def _megabytes(octets: float | None) -> str:
    return milliseconds(None if octets is None else octets / 1e6)


_STATE_COLUMNS = {
    "rounds": ("transfer_iterations", count),
    "state\nMB": ("state_bytes", _megabytes),
    "sent\nMB": ("transfer_bytes", _megabytes),
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


def has_few_moves(result: Result) -> bool:
    return all(run.metrics["move"].nunique() <= FEW_MOVES for run in result.runs.values())


def of_totals(result: Result) -> ReportTable:
    """Return one row per flow and run: all packets of the run."""
    rows = [
        ((row["flow"], run_name), row)
        for run_name, run in result.runs.items()
        for row in run.totals.to_dict("records")
    ]
    rows.sort(key=lambda item: item[0][0])
    moves = max((run.metrics["move"].nunique() for run in result.runs.values()), default=0)
    return ReportTable(
        f"What became of all packets (moves: {moves}; recovery: above the underlay's own delay)",
        ("flow", "run", *_TOTAL_COLUMNS),
        [(*words, *_cells(row, _TOTAL_COLUMNS)) for words, row in rows],
        text_columns=2,
    )


def of_the_worst(result: Result) -> ReportTable:
    """Return the moves of each run that did most damage, over all flows."""
    rows = []
    for run_name, run in result.runs.items():
        for number in totals.worst(run.metrics, WORST_MOVES):
            of_move = run.metrics[run.metrics["move"] == number]
            row: dict[Any, Any] = {
                **of_move.iloc[0].to_dict(),
                **{what: of_move[what].sum() for what in totals.DAMAGE},
                "recovery_excess_ms": Spread.of(of_move["recovery_excess_ms"]).max,
            }
            words = (_move_words(row), run_name, row["announce"] or MISSING)
            rows.append((*words, *_cells(row, _WORST_COLUMNS)))
    return ReportTable(
        "The moves that harmed most, then those that took longest (all flows together)",
        ("move", "run", "announced", *_WORST_COLUMNS),
        rows,
        text_columns=3,
    )


def of_many_moves(result: Result) -> ReportTable:
    """Return what the moves took: one row per run and quantity."""
    rows = [
        (run_name, *cells)
        for run_name, run in result.runs.items()
        for cells in _spreads(run.metrics.drop_duplicates("move"))
    ]
    return ReportTable(
        "What the moves took",
        ("run", "quantity", "moves", "p50", "p99", "max"),
        rows,
        text_columns=2,
    )


def _spreads(moves: "pd.DataFrame") -> Iterator[tuple[str, ...]]:
    made = moves[moves["outcome"] != "refused"]
    above = made["pause_ms"] - made["pause_asked_ms"]
    made = made.assign(pause_above_asked_ms=above)
    for title, (column, write) in _SPREAD_OF_MOVES.items():
        spread = Spread.of(made[column])
        if spread.max is not None:
            there = count(made[column].notna().sum())
            yield (title, there, write(spread.p50), write(spread.p99), write(spread.max))


def of_flows(result: Result) -> list[ReportTable]:
    """Return one table per move, one row per flow and run; the runs of one flow are neighbours."""
    by_move: dict[int, list[tuple[str, dict[Any, Any]]]] = {}
    for run_name, run in result.runs.items():
        for row in run.metrics.dropna(subset=["flow"]).to_dict("records"):
            by_move.setdefault(row["move"], []).append((run_name, row))
    return [_of_one_move(rows) for _, rows in sorted(by_move.items())]


def _of_one_move(rows: list[tuple[str, dict[Any, Any]]]) -> ReportTable:
    rows.sort(key=lambda item: (str(item[1]["correspondent_nve"]), item[1]["flow"]))
    return ReportTable(
        f"Move {move_title(rows[0][1])}: what happened to each flow "
        "(before, during, after: median delay)",
        ("NVE", "flow", "run", *_FLOW_COLUMNS),
        [_flow_cells(run_name, row) for run_name, row in rows],
        text_columns=3,
    )


def of_moves(result: Result) -> ReportTable:
    """Return one row per move and run."""
    rows = []
    for run_name, run in result.runs.items():
        for row in run.metrics.drop_duplicates("move").to_dict("records"):
            rows.append((row["move"], _move_cells(run_name, row)))
    rows.sort(key=lambda item: item[0])
    return ReportTable(
        "What each move took",
        ("move", "run", *_MOVE_COLUMNS),
        [cells for _, cells in rows],
        text_columns=2,
    )


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


def of_visits(result: Result) -> ReportTable:
    """What clients of a task noticed of its move, one row per run."""
    rows: list[tuple[str, ...]] = []
    for run_name, run in result.runs.items():
        found = visits.visit(run.events, run.rows("fetch"), run.rows("ask"))
        if found is None:
            continue
        did = found.asked_of_the_client(visits.protocol_of(run.scenario))
        numbers = (found.silence_ms, found.wait_ms)
        rows.append(
            (
                *(run_name or result.name, did, *map(milliseconds, numbers)),
                *(_megabytes(found.again), milliseconds(found.full_rate_ms)),
                *(count(found.connects), count(found.lookups)),
            )
        )
    headings = (
        *("run", "the client had to", "silence\nms", "answer\nms", "twice\nMB"),
        *("full rate\nafter ms", "recon-\nnects", "look-ups"),
    )
    title = (
        "What clients of the task noticed of its move "
        "(the longest silence of a download, the longest wait for an answer)"
    )
    return ReportTable(title, headings, rows, text_columns=2)


def of_connections(result: Result) -> ReportTable:
    """What became of a task's connections, one row per run and move of a task."""
    rows: list[tuple[str, ...]] = []
    for run_name, run in result.runs.items():
        if (table := run.connections) is None:
            continue
        for number, mine in table.groupby("move", sort=True):
            first = mine.iloc[0]
            move = f"{number}: {first['task']} {first['from_vm']}→{first['to_vm']}"
            kept = int((mine["fate"] == "migrated").sum())
            numbers = (first["freeze_ms"], mine["gap_ms"].max(), mine["ramp_up_ms"].max())
            rows.append(
                (
                    *(move, run_name or result.name, f"{kept} of {len(mine)}"),
                    *map(milliseconds, numbers),
                    count(mine["resets"].max()),
                )
            )
    headings = (
        *("move of a task", "run", "connections moved", "stood still\nms", "longest gap\nms"),
        *("full rate\nafter ms", "resets"),
    )
    return ReportTable("What became of a task's connections", headings, rows, text_columns=2)


def move_title(row: Mapping[Any, Any]) -> str:
    return f"{row['move']}: {row['vm']} {row['from_nve']}→{row['to_nve']}"


LEAST_WORDS = 8
"""A column of words is not made narrower than this, in characters, or than its heading."""


def drawn(tables: Iterable[ReportTable], room: int | None = None) -> "Group":
    """Return tables for the terminal, as something rich can print, at most `room` characters wide.

    If they do not fit, words are broken, in the widest column first; then columns of numbers are
    left out, from the right, and named below.  No number and no heading is ever cut.
    """
    from rich import box
    from rich.console import Group
    from rich.table import Table as RichTable
    from rich.text import Text

    shown: list[RichTable | Text] = []
    for table in tables:
        widths = fitted(table, room)
        grid = RichTable(
            title=table.title,
            title_justify="left",
            box=box.SIMPLE_HEAD,
            pad_edge=False,
            padding=0,  # the box has a space between columns; an 80-column screen holds all of it
        )
        for place, (heading, width) in enumerate(zip(table.headings, widths, strict=False)):
            words = place < table.text_columns
            justify: Literal["left", "right"] = "left" if words else "right"
            grid.add_column(
                heading, justify=justify, width=width, overflow="fold", no_wrap=not words
            )
        for row in table.rows:
            grid.add_row(
                *(_breakable(cell, width) for cell, width in zip(row, widths, strict=False))
            )
        shown.append(grid)
        if left_out := table.headings[len(widths) :]:
            names = ", ".join(heading.replace("-\n", "").replace("\n", " ") for heading in left_out)
            shown.append(Text(f"no room for: {names}"))
    return Group(*shown)


def fitted(table: ReportTable, room: int | None) -> list[int]:
    """Return the widths of a table's columns; fewer than it has, if there is no room for all."""
    cells = [*zip(*table.rows, strict=True)] or [()] * len(table.headings)
    heads = [max(map(len, heading.split("\n"))) for heading in table.headings]
    widths = [max([head, *map(len, column)]) for head, column in zip(heads, cells, strict=True)]
    if room is None:
        return widths
    words = range(table.text_columns)
    least = [min(widths[place], max(heads[place], LEAST_WORDS)) for place in words]
    while _total(widths) > room:
        widest = max(words, key=lambda place: widths[place] - least[place], default=None)
        if widest is not None and widths[widest] > least[widest]:
            widths[widest] -= 1
        elif len(widths) > table.text_columns:
            del widths[-1]
        else:
            break
    return widths


def _total(widths: list[int]) -> int:
    """Return the total width, with the spaces between columns and at both ends."""
    return sum(widths) + len(widths) + 1


def _breakable(cell: str, width: int) -> str:
    """Return a cell with breaks; names are broken after a mark that is near the end of a line."""
    lines = []
    while len(cell) > width:
        marks = [place for place in range(width // 2, width) if cell[place] in " -/>→:,"]
        end = marks[-1] + 1 if marks else width
        lines.append(cell[:end].rstrip())
        cell = cell[end:].lstrip()
    return "\n".join([*lines, cell])


def _flow_cells(run_name: str, row: Mapping[Any, Any]) -> tuple[str, ...]:
    words = (row["correspondent_nve"] or MISSING, row["flow"], run_name)
    return (*words, *_cells(row, _FLOW_COLUMNS))


def _move_cells(run_name: str, row: Mapping[Any, Any]) -> tuple[str, ...]:
    return (_move_words(row), run_name, *_cells(row, _MOVE_COLUMNS))


def _move_words(row: Mapping[Any, Any]) -> str:
    ending = "" if row["outcome"] == "completed" else f" ({row['outcome']})"
    return move_title(row) + ending


def _cells(row: Mapping[Any, Any], columns: Mapping[str, tuple[str, Any]]) -> tuple[str, ...]:
    return tuple(write(row[column]) for column, write in columns.values())
