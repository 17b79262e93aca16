"""The project's own modules as texts and as trees, for tests that read them."""

import ast
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("nve", "topologies", "controller", "experiments")

READS_SOURCES = pytest.mark.xdist_group("sources")
"""The mark of such tests: in one process, each module is parsed only once."""


@lru_cache(None)
def parsed(source: str) -> ast.Module:
    """Return the tree of a source; do not change it, as all tests share it."""
    return ast.parse(source)


@lru_cache(None)
def read_packages() -> Mapping[str, str]:
    """Return dotted name and source text of every module of the project."""
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): (
            path.read_text(encoding="utf-8")
        )
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
    }


def imports(module: str, source: str, known: frozenset[str]) -> Iterator[str]:
    """Yield the modules that a module imports, anywhere in its text, types only or not."""
    for node in ast.walk(parsed(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            origin = absolute(module, node.level, node.module)
            for alias in node.names:
                # `from nve import model` names a module, `from nve.model import Mac` a value
                part = f"{origin}.{alias.name}"
                yield part if part in known else origin


def absolute(module: str, level: int, name: str | None) -> str:
    """Return what `from ..name import` means inside `module` (a plain module, not a package)."""
    here = module.split(".")[:-level] if level else []
    return ".".join([*here, *([name] if name else [])])


def is_within(module: str, home: str) -> bool:
    """Return whether a module is `home` or inside it; `room.*` is everything in a room but
    itself.
    """
    if home.endswith(".*"):
        return module.startswith(home[:-1])
    return module == home or module.startswith(f"{home}.")
