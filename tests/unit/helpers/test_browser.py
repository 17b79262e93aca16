"""The checks of a page see each fault; skipped where Chromium is not."""

import pytest

from tests.helpers import browser

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


@pytest.mark.thorough
@pytest.mark.skipif(browser.why_not() is not None, reason=browser.why_not() or "")
def test_each_fault_is_seen(tmp_path):
    page = tmp_path / "page.html"
    begins = "<!doctype html><title>x</title><link rel=icon href='data:,'><body>"
    page.write_text(begins + "<p>nothing</p>")
    with browser.browser() as started:
        assert browser.page_faults(started, page, [400], ["dark"]) == []
        page.write_text(begins + "".join(FAULTS))
        found = browser.page_faults(started, page, [400], ["dark"])
    assert [fault for fault in FAULTS.values() if not any(fault in each for each in found)] == []
