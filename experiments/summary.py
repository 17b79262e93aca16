"""A result as tables: what each flow felt of each move, run beside run, and what the moves took.

All cells are text, so that the terminal and the report show the same.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from experiments.record import Result
from experiments.wording import MISSING, count, milliseconds

if TYPE_CHECKING:
    from rich.console import Group


@dataclass(frozen=True)
class Table:
    """A title, headings and rows of text; every row is as long as the headings."""

    title: str
    headings: tuple[str, ...]
    rows: list[tuple[str, ...]]
    text_columns: int
    """How many columns from the left are words; the others are numbers."""


_FLOW_COLUMNS = {
    "lost": ("lost", count),
    "blackout\nms": ("blackout_ms", milliseconds),
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


def of_flows(result: Result) -> list[Table]:
    """One table per move, one row per flow and run; the runs of one flow are neighbours."""
    by_move: dict[int, list[tuple[str, dict[Any, Any]]]] = {}
    for run_name, run in result.runs.items():
        for row in run.metrics.to_dict("records"):
            by_move.setdefault(row["move"], []).append((run_name, row))
    return [_of_one_move(rows) for _, rows in sorted(by_move.items())]


def _of_one_move(rows: list[tuple[str, dict[Any, Any]]]) -> Table:
    rows.sort(key=lambda item: (str(item[1]["correspondent_nve"]), item[1]["flow"]))
    return Table(
        f"Move {move_title(rows[0][1])}: what each flow felt (before, during, after: median delay)",
        ("NVE", "flow", "run", *_FLOW_COLUMNS),
        [_flow_cells(run_name, row) for run_name, row in rows],
        text_columns=3,
    )


def of_moves(result: Result) -> Table:
    """One row per move and run."""
    rows = []
    for run_name, run in result.runs.items():
        for row in run.metrics.drop_duplicates("move").to_dict("records"):
            rows.append((row["move"], _move_cells(run_name, row)))
    rows.sort(key=lambda item: item[0])
    return Table(
        "What each move took",
        ("move", "run", *_MOVE_COLUMNS),
        [cells for _, cells in rows],
        text_columns=2,
    )


def move_title(row: Mapping[Any, Any]) -> str:
    return f"{row['move']}: {row['vm']} {row['from_nve']}→{row['to_nve']}"


def moves_table(result: Result) -> "Group":
    """All tables for the terminal, as something rich can print."""
    from rich import box
    from rich.console import Group
    from rich.table import Table as RichTable

    shown = []
    for table in (*of_flows(result), of_moves(result)):
        drawn = RichTable(
            title=table.title,
            title_justify="left",
            box=box.SIMPLE_HEAD,
            pad_edge=False,
            padding=0,  # the box has a space between columns; an 80-column screen holds all of it
        )
        for place, heading in enumerate(table.headings):
            words = place < table.text_columns
            drawn.add_column(heading, justify="left" if words else "right", no_wrap=True)
        for row in table.rows:
            drawn.add_row(*row)
        shown.append(drawn)
    return Group(*shown)


def _flow_cells(run_name: str, row: Mapping[Any, Any]) -> tuple[str, ...]:
    words = (row["correspondent_nve"] or MISSING, row["flow"], run_name)
    return (*words, *(write(row[column]) for column, write in _FLOW_COLUMNS.values()))


def _move_cells(run_name: str, row: Mapping[Any, Any]) -> tuple[str, ...]:
    ending = "" if row["outcome"] == "completed" else f" ({row['outcome']})"
    words = (move_title(row) + ending, run_name)
    return (*words, *(write(row[column]) for column, write in _MOVE_COLUMNS.values()))
