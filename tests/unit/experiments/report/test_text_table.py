"""A table is fitted into a terminal: words are broken, numbers are whole or left out."""

import io

import pytest
from rich.console import Console

from experiments.report import text_table

WIDE = text_table.ReportTable(
    "A table",
    ("flow", "run", "lost", "blackout\nms", "via source\nlater"),
    [("vm2>vm1/ipv4", "a-name-of-a-variant-that-is-long", "1,234", "1,871", "0")],
    text_columns=2,
)


@pytest.mark.parametrize(
    ("room", "widths"),
    [
        (None, [12, 32, 5, 8, 10]),
        (80, [12, 32, 5, 8, 10]),
        (73, [12, 32, 5, 8, 10]),
        (60, [12, 19, 5, 8, 10]),
        (45, [8, 8, 5, 8, 10]),
        (44, [8, 8, 5, 8]),
        (26, [8, 8, 5]),
        (10, [8, 8]),
    ],
)
def test_words_are_broken_before_numbers_are_left_out(room, widths):
    assert text_table.fitted(WIDE, room) == widths


def test_what_is_left_out_is_named_and_nothing_is_cut():
    console = Console(width=30, record=True, file=io.StringIO())
    console.print(text_table.drawn([WIDE], 30))
    shown = console.export_text()
    assert "no room for: blackout ms, via" in shown
    assert "1,234" in shown
    assert "…" not in shown
    words = "".join(line[10:18].strip() for line in shown.splitlines()[4:-3])
    assert words == "a-name-of-a-variant-that-is-long"
