"""report.html in headless Chromium; skipped where it is not (`make test-report` installs it)."""

import pytest

from tests.helpers import browser

pytestmark = pytest.mark.skipif(browser.why_not() is not None, reason=browser.why_not() or "")

FAULTS = {
    # what is on a page: what has to be said of it
    "<div style='width: 5000px'>x</div>": "400 pixels, dark: div is wider than the page",
    f"<p style='white-space: nowrap'>{'x ' * 999}</p>": "400 pixels, dark: html is wider",
    "<img alt=gone src='data:image/png;base64,xx'>": "the figure 'gone' is not loaded",
    "<p style='color: #ccc; background: #fff'>faint</p>": "'faint' has too little contrast",
    "<script>console.warn('odd')</script>": "warning: odd",
    "<script>nothing.at.all</script>": "error: nothing is not defined",
    "<img src=missing.png alt=m>": "not found: ",
}


@pytest.fixture(scope="module")
def chromium():
    with browser.browser() as started:
        yield started


@pytest.fixture(scope="module")
def report(drawn_result):
    return drawn_result / "report.html"


def test_the_page_is_without_fault_at_every_width_light_and_dark(chromium, report):
    assert browser.page_faults(chromium, report) == []


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
        assert page.locator("figure img").first.is_visible()
        assert complaints == []
        assert page.pdf().startswith(b"%PDF")


def test_each_fault_is_seen(chromium, tmp_path):
    page = tmp_path / "page.html"
    begins = "<!doctype html><title>x</title><link rel=icon href='data:,'><body>"
    page.write_text(begins + "<p>nothing</p>")
    assert browser.page_faults(chromium, page, [400], ["dark"]) == []
    page.write_text(begins + "".join(FAULTS))
    found = browser.page_faults(chromium, page, [400], ["dark"])
    assert [fault for fault in FAULTS.values() if not any(fault in each for each in found)] == []
