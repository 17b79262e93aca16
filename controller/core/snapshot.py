"""What outlives the NVA's process, and how it is written down.

A *change* holds the parts of the state that a decision has altered, each part whole and under its
name.  The complete state is a change from nothing, and later changes replace parts of earlier ones.
Each is one line of JSON; `controller.storage.journal` keeps the lines.

    vms        the VMs' names and the tenant systems they stand for
    bindings   the directory, with sequence numbers
    places     what one NVE has to know about one VM: its port and role, its entry, its redirect,
               and where its agent's end markers go
    moves      all moves, finished ones included: key, phase, request, time of the request
    vm_mtus    the largest packet that the VMs of a network may send
    paths      the handover of one VM that is under way, or that it is over
    handovers  the last handover number, so that none is used twice
    onboarded  which resources each VM was offered and has (`controller.core.onboarding`)
    gone       the VMs that were off-boarded: only their moves are left
    traced     the length of the trace after the decision's records, in bytes

The rest is not kept, because it is found out anew: what NVEs have confirmed (they are told
everything when they connect), which of them wait for a handover (their old entries say so), which
markers have come (the destinations know that), and counts.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from pydantic import TypeAdapter, ValidationError

from controller.core import groups
from controller.core.desired_state import DesiredState
from controller.core.directory import Directory
from controller.core.handover import Handovers, PathChange
from controller.core.known import Known
from controller.core.move import Move
from controller.core.moves import Moves
from controller.core.onboarding import Onboarding, Onboardings
from nve.model import Binding, TenantSystem, Vni, Vtep
from nve.pipeline.state import Association, Redirect, RemoteEntry


@dataclass(frozen=True)
class NveSnapshot:
    """What one NVE has to know about one VM."""

    nve: str
    system: TenantSystem
    association: Association | None = None
    remote: RemoteEntry | None = None
    redirect: Redirect | None = None
    marker: Vtep | None = None


@dataclass(frozen=True)
class SnapshotChange:
    """A change, with the parts named in the module's description; absent parts stay as they
    were.
    """

    vms: dict[str, TenantSystem] = field(default_factory=dict)
    bindings: tuple[Binding, ...] = ()
    places: tuple[NveSnapshot, ...] = ()
    moves: tuple[Move, ...] = ()
    vm_mtus: dict[Vni, int] = field(default_factory=dict)
    paths: tuple[PathChange, ...] = ()
    handovers: int = 0
    onboarded: tuple[Onboarding, ...] = ()
    gone: tuple[str, ...] = ()
    traced: int | None = None

    def __bool__(self) -> bool:
        return self != NOTHING


NOTHING = SnapshotChange()
_ADAPTER: TypeAdapter[SnapshotChange] = TypeAdapter(SnapshotChange)


def encode(change: SnapshotChange) -> bytes:
    """Return the change as one line, without the line's end."""
    return _ADAPTER.dump_json(change, exclude_defaults=True)


def decode(line: bytes) -> SnapshotChange:
    """Parse a line.  Raises ValueError."""
    try:
        return _ADAPTER.validate_json(line)
    except ValidationError as error:
        raise ValueError(
            f"this is not a change of the NVA's state: {error.errors()[0]['msg']}"
        ) from None


def merged(changes: Iterable[SnapshotChange]) -> SnapshotChange:
    """Merge changes in their order into one."""
    vms: dict[str, TenantSystem] = {}
    parts: dict[str, dict[Any, Any]] = {
        name: {} for name in ("bindings", "places", "moves", "paths", "onboarded")
    }
    vm_mtus: dict[Vni, int] = {}
    handovers = 0
    traced = None
    for change in changes:
        for system in [vms.pop(vm) for vm in change.gone if vm in vms]:
            parts["bindings"].pop(system, None)
            parts["paths"].pop(system, None)
            for place in [place for place in parts["places"] if place[1] == system]:
                del parts["places"][place]
        vms |= change.vms
        parts["bindings"] |= {item.system: item for item in change.bindings}
        parts["places"] |= {(item.nve, item.system): item for item in change.places}
        parts["moves"] |= {item.key: item for item in change.moves}
        parts["paths"] |= {item.system: item for item in change.paths}
        parts["onboarded"] |= {item.vm: item for item in change.onboarded}
        vm_mtus |= change.vm_mtus
        handovers = max(handovers, change.handovers)
        traced = traced if change.traced is None else change.traced
    parts["paths"] = {system: item for system, item in parts["paths"].items() if item.handover}
    whole = {name: tuple(items.values()) for name, items in parts.items()}
    return SnapshotChange(vms=vms, vm_mtus=vm_mtus, handovers=handovers, traced=traced, **whole)


class Durable:
    """The parts of an authority that outlive its process."""

    def __init__(
        self,
        known: Known,
        directory: Directory,
        desired: DesiredState,
        moves: Moves,
        handovers: Handovers,
        onboardings: Onboardings,
    ) -> None:
        self._known = known
        self._directory = directory
        self._desired = desired
        self._moves = moves
        self._handovers = handovers
        self._onboardings = onboardings
        self._taken = NOTHING

    def take(self) -> SnapshotChange:
        """Return what has changed since the last call."""
        desired, vms, taken = self._desired, self._known.vms, self._taken
        change = SnapshotChange(
            vms={} if vms == taken.vms else dict(vms),
            bindings=self._directory.take_changed(),
            places=tuple(self._place(nve, system) for nve, system in desired.take_changed()),
            moves=self._moves.take_changed(),
            vm_mtus={} if desired.vm_mtus == taken.vm_mtus else dict(desired.vm_mtus),
            paths=self._handovers.take_changed(),
            handovers=self._handovers.last if self._handovers.last > taken.handovers else 0,
            onboarded=self._onboardings.take_changed(),
            gone=tuple(vm for vm, system in taken.vms.items() if vms.get(vm) != system),
        )
        if change.vms or change.gone or change.vm_mtus or change.handovers:
            self._taken = SnapshotChange(
                vms=dict(vms), vm_mtus=dict(desired.vm_mtus), handovers=self._handovers.last
            )
        return change

    def whole(self) -> SnapshotChange:
        """Return the complete state."""
        known = [(nve, system) for nve in self._desired for system in self._desired.systems(nve)]
        return SnapshotChange(
            vms=dict(self._known.vms),
            bindings=tuple(self._directory),
            places=tuple(self._place(nve, system) for nve, system in known),
            moves=tuple(self._moves.all.values()),
            vm_mtus=dict(self._desired.vm_mtus),
            paths=self._handovers.path_changes(),
            handovers=self._handovers.last,
            onboarded=tuple(self._onboardings.of.values()),
        )

    def restore(self, whole: SnapshotChange, now_ns: int) -> None:
        """Take over the state of an earlier process; no NVE is known to hold anything.

        Raises ValueError for the state of another data centre.
        """
        under_way = [change.handover for change in whole.paths if change.handover]
        named = [place.nve for place in whole.places]
        named += [nve for each in under_way for nve in (each.destination, *each.ingress_nves)]
        strangers = set(named) - set(self._desired)
        if strangers:
            raise ValueError(f"it speaks of {', '.join(sorted(strangers))}, which is no NVE here")
        self._known.add(whole.vms)
        self._onboardings.restore(whole.onboarded, now_ns)
        for binding in whole.bindings:
            self._directory.restore(binding)
        for place in whole.places:
            if place.association:
                self._desired.associate(place.nve, place.association)
            self._desired.set_remote(place.nve, place.system, place.remote)
            self._desired.set_redirect(place.nve, place.system, place.redirect)
            self._desired.set_marker(place.nve, place.system, place.marker)
        for binding in whole.bindings:
            self._desired.set_hosts(binding.system, binding.addresses)
        for vni, mtu in whole.vm_mtus.items():
            self._desired.raise_vm_mtu(vni, mtu)
        for vni in {binding.system.vni for binding in whole.bindings}:
            groups.spread(self._desired, self._directory, vni)
        self._handovers.restore(whole.handovers, whole.paths)
        self._desired.invalidate()
        self._moves.restore(whole.moves)

    def _place(self, nve: str, system: TenantSystem) -> NveSnapshot:
        state = self._desired.state(nve)
        return NveSnapshot(
            nve,
            system,
            state.associations.get(system),
            state.remotes.get(system),
            state.redirects.get(system),
            state.markers.get(system),
        )
