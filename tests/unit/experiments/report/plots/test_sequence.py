"""Who told whom: the rows of a sequence, and which are left out if there is no room for all."""

from dataclasses import replace

from experiments.measure.results import load
from experiments.report import plots, summary
from experiments.report.plots import _sequence, sequence, task_sequence
from experiments.report.plots._sequence import Message
from experiments.report.plots._style import PRESETS
from tests.helpers import kinds_of_results

COLUMN = PRESETS["column"]


def test_a_sequence_has_no_nva_where_none_took_part(tmp_path):
    kinds_of_results.without_an_nva(tmp_path / "r")
    _, move = sequence.chosen(load(tmp_path / "r"))
    rows = list(sequence.messages(move))
    assert "NVA" not in {name for row in rows for name in row.ends}
    words = [row.words for row in rows]
    assert "entry learnt from traffic" in words
    assert "parts of pause" not in words


def test_a_task_move_is_told_by_its_two_processes(tmp_path):
    kinds_of_results.with_task_moves(tmp_path / "r")
    result = load(tmp_path / "r")
    _, move = task_sequence.chosen(result)
    rows = list(task_sequence.messages(move))
    assert [row.words for row in rows if row.senders == ("source",)] == [
        "connects to a process that waits",
        "packages 2 connections, 653,473 octets",
        "the package",
    ]
    claims = [row.words for row in rows if row.receivers == ("network",)]
    assert claims == ["192.168.9.50 is here", "fd77::9:50 is here"]
    assert "the task stood still for 8.0 ms" in task_sequence.caption(result)
    told = plots.get("task_pauses").caption(result)
    assert "stood still for 8.00 ms. It took 2 connections along; none was reset." in told
    assert "1 of them not within 5 s" in told
    assert "2 of 2 connections moved." in summary.in_words(result)
    assert summary.table(result).rows == [
        ("1: web vm1→vm2", result.name, "2 of 2", "8.00", "9.00", "0")
    ]
    assert not sequence.suits(result)


def row_of(words: str, *ends: str, dispensable: int = 0) -> Message:
    return Message(1.0, ends[:1], ends[1:] or ends, words, dispensable)


def test_the_rows_that_say_least_are_left_out_first():
    rows = [row_of(f"{n}", "a", "b", dispensable=n % 3) for n in range(30)]
    shown = _sequence.fitting(rows, PRESETS["slide"])
    assert len(shown) < len(rows)
    assert {row.words for row in rows if row.dispensable == 0} <= {row.words for row in shown}
    assert 2 not in {row.dispensable for row in shown}
    assert _sequence.fitting(rows[:5], PRESETS["slide"]) == rows[:5]
    vital = [replace(row, dispensable=0) for row in rows]
    shown = _sequence.fitting(vital, PRESETS["slide"])
    assert shown == vital[: len(shown)]


def test_words_that_are_wider_than_their_arrow_are_broken():
    lines = {name: float(place) for place, name in enumerate("abcdef")}

    def wrapped(row):
        return _sequence._wrapped(row, lines, COLUMN)

    assert wrapped(row_of("redirects to nve2", "a", "b")) == "redirects\nto nve2"
    assert wrapped(row_of("redirects to nve2", "a", "e")) == "redirects to nve2"
    assert wrapped(row_of("converged", "a")) == "converged"
