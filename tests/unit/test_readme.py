"""The README keeps its word: what it names is there.  (Requirements: `test_conformance.py`.)"""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

TOP_LEVEL = (
    *("topologies", "controller", "nve", "experiments", "results", "tests"),
    *("Vagrantfile", "README.md"),
)

LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.shows("T7")
def test_the_top_level_is_as_asked_for() -> None:
    assert [name for name in TOP_LEVEL if not (ROOT / name).exists()] == []


def test_a_newcomer_reads_the_readme_in_one_sitting() -> None:
    words = (ROOT / "README.md").read_text(encoding="utf-8").split()

    assert len(words) <= 900


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    targets = LINK.findall(page.read_text(encoding="utf-8"))

    assert [target for target in targets if not (page.parent / target).exists()] == []
