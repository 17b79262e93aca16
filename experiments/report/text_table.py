"""A table of text, and how it is fitted into a terminal.

All cells are text, so that the terminal and the report show the same.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from rich.console import Group


@dataclass(frozen=True)
class ReportTable:
    """A title, headings and rows of text; every row is as long as the headings."""

    title: str
    headings: tuple[str, ...]
    rows: list[tuple[str, ...]]
    text_columns: int
    """How many columns from the left are words; the others are numbers."""


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
