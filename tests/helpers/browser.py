"""A report's page as a browser shows it: headless Chromium, driven by Playwright.

`page_faults` returns what is wrong with a page at a width, light or dark; `print_pdf` prints it.
To look at reports, `python -m tests.helpers.browser OUT RESULT…` draws each report anew into a copy
of its result below OUT, takes a picture of it at each width, light and dark, prints it, and reports
what is wrong; `make test-report` does so with the sample.
"""

import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.report.html import write_report

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

WIDTHS_PX = (400, 800, 1200, 1920)
LOOKS = ("light", "dark")
PROGRAM = "chromium"
"""Debian's package and its program."""

_WIDER = """() => {
  const width = document.documentElement.clientWidth;
  const scrolls = (element) => {
    for (let each = element.parentElement; each; each = each.parentElement)
      if (["auto", "scroll", "hidden", "clip"].includes(getComputedStyle(each).overflowX))
        return each.getBoundingClientRect().right <= width + 0.5;
    return false;
  };
  const named = (element) => element.tagName.toLowerCase() + (element.id ? "#" + element.id : "");
  const wider = [...document.body.querySelectorAll("*")]
    .filter((each) => each.getBoundingClientRect().right > width + 0.5 && !scrolls(each));
  if (document.documentElement.scrollWidth > width) wider.push(document.documentElement);
  return [...new Set(wider.map(named))];
}"""
"""Returns the elements that reach beyond the page, except inside scrollable ones."""
_NOT_LOADED = """() => [...document.images]
  .filter((each) => !each.complete || !each.naturalWidth).map((each) => each.alt)"""
_TOO_FAINT = """() => {
  const light = (words) => {
    const [red, green, blue] = words.match(/[\\d.]+/g).map((part) => {
      const share = part / 255;
      return share <= 0.03928 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };
  const behind = (element) => {
    for (let each = element; each; each = each.parentElement) {
      const colour = getComputedStyle(each).backgroundColor;
      if (colour !== "rgba(0, 0, 0, 0)") return light(colour);
    }
    return 1;
  };
  const faults = [];
  const written = "h1,h2,p,td,th,li,summary,figcaption,a,pre,button";
  for (const each of document.body.querySelectorAll(written)) {
    if (!each.textContent.trim() || !each.offsetParent) continue;
    const [one, other] = [light(getComputedStyle(each).color), behind(each)].sort((a, b) => b - a);
    if ((one + 0.05) / (other + 0.05) < 4.5) faults.push(each.textContent.trim().slice(0, 40));
  }
  return faults;
}"""
"""Returns texts whose contrast is below that of WCAG 2.1, 1.4.3."""


def why_not() -> str | None:
    """Return why no browser can be driven here, or None if one can."""
    try:
        import playwright.sync_api  # noqa: F401
    except ImportError:
        return "no Playwright: `make test-report` installs it"
    if shutil.which(PROGRAM) is None:
        return f"no {PROGRAM}: `make test-report` installs it"
    return None


@contextmanager
def browser() -> "Iterator[Browser]":
    """Start Debian's Chromium, without its sandbox, which root cannot have: it opens local pages
    only.
    """
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        started = driver.chromium.launch(
            executable_path=shutil.which(PROGRAM), args=["--no-sandbox"]
        )
        try:
            yield started
        finally:
            started.close()


@contextmanager
def opened(started: "Browser", file: Path) -> "Iterator[tuple[Page, list[str]]]":
    """Open the page as a reader does; also yield a list of the browser's complaints, as they
    come.
    """
    complaints: list[str] = []
    page = started.new_page()
    try:
        page.on("console", lambda told: complaints.append(f"{told.type}: {told.text}"))
        page.on("pageerror", lambda error: complaints.append(f"error: {error}"))
        page.on("requestfailed", lambda request: complaints.append(f"not found: {request.url}"))
        page.goto(file.resolve().as_uri())
        yield page, complaints
    finally:
        page.close()


def show(page: "Page", width_px: int, look: str) -> None:
    """Show the page in a window of this width, light or dark; return once it has been drawn."""
    page.emulate_media(color_scheme="dark" if look == "dark" else "light")
    page.set_viewport_size({"width": width_px, "height": 900})
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => setTimeout(done)))")


def page_faults(
    started: "Browser",
    file: Path,
    widths_px: Sequence[int] = WIDTHS_PX,
    looks: Sequence[str] = LOOKS,
) -> list[str]:
    """Return what is wrong with the page, all of it unfolded, at each width, light and dark."""
    with opened(started, file) as (page, complaints):
        page.evaluate("document.querySelectorAll('details').forEach((each) => each.open = true)")
        found = [f"the figure {name!r} is not loaded" for name in page.evaluate(_NOT_LOADED)]
        for width_px, look in product(widths_px, looks):
            show(page, width_px, look)
            at = f"{width_px} pixels, {look}:"
            found += [f"{at} {name} is wider than the page" for name in page.evaluate(_WIDER)]
            found += [
                f"{at} {text!r} has too little contrast" for text in page.evaluate(_TOO_FAINT)
            ]
        return [*found, *complaints]


def print_pdf(started: "Browser", file: Path) -> bytes:
    """Return the page as it is printed on A4."""
    margin = dict.fromkeys(("top", "bottom", "left", "right"), "15mm")
    with opened(started, file) as (page, _):
        return page.pdf(format="A4", margin=margin)


def look_at(out: Path, results: Sequence[Path]) -> Iterator[str]:
    """Make pictures and a print of each result's report, drawn anew; yield what is wrong with
    them.
    """
    with browser() as started:
        for result in results:
            blank = shutil.ignore_patterns("plots", "report.html")
            copy = shutil.copytree(result, out / result.name, ignore=blank, dirs_exist_ok=True)
            shutil.rmtree(copy / "plots", ignore_errors=True)
            report = write_report(copy)
            for fault in page_faults(started, report):
                yield f"{result.name}: {fault}"
            with opened(started, report) as (page, _):
                for width_px, look in product(WIDTHS_PX, LOOKS):
                    show(page, width_px, look)
                    page.screenshot(path=copy / f"{width_px}-{look}.png", full_page=True)
            (copy / "report.pdf").write_bytes(print_pdf(started, report))


def main(out: str, *results: str) -> int:
    if (reason := why_not()) is not None:
        print(reason, file=sys.stderr)
        return 1
    found = list(look_at(Path(out), [Path(each) for each in results]))
    print("\n".join(found) or f"No fault; pictures and prints are below {out}.")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
