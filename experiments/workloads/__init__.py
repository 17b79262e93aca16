"""Traffic: each file is a kind, found by scanning this folder (`experiments.catalogue`).

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
    """The workload did not run; the message says what its program reported."""


@dataclass(frozen=True)
class Stage:
    """Where a run's workloads send, and for how long."""

    vms: Mapping[str, VmSpec]
    fabric: Fabric
    duration_s: float
    seed: int
    directory: Path
    """The directory for the output of its processes; it is removed after the run."""
    in_vm: Start
    in_node: Start
    name_apart: Callable[[str], str]
    """Makes a flow's name unique: a second flow between the same ends gets `#2` behind its name."""
    tasks: Mapping[str, Sequence[IPAddress]] = field(default_factory=dict)
    """The addresses of each task that takes them with it."""
    named: Mapping[str, tuple[str, IPAddress]] = field(default_factory=dict)
    """For each other task: its name, and the address of the name server."""

    def address(self, vm: str, family: str) -> str:
        spec = self.vms[vm]
        return str(spec.ipv4 if family == "ipv4" else spec.ipv6)

    def way_to(self, task: str, version: int) -> list[str]:
        """Return the options that tell a client's program how to find a task.

        See `experiments.workloads._finding`.
        """
        if named := self.named.get(task):
            name, server = named
            return ["--name", name, "--server", str(server), "--ip-version", str(version)]
        return ["--address", str(next(e for e in self.tasks[task] if e.version == version))]


@dataclass
class Collected:
    """What a workload measured."""

    table: "pd.DataFrame | None" = None
    """A table with the columns of its ROWS."""
    events: list[TraceEvent] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    """Sentences that say why its figures must not be read as the network's behaviour."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Facts for the manifest."""


class Workload(Protocol):
    """All traffic of one kind in a run."""

    ends_by_itself: bool
    """Whether it ends when its time is over.  Others go on until they are collected, after these
    ones."""

    def launch(self) -> None:
        """Make the workload ready to send.  Raises WorkloadError if that is impossible."""

    def begin(self, start_ns: int) -> None: ...

    def collect(self) -> Collected: ...

    def stop(self) -> None: ...


@runtime_checkable
class TellsEvents(Protocol):
    """A workload that has events for the trace."""

    def new_events(self) -> list[TraceEvent]:
        """Return the events since the last call, which comes about once a second.

        Events after the last call are part of what is collected.
        """


@runtime_checkable
class TellsProgress(Protocol):
    """A workload that can report its progress."""

    def so_far(self) -> str:
        """Return a few words about the traffic, or none if nothing is known; called about once a
        second.
        """
