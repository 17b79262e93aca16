"""Tables of moves: what each did to each flow, with runs side by side, and what it took.

For many moves there is one line per flow over all packets of the run, the spread of what the moves
took, and the moves that did most damage.
"""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from experiments.measure import totals
from experiments.measure.results import Result
from experiments.measure.totals import Spread
from experiments.report.format import MISSING, count, milliseconds
from experiments.report.text_table import ReportTable

if TYPE_CHECKING:
    import pandas as pd

WORST_MOVES = 5

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


def move_title(row: Mapping[Any, Any]) -> str:
    return f"{row['move']}: {row['vm']} {row['from_nve']}→{row['to_nve']}"


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
