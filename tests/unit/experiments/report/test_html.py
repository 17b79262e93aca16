"""report.html stands alone and says what the numbers say."""

import base64
import json
import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pytest

from experiments.measure.results import load
from experiments.report import interactive, plots, summary
from experiments.report.html import write_report
from tests.helpers import kinds_of_results, synthetic

EMPTY_ELEMENTS = {"meta", "img", "link", "br", "source"}


class Page(HTMLParser):
    """What the page refers to, and whether its elements are closed."""

    def __init__(self) -> None:
        super().__init__()
        self.references: list[str] = []
        self.links: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag, attributes):
        found = [value for name, value in attributes if name in ("src", "href", "data", "srcset")]
        (self.links if tag == "a" else self.references).extend(found)
        if tag not in EMPTY_ELEMENTS:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture
def result(drawn_result, tmp_path, monkeypatch):
    """To be changed; laying out the figures for a phone takes long."""
    monkeypatch.setattr(plots, "as_svg", lambda *_: b"<svg/>")
    return shutil.copytree(drawn_result, tmp_path / "result")


@pytest.fixture
def text(drawn_result) -> str:
    return (drawn_result / "report.html").read_text()


def test_nothing_is_fetched_from_anywhere(text):
    page = Page()
    page.feed(text)
    assert page.open == []
    assert len(page.references) >= 5
    assert all(reference.startswith("data:") for reference in page.references)
    assert not re.search(r"url\(|@import|<script src|fetch\(|XMLHttpRequest", text)


def test_each_figure_has_its_question_its_answer_and_a_link(text, drawn_result):
    page = Page()
    page.feed(text)
    drawn = plots.suiting(load(drawn_result))
    assert page.links == [f"plots/{name}.svg" for name in drawn]
    for name in drawn:
        assert plots.get(name).QUESTION in text
    assert all((drawn_result / link).exists() for link in page.links)


def test_sentences_and_one_table_come_first(text):
    head = text[text.index("<h1>") : text.index("<figure>")]
    assert "2 runs. 4 moves. Of " in head
    assert head.count("<table") == 1
    folded = text[text.index("Caveats, method and all numbers") :]
    assert folded.count("<table") == text.count("<table") - 1


def test_the_time_line_has_every_flow_and_event_and_the_licence_of_its_library(text):
    data = re.search(r'id="timeline-data">(.*?)</script>', text)
    assert data
    drop, _ = json.loads(data.group(1))
    assert [flow["name"] for flow in drop["flows"]] == sorted(synthetic.TO_VM1)
    first = drop["flows"][0]
    delays = np.frombuffer(base64.b64decode(first["delay"]), dtype="<f4")
    lost = np.frombuffer(base64.b64decode(first["lost_at"]), dtype="<f4")
    assert len(delays) + len(lost) == first["sent"]
    assert len(lost) == first["lost"]
    assert "vm-paused vm1" in {name for _, name, _ in drop["events"]}
    assert "The MIT License" in text


def test_it_shows_tables_time_lines_and_notes(text):
    for expected in (
        "what happened to each flow",
        "What each move took",
        "tunnel, move 2: vm1 nve2→nve1",
        "it does not run from now on",
        "receivers dropped 0 packets themselves",
    ):
        assert expected in text


def test_what_is_not_valid_is_said_and_text_from_a_scenario_is_not_markup(text, result):
    assert "This result is not valid" not in text
    manifest = result / "drop" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"valid": true', '"valid": false'))
    scenario = result / "scenario.yaml"
    scenario.write_text(scenario.read_text().replace("Made-up", "<b>Made-up"))
    page = write_report(result).read_text()
    assert "This result is not valid" in page
    assert "&lt;b&gt;Made-up" in page


@pytest.mark.thorough
def test_figures_that_are_missing_are_drawn(result):
    missing = result / "plots" / "data_centre.svg"
    missing.unlink()
    write_report(result)
    assert missing.exists()


@pytest.mark.parametrize("kind", ["without_packets", "without_moves", "only_refused"])
def test_a_result_that_lacks_something_has_a_sentence_and_a_page(kind, tmp_path):
    kinds_of_results.RESULTS[kind](tmp_path / "r")
    result = load(tmp_path / "r")
    assert summary.in_words(result).endswith(".")
    assert bool(interactive.time_line(result)) == (kind != "without_packets")
    assert summary.table(result).rows


def test_a_page_without_packets_has_no_time_line(tmp_path, monkeypatch):
    monkeypatch.setattr(plots, "as_svg", lambda *_: b"<svg/>")
    kinds_of_results.without_packets(tmp_path / "r")
    text = write_report(tmp_path / "r").read_text()
    assert "timeline-data" not in text
    assert "uPlot" not in text
    assert "<script>\n// A figure at its full size" in text


def test_a_page_about_a_task_says_how_often_it_moved(tmp_path):
    kinds_of_results.with_task_moves(tmp_path / "r")
    told = summary.in_words(load(tmp_path / "r"))
    assert told.startswith("2 moves of tasks. 2 of 2 connections moved.")
    assert told.endswith("1 move did not complete.")


def test_failures_and_moves_of_tasks_are_listed_with_their_events(tmp_path, monkeypatch, text):
    monkeypatch.setattr(plots, "as_svg", lambda *_: b"<svg/>")
    monkeypatch.setattr(plots, "draw", lambda _result, _plot, _preset, files: _empty(files))
    kinds_of_results.not_completed(tmp_path / "failed")
    failed = write_report(tmp_path / "failed").read_text()
    listed = failed[failed.index("failures and what came of them") :]
    assert "ms after the traffic began" in listed
    assert "failure-injected" in listed
    assert "failures and what came of them" not in text
    kinds_of_results.with_task_moves(tmp_path / "tasks")
    tasks = write_report(tmp_path / "tasks").read_text()
    assert "move 1 of a task: web vm1→vm2" in tasks
    assert "Task web moved from vm1 to vm2 and stood still for 8.00 ms. 2 of 2 connec" in tasks
    assert "The move of task web from vm2 to vm1 is undone." in tasks


def _empty(files):
    for file in files:
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(b"<svg/>")
