"""The available topologies, found by looking into this folder.

A topology is a module that has `SAYS` (a sentence), `Parameters` (what a scenario may set) and
`build` (parameters -> fabric).  Its kind is the file's name with dashes: `leaf_spine.py` is
`leaf-spine`.  A new topology is one new file; nothing has to be registered.
"""

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from topologies.spec import Fabric, UnderlayParameters


@dataclass(frozen=True)
class Topology:
    kind: str
    says: str
    parameters: type[UnderlayParameters]
    build: Callable[[Any], Fabric]


def names() -> tuple[str, ...]:
    """Return the kinds of topology, in alphabetical order."""
    return tuple(sorted(_catalogue()))


def get(kind: str) -> Topology:
    """Return the topology of that kind.  Raises ValueError if there is none."""
    try:
        return _catalogue()[kind]
    except KeyError:
        raise ValueError(f"there is no topology {kind!r}; there are {', '.join(names())}") from None


@cache
def _catalogue() -> dict[str, Topology]:
    found = {}
    for entry in pkgutil.iter_modules([str(Path(__file__).parent)]):
        if not _defines_a_topology(Path(__file__).with_name(f"{entry.name}.py")):
            continue
        module = importlib.import_module(f"topologies.{entry.name}")
        kind = entry.name.replace("_", "-")
        found[kind] = Topology(kind, module.SAYS, module.Parameters, module.build)
    return found


def _defines_a_topology(file: Path) -> bool:
    """Return whether a file defines a topology, judged by its text.

    Importing it would import the adapters (and Mininet).
    """
    return file.is_file() and "\nSAYS = " in file.read_text(encoding="utf-8")
