"""The overlays there are, and what an overlay has to offer.

An overlay is one file of this folder (or one package), found by looking: `flood_and_learn.py` is
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
    LAYERS                        of the virtual networks that it can carry; without it, 2 alone
    FAULTS                        what of it can be made to fail: `FaultKind` by name
    lacking(settings)             what else this machine lacks, in sentences with the remedy

A scenario is validated with this file: what is slow to import is imported by `edges` and `build`.

Orchestrator, probes and clock do not know which overlay carries the traffic.  What only some
overlays can do is in `Capabilities`, which others ask by name.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from pydantic import BaseModel, ConfigDict

from experiments.catalogue import Catalogue
from experiments.measure.trace import TraceEvent
from nve.edge import EdgeFactory
from nve.model import Bounds, MoveMode, TenantSystem, VmSpec
from nve.resources import NO_RESOURCES, Resources

if TYPE_CHECKING:
    from nve.hypervisor.reorder_buffer import ReorderBuffer
    from topologies.emulation.data_centre import DataCentre

DEFAULT = "nvo3"
"""The kind of overlay of a scenario that names none: the draft's."""


class OverlaySettings(BaseModel):
    """The keys of an overlay in a scenario, beside `kind`: none, unless it adds some."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class TraceWriter(Protocol):
    """The trace of the run (`experiments.measure.event_log`), for who adds to it."""

    def append(self, event: TraceEvent) -> None:
        """What happened at the time that the event says."""

    def note(self, source: str, name: str, subject: str = "", /, **details: object) -> None:
        """What has happened just now."""


@dataclass(frozen=True)
class Ground:
    """What an overlay stands on."""

    data_centre: "DataCentre"
    log: TraceWriter
    """For what the overlay has to say while it happens."""
    reorder_buffer: "Callable[[TenantSystem, str], ReorderBuffer | None]"
    """reorder_buffer(VM, NVE): what keeps the order of what comes for a VM at an NVE, if it has
    any there.  Answers from `start` on."""
    progress: Callable[[str], None]


@dataclass(frozen=True)
class OverlayMove:
    """One move as an overlay sees it.  `port` is the VM's port number at both NVEs.

    Until it is `deadline_s` old it is the orchestrator's to give up; then it has been forgotten.
    In a `mode` other than hot the VM does not run from the redirect until it has arrived.
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


class OverlayError(Exception):
    """The overlay refused a request or did not answer; the message is its own."""


class MoveRefused(Exception):
    """The overlay does not accept the move; the message is its own, and nothing has changed."""


@dataclass(frozen=True)
class Fault:
    """Makes a part of an overlay fail, and ends that."""

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
    """What a command has to show.  Columns of `whole` are never broken."""

    headings: tuple[str, ...]
    rows: Sequence[Sequence[object]]
    whole: tuple[str, ...] = ()


@dataclass(frozen=True)
class ShellCommand:
    """A command of `vmmlab shell`.  `answer` is given the rest of the line, and raises OverlayError
    or UsageError."""

    says: str
    answer: Callable[[str], ShellTable | str]


@dataclass(frozen=True)
class AwaitLastPackets:
    """How one knows that what a VM has sent at its source has arrived."""

    mark: Callable[[OverlayMove], None]
    """The VM stands still, and nothing leaves its place at the source.  Returns at once."""
    wait: Callable[[OverlayMove], list[str]]
    """Returns when all has arrived, or after a time that is not long: the NVEs that some of it may
    still be on the way to."""


@dataclass(frozen=True)
class VmAdmission:
    """How VMs come and go while the overlay stands (section 8.2 of the draft)."""

    offer: Callable[[VmSpec, str | None], str]
    """offer(VM, NVE): the NVE with room for a VM, that one if it is named; the room is kept for
    some seconds, for `associate` there."""
    adjust: Callable[[str, Resources], None]
    """adjust(VM, resources): it takes these from now on."""
    off_board: Callable[[str], None]
    """off_board(VM): it has ended, and nothing is left of it."""
    capacity: Callable[[], list[dict[str, Any]]]
    """Of each NVE's server: `nve`, `capacity`, `free`, `taken` by VMs."""


@dataclass(frozen=True)
class Capabilities:
    """What an overlay can do besides moving VMs; None, or empty, where it cannot."""

    hold: Bounds | None = None
    """What may wait at the destination for a VM that is not there yet.  Where anything may, the
    overlay redirects before the VM pauses."""
    last_packets: AwaitLastPackets | None = None
    """What the VM sends at its destination is held until what it has sent at the source has
    arrived."""
    processes: Callable[[], list[int]] = list
    """By their numbers, those that a move waits for; each would have a server of its own."""
    differences: Callable[[], list[str]] | None = None
    """Where an NVE holds something else than it should, a sentence each."""
    refused: Callable[[], list[dict[str, Any]]] | None = None
    """What was dropped or refused as forged, unknown or too much, and whose it was: rows with the
    columns of refused.csv (results/README.md)."""
    catch_up: Callable[[], None] | None = None
    """What the overlay's own processes have said so far is in the log when it returns; it comes
    there by itself, but some tenths of a second later."""
    facts: Callable[[], Mapping[str, Any]] | None = None
    """For the manifest: versions of what it is made of."""
    admission: VmAdmission | None = None
    """It knows what servers have, and who takes what of it."""
    faults: Mapping[str, Fault] = field(default_factory=dict)
    """By the names of its `FAULTS`."""
    host_route: Callable[[str, str], object] | None = None
    """host_route(VM, address): in a network of layer 3, the address is that VM's from now on."""
    commands: Mapping[str, ShellCommand] = field(default_factory=dict)
    """By name, for `vmmlab shell`."""


class Overlay(Protocol):
    """An overlay that stands on the data centre it was built on.

    Where `patience_s` is given, a control plane that does not answer is asked again until then.
    Every operation may raise OverlayError.
    """

    @property
    def can(self) -> Capabilities:
        """What it can do besides; the same from `build` to `stop`."""

    def start(self) -> None:
        """Make the NVEs an overlay."""

    def associate(self, vm: VmSpec, nve: str, port: int) -> None:
        """A VM is about to start behind an NVE, whose port it has; returns when the NVE takes its
        frames."""

    def begin(self) -> None:
        """The experiment begins now: forget what warming up has taught."""

    def prepare(self, move: OverlayMove, patience_s: float) -> None:
        """Make the destination ready; the VM runs at the source and notices nothing.

        Raises MoveRefused.
        """

    def redirect(self, move: OverlayMove, patience_s: float) -> None:
        """The VM is about to stop at the source, or has stopped."""

    def activate(self, move: OverlayMove, patience_s: float, *, announced: bool) -> None:
        """The VM runs at the destination, and has announced itself there or not."""

    def converge(self, move: OverlayMove, timeout_s: float) -> None:
        """Wait until nobody knows the VM's old place any more."""

    def complete(self, move: OverlayMove, timeout_s: float) -> None:
        """Wait until nothing is left of the move."""

    def de_associate(self, move: OverlayMove, patience_s: float) -> None:
        """The VM's place at the source is gone."""

    def roll_back(self, move: OverlayMove, patience_s: float) -> None:
        """Give the move up: the VM runs at the source."""

    def where(self) -> Mapping[str, str]:
        """The NVE of each VM, as the overlay believes.  A VM that it has no belief about is left
        out."""

    def stop(self) -> None:
        """End what `start` started."""


# -- the catalogue ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class OverlayKind:
    """An entry of the catalogue: what an overlay's file has."""

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
    """The kinds of overlay, in alphabetical order."""
    return _FILES.names()


def get(kind: str) -> OverlayKind:
    """The overlay of that kind.  Raises ValueError if there is none."""
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
