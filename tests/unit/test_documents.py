"""Generated pages of the documentation say what the code says."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

DOCS = Path(__file__).parents[2] / "docs"


def _generator() -> ModuleType:
    found = importlib.util.spec_from_file_location("generate", DOCS / "generate.py")
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


GENERATOR = _generator()


@pytest.mark.parametrize("page", GENERATOR.pages(), ids=lambda page: page.name)
def test_a_generated_page_is_current(page: Path) -> None:
    current = page.read_text(encoding="utf-8") if page.exists() else None

    assert current == GENERATOR.pages()[page], (
        f"{page.relative_to(DOCS.parent)} is not what the code says; run: {GENERATOR.COMMAND}"
    )


def test_the_diagram_is_drawn() -> None:
    (text,) = (text for page, text in GENERATOR.pages().items() if page.name == "mobility.md")

    assert "```mermaid\nstateDiagram-v2\n" in text
