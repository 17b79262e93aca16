"""The available overlays, and what an overlay has to offer.

An overlay is one file of this folder (or one package), found by scanning: `flood_and_learn.py` is
`kind: flood-and-learn` in a scenario's `overlay`.  Names that begin with an underscore are no
overlays.  The file has

    SAYS                          a sentence, for `vmmlab list`
    Settings                      an `OverlaySettings`: its own keys in a scenario's `overlay`
    edges(settings, datapath)     what its NVEs are: an `EdgeFactory`; `datapath` is the scenario's
    build(ground, settings)       an `Overlay` on a data centre that is up

and may have

    CONTROL_NODE                  the name of a node for its control plane, which a control network
                                  joins to all NVEs
    PROGRAMS                      what has to be installed besides what every run needs
    LAYERS                        the layers of the virtual networks it can carry; 2 by default
    FAULTS                        what of it can be made to fail: `FaultKind` by name
    lacking(settings)             what else this machine lacks, in sentences with the remedy

A scenario is validated with this file: what is slow to import is imported by `edges` and `build`.

Orchestrator, probes and clock do not know which overlay carries the traffic.  What only some
overlays can do is in `Capabilities`, where others look it up by name.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from pydantic import BaseModel, ConfigDict

from experiments.catalogue import Catalogue
from experiments.measure.trace import TraceEvent
from nve.edge import EdgeFactory
from nve.model import Bounds, MoveMode, Rank, TenantSystem, VmSpec
from nve.resources import NO_RESOURCES, Resources

if TYPE_CHECKING:
    from nve.hypervisor.reorder_buffer import ReorderBuffer
    from topologies.emulation.data_centre import DataCentre

DEFAULT = "nvo3"
"""The kind of overlay of a scenario that names none: the draft's."""


class OverlaySettings(BaseModel):
    """The keys of an overlay in a scenario, besides `kind`: none, unless the overlay adds some."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class TraceWriter(Protocol):
    """The trace of the run (`experiments.measure.event_log`), for parts that add to it."""

    def append(self, event: TraceEvent) -> None:
        """Add an event that happened at the time it names."""

    def note(self, source: str, name: str, subject: str = "", /, **details: object) -> None:
        """Add an event that has happened just now."""


@dataclass(frozen=True)
class Ground:
    """What an overlay is built on."""

    data_centre: "DataCentre"
    log: TraceWriter
    """The trace, to which the overlay adds its events as they happen."""
    reorder_buffer: "Callable[[TenantSystem, str], ReorderBuffer | None]"
    """reorder_buffer(VM, NVE) returns the VM's reorder buffer at an NVE, or None.  It may be called
    from `start` on."""
    progress: Callable[[str], None]


@dataclass(frozen=True)
class OverlayMove:
    """One move as an overlay sees it.  `port` is the VM's port number at both NVEs.

    The orchestrator may give the move up until it is `deadline_s` old; after that, the overlay
    gives it up by itself.  In a `mode` other than hot the VM does not run from the redirect until
    it has arrived.
    """

    number: int
    vm: VmSpec
    source: str
    destination: str
    port: int
    deadline_s: float
    state: Resources = NO_RESOURCES
    """The memory and the disk that have to be brought over."""
    mode: MoveMode = "hot"
    source_runs: bool = False
    """In a take-over: the source's server is not dead, so that the overlay goes on only when the
    VM's port there is known to be suspended."""


class OverlayError(Exception):
    """The overlay refused a request or did not answer; the message is its own."""


class MoveRefused(Exception):
    """The overlay does not accept the move; the message is its own, and nothing has changed."""


@dataclass(frozen=True)
class Fault:
    """Makes a part of an overlay fail, and ends that failure."""

    fail: Callable[[], None]
    end: Callable[[], None]


@dataclass(frozen=True)
class FaultKind:
    """What of an overlay can be made to fail: one entry of its `FAULTS`."""

    says: str
    felt: str
    """What the VM's correspondents notice; the move is completed all the same."""


@dataclass(frozen=True)
class ShellTable:
    """The output of a command.  Columns of `whole` are never broken."""

    headings: tuple[str, ...]
    rows: Sequence[Sequence[object]]
    whole: tuple[str, ...] = ()


@dataclass(frozen=True)
class ShellCommand:
    """A command of `vmmlab shell`.

    `answer` gets the rest of the line, and raises OverlayError or UsageError.
    """

    says: str
    answer: Callable[[str], ShellTable | str]


@dataclass(frozen=True)
class AwaitLastPackets:
    """Finds out whether what a VM has sent at its source has arrived."""

    mark: Callable[[OverlayMove], None]
    """Marks the VM's last packets: it is suspended, and nothing leaves its place at the source.
    Returns at once."""
    wait: Callable[[OverlayMove], list[str]]
    """Waits, for a short time at most, until all has arrived; returns the NVEs to which packets may
    still be on the way."""


@dataclass(frozen=True)
class VmAdmission:
    """Adds and removes VMs while the overlay is up (section 8.2 of the draft)."""

    offer: Callable[[VmSpec, str | None], str]
    """offer(VM, NVE): the NVE with room for a VM, that one if it is named; the room is kept for
    some seconds, for `associate` there."""
    adjust: Callable[[str, Resources], None]
    """adjust(VM, resources) changes what the VM takes of its server."""
    off_board: Callable[[str], None]
    """off_board(VM) removes a VM that has ended."""
    keep_room: Callable[[str, str, Resources], None]
    """keep_room(VM, NVE, resources): its server has so much for the VM's standby."""
    give_room_up: Callable[[str], None]
    """give_room_up(VM): the VM has no standby any more."""
    capacity: Callable[[], list[dict[str, Any]]]
    """Returns for each NVE's server `nve`, `capacity`, `free`, and what is `taken` by VMs."""


@dataclass(frozen=True)
class Instances:
    """How a VM has two instances that both serve (section 7.4 of the draft)."""

    add: Callable[[str, str, int], None]
    """add(VM, NVE, port): a second one is about to start there; returns when NVEs send to both."""
    fence: Callable[[str, str, bool], None]
    """fence(VM, NVE, dead): the one there answers nobody any more when this returns, and NVEs send
    to the other one; `dead` says that its server is.  May be asked again."""


@dataclass(frozen=True)
class Capabilities:
    """What an overlay can do besides moving VMs; None, or empty, if it cannot."""

    hold: Bounds | None = None
    """What may wait at the destination for a VM that is not there yet.  If anything may wait, the
    overlay redirects before the VM is suspended."""
    last_packets: AwaitLastPackets | None = None
    """Set if what the VM sends at its destination is held until what it has sent at the source has
    arrived."""
    processes: Callable[[], Mapping[int, Rank]] = dict
    """By their numbers, those that a move waits for; each would have a server of its own."""
    differences: Callable[[], Iterator[Sequence[str]]] | None = None
    """Yields, for one NVE after the other, a sentence for each difference between what it holds and
    what it should hold; an NVE is read when it is its turn."""
    refused: Callable[[], list[dict[str, Any]]] | None = None
    """Returns what was dropped or refused as forged, unknown or too much, and whose it was: rows
    with the columns of refused.csv (results/README.md)."""
    catch_up: Callable[[], None] | None = None
    """Waits until the log has all that the overlay's own processes have reported so far; without
    this call it gets there some tenths of a second later."""
    facts: Callable[[], Mapping[str, Any]] | None = None
    """Returns facts for the manifest: versions of its components."""
    admission: VmAdmission | None = None
    """Manages what servers have, and which VMs take what of it."""
    instances: Instances | None = None
    """It can spread flows over two instances of a VM."""
    faults: Mapping[str, Fault] = field(default_factory=dict)
    """The faults by the names in its `FAULTS`."""
    host_route: Callable[[str, str], object] | None = None
    """host_route(VM, address) gives a VM of a layer 3 network the address from now on."""
    commands: Mapping[str, ShellCommand] = field(default_factory=dict)
    """Commands of `vmmlab shell`, by name."""


class Overlay(Protocol):
    """An overlay that runs on the data centre it was built on.

    An operation with `patience_s` repeats its request to a control plane that does not answer for
    that long.  Every operation may raise OverlayError.
    """

    @property
    def can(self) -> Capabilities:
        """What it can do besides moving VMs; this is the same from `build` to `stop`."""

    def start(self) -> None:
        """Make the NVEs an overlay."""

    def associate(self, vm: VmSpec, nve: str, port: int) -> None:
        """Associate a VM that is about to start with its port at an NVE.

        Returns when the NVE accepts its frames.
        """

    def begin(self) -> None:
        """Begin the experiment: forget what NVEs have learned while warming up."""

    def prepare(self, move: OverlayMove, patience_s: float) -> None:
        """Make the destination ready; the VM runs at the source and notices nothing.

        Raises MoveRefused.
        """

    def redirect(self, move: OverlayMove, patience_s: float) -> None:
        """Redirect the VM's packets: it is about to stop at the source, or has stopped."""

    def activate(self, move: OverlayMove, patience_s: float, *, announced: bool) -> None:
        """Activate the VM, which runs at the destination; `announced` says whether it announced
        itself.
        """

    def converge(self, move: OverlayMove, timeout_s: float) -> None:
        """Wait until no NVE holds an entry for the VM's old place."""

    def complete(self, move: OverlayMove, timeout_s: float) -> None:
        """Wait until nothing is left of the move."""

    def de_associate(self, move: OverlayMove, patience_s: float) -> None:
        """Take the VM's place at the source away."""

    def roll_back(self, move: OverlayMove, patience_s: float) -> None:
        """Give the move up: the VM runs at the source."""

    def where(self) -> Mapping[str, str]:
        """Return the NVE of each VM, as far as the overlay knows it."""

    def stop(self) -> None:
        """End what `start` started."""


# -- the catalogue ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class OverlayKind:
    """An entry of the catalogue: what an overlay's file defines."""

    kind: str
    says: str
    settings: type[OverlaySettings]
    edges: Callable[[Any, str], EdgeFactory]
    build: Callable[[Ground, Any], Overlay]
    control_node: str | None
    programs: tuple[str, ...]
    faults: Mapping[str, FaultKind]
    lacking: Callable[[Any], list[str]]
    layers: tuple[int, ...]


_FILES: Catalogue[Any] = Catalogue(__name__, "overlay", of_folders=True)


def names() -> tuple[str, ...]:
    """Return the kinds of overlay, in alphabetical order."""
    return _FILES.names()


def get(kind: str) -> OverlayKind:
    """Return the overlay of that kind.  Raises ValueError if there is none."""
    module = _FILES.get(kind)
    return OverlayKind(
        kind,
        module.SAYS,
        module.Settings,
        module.edges,
        module.build,
        getattr(module, "CONTROL_NODE", None),
        getattr(module, "PROGRAMS", ()),
        getattr(module, "FAULTS", {}),
        getattr(module, "lacking", lambda _settings: []),
        getattr(module, "LAYERS", (2,)),
    )
