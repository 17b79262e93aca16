"""Traffic, one kind a file, found by scanning this folder (`experiments.catalogue`).

A file `tcp_bulk.py` is the kind `tcp-bulk` of a scenario's `traffic` and has what `WorkloadKind`
lists: `SAYS`, `Settings`, `ROWS`, `PROGRAMS`, and `prepare`, which makes a `Workload` for all
entries of its kind.  A run drives that in this order:

    launch()         returns when it is ready to send
    begin(start_ns)  called a moment before `start_ns`; returns when it sends, or will by itself
    collect()        called when the run's duration is over; returns what was measured
    stop()           safe at any time; leaves no process
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, runtime_checkable

from experiments.measure.trace import TraceEvent
from nve.model import IPAddress, VmSpec
from topologies.spec import Fabric

if TYPE_CHECKING:
    import pandas as pd

Start: TypeAlias = Callable[..., Any]
"""start(place, argv, **popen): starts a process in a VM or on a node, as subprocess.Popen does."""


class WorkloadError(Exception):
    """The workload did not run; the message says what its program said."""


@dataclass(frozen=True)
class Stage:
    """Where a run's workloads send, and for how long."""

    vms: Mapping[str, VmSpec]
    fabric: Fabric
    duration_s: float
    seed: int
    directory: Path
    """For what its processes write down; gone after the run."""
    in_vm: Start
    in_node: Start
    name_apart: Callable[[str], str]
    """Names flows apart: a second flow between the same ends gets `#2` behind its name."""
    tasks: Mapping[str, Sequence[IPAddress]] = field(default_factory=dict)
    """The addresses of each."""

    def address(self, vm: str, family: str) -> str:
        spec = self.vms[vm]
        return str(spec.ipv4 if family == "ipv4" else spec.ipv6)

    def task_address(self, task: str, version: int) -> str:
        return str(next(each for each in self.tasks[task] if each.version == version))


@dataclass
class Collected:
    """What a workload measured."""

    table: "pd.DataFrame | None" = None
    """With the columns of its ROWS."""
    events: list[TraceEvent] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    """Sentences: why its figures must not be read as the network's doing."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """For the manifest."""


class Workload(Protocol):
    """All traffic of one kind in a run."""

    ends_by_itself: bool
    """Whether it ends when its time is over.  Others go on until they are collected, after these.
    """

    def launch(self) -> None:
        """Raises WorkloadError if it cannot be made ready."""

    def begin(self, start_ns: int) -> None: ...

    def collect(self) -> Collected: ...

    def stop(self) -> None: ...


@runtime_checkable
class TellsEvents(Protocol):
    """A workload in which something happens that belongs into the trace."""

    def new_events(self) -> list[TraceEvent]:
        """What has happened since this was asked last, about once a second.  What happens after
        that is among what is collected."""


@runtime_checkable
class TellsProgress(Protocol):
    """A workload that knows something of its traffic while that goes on."""

    def so_far(self) -> str:
        """A few words, to be asked for about once a second; none while nothing is known."""
