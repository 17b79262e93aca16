"""What plugs in as one file in a folder, and is found there by scanning it.

The kind `tcp-bulk` is the file `tcp_bulk.py`.  Files whose name begins with an underscore, and
folders, hold what such a file needs besides; in a catalogue of folders, one may be a kind, too.  A
file is imported when its kind is first asked for, so it must be quick to import: what takes long
(pandas, Mininet) it imports when it is used.
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
    """The plug-ins of one package; `what` says in messages what they are."""

    def __init__(self, package: str, what: str, *, of_folders: bool = False) -> None:
        self._package = package
        self._what = what
        self._of_folders = of_folders

    def names(self) -> tuple[str, ...]:
        """The kinds there are, in alphabetical order."""
        path = importlib.import_module(self._package).__path__
        return tuple(
            sorted(
                entry.name.replace("_", "-")
                for entry in pkgutil.iter_modules(path)
                if self._of_folders >= entry.ispkg and not entry.name.startswith("_")
            )
        )

    def get(self, kind: str) -> Plugin:
        """The plug-in of that kind.  Raises ValueError, which names those there are."""
        if kind not in self.names():
            raise ValueError(f"there is no {self._what} {kind!r}; there are {self.choice(', ')}")
        module = importlib.import_module(f"{self._package}.{kind.replace('-', '_')}")
        return cast(Plugin, module)

    def all(self) -> Mapping[str, Plugin]:
        return {kind: self.get(kind) for kind in self.names()}

    def choice(self, separator: str = " | ") -> str:
        return separator.join(self.names())


class WorkloadKind(Protocol):
    """What a file in `experiments/workloads` has."""

    SAYS: str
    """A sentence: what it sends, and what that shows."""
    Settings: "type[TrafficSpec]"
    """Its keys in a scenario's `traffic`."""
    ROWS: RowSchema | None
    """The file that it writes into a result."""
    PROGRAMS: tuple[str, ...]
    """What it starts, beside Python (`experiments.needs` knows the packages)."""

    def prepare(self, sent: Sequence[Any], stage: Any) -> Any:
        """A `Workload` that sends what the Settings in `sent` ask for, on a `Stage` (both are in
        `experiments.workloads`)."""


WORKLOADS: Catalogue[WorkloadKind] = Catalogue("experiments.workloads", "kind of traffic")
