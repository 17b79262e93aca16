"""The project's own modules as texts and as trees, for tests that read them."""

import ast
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

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
def nodes(source: str) -> Mapping[type[ast.AST], Sequence[Any]]:
    """Return the nodes of a source's tree by their class, each class in the order of `ast.walk`.

    Many tests look through all sources for a few kinds of nodes: the trees are walked once.
    """
    found: dict[type[ast.AST], list[Any]] = defaultdict(list)
    for node in ast.walk(parsed(source)):
        found[type(node)].append(node)
    return found


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
    for node in nodes(source)[ast.Import]:
        yield from (alias.name for alias in node.names)
    for node in nodes(source)[ast.ImportFrom]:
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
