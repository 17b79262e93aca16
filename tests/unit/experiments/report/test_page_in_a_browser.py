"""report.html in headless Chromium; skipped where it is not (`make test-report` installs it)."""

import pytest

from experiments.report.html import write_report
from tests.helpers import browser, kinds_of_results

pytestmark = [
    pytest.mark.thorough,
    pytest.mark.skipif(browser.why_not() is not None, reason=browser.why_not() or ""),
]


@pytest.fixture(scope="module")
def chromium():
    with browser.browser() as started:
        yield started


@pytest.fixture(scope="module")
def report(drawn_result):
    return drawn_result / "report.html"


def test_the_page_is_without_fault_at_every_width_light_and_dark(chromium, report):
    assert browser.page_faults(chromium, report) == []


def test_a_page_without_packets_is_without_fault(chromium, tmp_path):
    kinds_of_results.with_task_moves(tmp_path / "r")
    assert browser.page_faults(chromium, write_report(tmp_path / "r")) == []


def test_it_answers_a_pointer_and_is_printed_without_what_only_a_screen_has(chromium, report):
    with browser.opened(chromium, report) as (page, complaints):
        browser.show(page, 1200, "light")
        place = page.locator("#timeline-chart .u-over")
        place.scroll_into_view_if_needed()
        box = place.bounding_box()
        assert box
        said = set()
        for part in range(1, 30):
            page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] * part / 30)
            said.add(page.locator("#timeline-said").inner_text())
        assert any("sent at" in words and "arrived after" in words for words in said)
        page.locator("#timeline button[data-does=in]").click()
        page.locator("#timeline-run").select_option(index=1)
        page.emulate_media(media="print")
        assert not page.locator("#timeline").is_visible()
        assert not page.locator("#look-closer").is_visible()
        assert page.locator("#caveats li").first.is_visible()
        assert page.locator("figure img").first.is_visible()
        assert complaints == []
        assert page.pdf().startswith(b"%PDF")
