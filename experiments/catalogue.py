"""Catalogues of plug-ins: each is one file in a folder, and is found by scanning that.

The kind `tcp-bulk` is the file `tcp_bulk.py`.  Files whose name begins with an underscore, and
folders, hold what such a file needs besides; in a catalogue of folders, a folder may be a kind,
too. A file is imported when its kind is first asked for, so that it must be quick to import: slow
libraries (pandas, Mininet) are imported when they are used.
"""

import importlib
import pkgutil
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar, cast

from experiments.measure.rows import RowSchema

if TYPE_CHECKING:
    from experiments.scenario.traffic import TrafficSpec

Plugin = TypeVar("Plugin")


class Catalogue(Generic[Plugin]):
    """The plug-ins of one package; `what` names them in messages."""

    def __init__(self, package: str, what: str, *, of_folders: bool = False) -> None:
        self._package = package
        self._what = what
        self._of_folders = of_folders
        self._found: dict[str, Plugin] = {}
        """The plug-ins that were asked for: a long scenario asks for one a thousand times."""

    def names(self) -> tuple[str, ...]:
        """Return the available kinds, in alphabetical order."""
        path = importlib.import_module(self._package).__path__
        return tuple(
            sorted(
                entry.name.replace("_", "-")
                for entry in pkgutil.iter_modules(path)
                if self._of_folders >= entry.ispkg and not entry.name.startswith("_")
            )
        )

    def get(self, kind: str) -> Plugin:
        """Return the plug-in of that kind.  Raises ValueError, which names the available ones."""
        if kind not in self._found:
            if kind not in self.names():
                choice = self.choice(", ")
                raise ValueError(f"there is no {self._what} {kind!r}; there are {choice}")
            module = importlib.import_module(f"{self._package}.{kind.replace('-', '_')}")
            self._found[kind] = cast(Plugin, module)
        return self._found[kind]

    def all(self) -> Mapping[str, Plugin]:
        return {kind: self.get(kind) for kind in self.names()}

    def choice(self, separator: str = " | ") -> str:
        return separator.join(self.names())


class WorkloadKind(Protocol):
    """What a file in `experiments/workloads` defines."""

    SAYS: str
    """A sentence: what it sends, and what that shows."""
    Settings: "type[TrafficSpec]"
    """Its keys in a scenario's `traffic`."""
    ROWS: RowSchema | None
    """The file that it writes into a result."""
    PROGRAMS: tuple[str, ...]
    """The programs it starts, besides Python (`experiments.needs` knows the packages)."""

    def prepare(self, sent: Sequence[Any], stage: Any) -> Any:
        """Return a `Workload` that sends what the Settings in `sent` ask for, on a `Stage`.

        Both are in `experiments.workloads`.
        """


WORKLOADS: Catalogue[WorkloadKind] = Catalogue("experiments.workloads", "kind of traffic")
