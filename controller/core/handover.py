"""Changing an NVE's path to a VM without a packet overtaking another (`nve.wire.end_marker`).

A *handover* takes one or more ingress NVEs (NVEs that send to the VM) from an old path to the new
one:

    at the arrival   the destination holds what comes on new paths anyway, from before the VM ran
        now          ingress NVEs: the new entry, a rule for their markers, SEND_MARKER
                     destination: EXPECT_MARKERS
        RELEASED     by the destination: over
    later (pull)     an ingress NVE's entry has expired; the VM has been running for a while
        now          destination: EXPECT_MARKERS
        EXPECTING    by the destination: only now the ingress NVEs are told as above
        RELEASED     by the destination: over

A VM has one handover at a time, and none while it is being moved: ingress NVEs whose entries expire
meanwhile use them on, and wait for the next.  Orders that an NVE was out of reach for are given
when it connects again; doing them twice does no harm.  Of an ingress NVE out of reach no marker
comes; the destination's time-out, which needs no NVA, ends the handover then.

Handovers outlive the NVA's process (`controller.core.snapshot`): for the next one, every NVE was
out of reach.  What a destination has seen and said meanwhile is not lost: when it is told again to
expect markers, it finds those that have come, and says again what nobody has heard.  Which ingress
NVEs wait is found out anew when they connect: those with an old entry that still leads to the VM
(`missed`).

No I/O: orders go into the outbox, behind what the desired state tells the same NVE.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from controller.core.desired_state import DesiredState
from controller.core.directory import Directory
from controller.core.entries import Entries
from controller.core.outbox import Outbox
from nve.messages import Order
from nve.model import TenantSystem, Vtep
from nve.pipeline.state import AssociationRole
from nve.wire.end_marker import MarkerKind, Signal


@dataclass(frozen=True)
class Handover:
    """One handover of its ingress NVEs.  They are `switched` when they have been told the new
    path."""

    number: int
    system: TenantSystem
    destination: str
    ingress_nves: frozenset[str]
    switched: bool


@dataclass(frozen=True)
class PathChange:
    """The handover of one VM; None when it is over."""

    system: TenantSystem
    handover: Handover | None


class Handovers:
    """The handovers under way, at most one for each VM."""

    def __init__(
        self,
        desired: DesiredState,
        directory: Directory,
        entries: Entries,
        outbox: Outbox,
        *,
        enabled: bool,
        name: Callable[[TenantSystem], str],
    ) -> None:
        """Without being `enabled`, paths change at once, and packets may overtake others."""
        self.enabled = enabled
        self._desired = desired
        self._directory = directory
        self._entries = entries
        self._outbox = outbox
        self._name = name
        self._under_way: dict[TenantSystem, Handover] = {}
        self._expired: defaultdict[TenantSystem, set[str]] = defaultdict(set)
        """The ingress NVEs that use an expired entry on until their handover."""
        self._changed: dict[TenantSystem, None] = {}
        """The VMs with another `PathChange` than was last asked for."""
        self.last = 0
        """The number of the latest; none is used twice, also not by a later process."""

    def number(self) -> int:
        """One that was not used before."""
        self.last += 1
        return self.last

    def under_way(self, system: TenantSystem) -> bool:
        return system in self._under_way

    def redirected(self, system: TenantSystem, source: str) -> None:
        """The source NVE is told to redirect: its agent has the switch follow that at once, while
        the confirmation is on its way."""
        if self.enabled and self._desired.is_connected(source):
            signal = Signal(MarkerKind.FOLLOW, self.number(), system)
            self._outbox.put_behind(Order(source, signal))

    def paths(self, system: TenantSystem) -> dict[str, Vtep]:
        """Where each NVE tunnels a VM's packets to, if it does, also those to groups."""
        found = {}
        for nve in self._desired:
            state = self._desired.state(nve)
            if state.serves(system.vni) and (path := state.path(system)):
                found[nve] = path
        return found

    def arrived(self, system: TenantSystem, before: Mapping[str, Vtep]) -> None:
        """The VM runs at its new place; `before` were the `paths`, which have changed since."""
        if not self.enabled:
            return
        earlier = self._under_way.pop(system, None)
        if earlier:
            self._withdraw_markers(earlier)
        for ingress_nve in self._expired.pop(system, ()):
            self._enter(ingress_nve, system)
        after = self.paths(system)
        changed = {nve: old for nve, old in before.items() if after.get(nve) != old}
        handover = self._begin(system, frozenset(changed), switched=True)
        self._expect(handover)
        for ingress_nve, old in sorted(changed.items()):
            self._mark(handover, ingress_nve, old)

    def expired(self, system: TenantSystem, ingress_nve: str) -> None:
        """An NVE's entry, which it uses on, has expired and is an old one.

        Where it leads nowhere any more, no marker could come by that way, and nothing that could
        be overtaken: then it changes at once.
        """
        if self.enabled and self._entries.leads_on(ingress_nve, system):
            self._expired[system].add(ingress_nve)
        else:
            self._enter(ingress_nve, system)

    def missed(self, nve: str) -> frozenset[TenantSystem]:
        """An NVE was out of reach, and old entries that it uses on may have expired unheard.

        Those change by a handover, if what is sent on them still reaches the VM: returns the VMs.
        """
        if not self.enabled:
            return frozenset()
        remotes = self._desired.state(nve).remotes.items()
        kept = (system for system, entry in remotes if entry.kept)
        missed = frozenset(system for system in kept if self._entries.leads_on(nve, system))
        for system in missed:
            self._expired[system].add(nve)
        return missed

    def look(self, may_begin: Callable[[TenantSystem], bool]) -> None:
        """Begin the handovers that nothing stands in the way of any more.

        `may_begin`: not while the VM is on its way.
        """
        for system in [item for item in self._expired if item not in self._under_way]:
            if may_begin(system):
                waiting = self._expired.pop(system)
                ingress_nves = frozenset(
                    ingress_nve
                    for ingress_nve in waiting
                    if self._entries.leads_on(ingress_nve, system)
                )
                self._entries.enter_again(
                    (ingress_nve, system) for ingress_nve in sorted(waiting - ingress_nves)
                )
                if ingress_nves:
                    self._expect(self._begin(system, ingress_nves, switched=False))

    def signalled(self, nve: str, signal: Signal) -> None:
        """An agent has said something.  What is about an earlier handover comes too late."""
        handover = self._under_way.get(signal.system)
        if handover is None or (handover.number, handover.destination) != (signal.handover, nve):
            return
        if not handover.switched:
            self._switch(handover)
        if signal.kind is MarkerKind.RELEASED:
            self._end(handover, signal.ingress_nves)

    def connected(self, nve: str) -> None:
        """An NVE may have missed its orders."""
        for handover in self._under_way.values():
            if handover.destination == nve:
                self._expect(handover)
            if handover.switched and nve in handover.ingress_nves:
                self._order(nve, handover, MarkerKind.SEND_MARKER)

    def give_up(self, nve: str) -> None:
        """A destination is out of reach for too long: nobody waits for it any more."""
        for handover in list(self._under_way.values()):
            if handover.destination == nve:
                if not handover.switched:
                    self._switch(handover)
                self._end(handover, tuple(sorted(handover.ingress_nves)))

    def take_changed(self) -> tuple[PathChange, ...]:
        """Those that are not as they were when this was asked last."""
        changed, self._changed = self._changed, {}
        return tuple(PathChange(system, self._under_way.get(system)) for system in changed)

    def path_changes(self) -> tuple[PathChange, ...]:
        """All that are not over."""
        return tuple(PathChange(*each) for each in self._under_way.items())

    def restore(self, last: int, changes: Iterable[PathChange]) -> None:
        """Go on with what a process before this one had begun, when the NVEs connect.

        Where nothing was, a destination may still hold for a handover that nobody remembers: it is
        told not to wait.
        """
        self.last = last
        self._under_way |= {each.system: each.handover for each in changes if each.handover}
        for nve in self._desired:
            for system, association in self._desired.state(nve).associations.items():
                active = association.lane and association.role is AssociationRole.ACTIVE
                if active and system not in self._under_way:
                    self._begin(system, frozenset(), switched=True)

    def _begin(
        self, system: TenantSystem, ingress_nves: frozenset[str], *, switched: bool
    ) -> Handover:
        binding = self._directory.find(system)
        assert binding is not None, f"{system} has paths but is not in the directory"
        handover = Handover(self.number(), system, binding.nve, ingress_nves, switched)
        self._under_way[system] = handover
        self._changed[system] = None
        return handover

    def _switch(self, handover: Handover) -> None:
        """The destination holds (or knows the VM no longer): the ingress NVEs may take the new
        path."""
        self._under_way[handover.system] = replace(handover, switched=True)
        self._changed[handover.system] = None
        before = self.paths(handover.system)
        for ingress_nve in sorted(handover.ingress_nves & set(before)):
            self._enter(ingress_nve, handover.system)
            self._mark(handover, ingress_nve, before[ingress_nve])

    def _end(self, handover: Handover, missing: tuple[str, ...]) -> None:
        del self._under_way[handover.system]
        self._changed[handover.system] = None
        self._withdraw_markers(handover)
        self._outbox.record(
            "paths-changed",
            self._name(handover.system),
            nves=sorted(handover.ingress_nves),
            without_marker=list(missing),
        )

    def _expect(self, handover: Handover) -> None:
        ingress_nves = tuple(sorted(handover.ingress_nves))
        self._order(handover.destination, handover, MarkerKind.EXPECT_MARKERS, ingress_nves)

    def _mark(self, handover: Handover, ingress_nve: str, old: Vtep) -> None:
        self._desired.set_marker(ingress_nve, handover.system, old)
        self._order(ingress_nve, handover, MarkerKind.SEND_MARKER)

    def _withdraw_markers(self, handover: Handover) -> None:
        for ingress_nve in handover.ingress_nves:
            self._desired.set_marker(ingress_nve, handover.system, None)

    def _enter(self, ingress_nve: str, system: TenantSystem) -> None:
        binding = self._directory.find(system)
        assert binding is not None, (
            f"{ingress_nve} waits for an entry that the directory does not have"
        )
        self._entries.enter(ingress_nve, binding)

    def _order(
        self, nve: str, handover: Handover, kind: MarkerKind, ingress_nves: tuple[str, ...] = ()
    ) -> None:
        if self._desired.is_connected(nve):
            signal = Signal(kind, handover.number, handover.system, ingress_nves)
            self._outbox.put_behind(Order(nve, signal))
