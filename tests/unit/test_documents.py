"""Generated pages of the documentation say what the code says."""

import importlib.util
import re
import subprocess
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


def _generator() -> ModuleType:
    found = importlib.util.spec_from_file_location("generate", DOCS / "generate.py")
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


GENERATOR = _generator()
PAGES = GENERATOR.pages()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_generated_page_is_current(page: Path) -> None:
    current = page.read_text(encoding="utf-8") if page.exists() else None

    assert current == PAGES[page], (
        f"{page.relative_to(DOCS.parent)} is not what the code says; run: {GENERATOR.COMMAND}"
    )


def test_the_diagram_is_drawn() -> None:
    (text,) = (text for page, text in PAGES.items() if page.name == "mobility.md")

    assert "```mermaid\nstateDiagram-v2\n" in text


_TRACKED = frozenset(
    subprocess.run(
        ["git", "-C", str(ROOT), "ls-files"], capture_output=True, text=True, check=True
    ).stdout.split()
)
_FILE_NAME = re.compile(
    r"`((?:nve|controller|experiments|topologies|tests|benchmarks|docs)/[\w./-]+\.\w+)`"
)
_AN_EXAMPLE = {"topologies/ring_of_sites.py", "experiments/workloads/tcp_bulk.py"}


def test_files_that_are_named_exist() -> None:
    pages = (name for name in _TRACKED if name.endswith((".md", ".py")) and name != "CHANGELOG.md")
    named = {
        (page, name)
        for page in pages
        for name in _FILE_NAME.findall((ROOT / page).read_text(encoding="utf-8"))
    }

    assert len(named) > 50
    assert {(page, name) for page, name in named if name not in _TRACKED | _AN_EXAMPLE} == set()


def test_a_decision_has_a_number_of_its_own() -> None:
    decisions = sorted((DOCS / "decisions").glob("*.md"))
    numbers = [path.name[:4] for path in decisions]

    assert numbers == [f"{number:04}" for number in range(1, len(decisions) + 1)]
    for path in decisions:
        heading, *_ = path.read_text(encoding="utf-8").split("\n")
        assert heading.startswith(f"# {path.name[:4]} "), path.name
