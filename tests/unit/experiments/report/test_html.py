"""report.html stands alone and says what the numbers say."""

import re
import shutil
from html.parser import HTMLParser

import pytest

from experiments.report.html import write_report

EMPTY_ELEMENTS = {"meta", "img", "link", "br"}


class Page(HTMLParser):
    """What the page refers to, and whether its elements are closed."""

    def __init__(self) -> None:
        super().__init__()
        self.references: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag, attributes):
        self.references += [
            value for name, value in attributes if name in ("src", "href", "data", "srcset")
        ]
        if tag not in EMPTY_ELEMENTS:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture
def result(drawn_result, tmp_path):
    return shutil.copytree(drawn_result, tmp_path / "result")


@pytest.fixture
def text(result) -> str:
    return write_report(result).read_text()


def test_nothing_is_fetched_from_anywhere(text):
    page = Page()
    page.feed(text)
    assert page.open == []
    assert len(page.references) >= 5
    assert all(reference.startswith("data:image/svg+xml;base64,") for reference in page.references)
    assert not re.search(r"url\(|@import|<script", text)


def test_it_shows_tables_time_lines_and_notes(text):
    for expected in (
        "what each flow felt",
        "What each move took",
        "tunnel, move 2: vm1 nve2→nve1",
        "guest blackout begins",
        "receivers dropped 0 packets themselves",
    ):
        assert expected in text


def test_a_result_that_is_not_valid_says_so(text, result):
    assert "This result is not valid" not in text
    manifest = result / "drop" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"valid": true', '"valid": false'))
    assert "This result is not valid" in write_report(result).read_text()


def test_text_from_a_scenario_is_not_markup(result):
    scenario = result / "scenario.yaml"
    scenario.write_text(scenario.read_text().replace("Made-up", "<b>Made-up"))
    assert "&lt;b&gt;Made-up" in write_report(result).read_text()


def test_plots_that_are_missing_are_drawn(result):
    missing = result / "plots" / "tcp_throughput.svg"
    missing.unlink()
    write_report(result)
    assert missing.exists()
