"""Changing an NVE's path to a VM without a packet overtaking another (`nve.wire.end_marker`).

A *handover* takes one or more ingress NVEs (NVEs that send to the VM) from an old path to the new
one:

    at the arrival   the destination holds what comes on new paths, and has since before the VM ran
        now          ingress NVEs: the new entry, a rule for their markers, SEND_MARKER
                     destination: EXPECT_MARKERS
        RELEASED     from the destination: the handover is over
    later (pull)     an ingress NVE's entry has expired; the VM has been running for a while
        now          destination: EXPECT_MARKERS
        EXPECTING    from the destination: only now the ingress NVEs are told as above
        RELEASED     from the destination: the handover is over

A VM has one handover at a time, and none while it is being moved: ingress NVEs whose entries expire
meanwhile keep using them, and wait for the next handover.  An NVE that was out of reach gets its
orders when it connects again; carrying them out twice does no harm.  No marker comes from an
ingress NVE that is out of reach; the destination's time-out, which needs no NVA, then ends the
handover.

Handovers outlive the NVA's process (`controller.core.snapshot`): to the next process, every NVE was
out of reach.  What a destination has seen and said meanwhile is not lost: when it is told again to
expect markers, it finds those that have come, and repeats what nobody has heard.  Which ingress
NVEs wait is worked out again when they connect: those with an old entry that still leads to the VM
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
    """A handover of `ingress_nves`; it is `switched` when they have been told the new path."""

    number: int
    system: TenantSystem
    destination: str
    ingress_nves: frozenset[str]
    switched: bool


@dataclass(frozen=True)
class PathChange:
    """The handover of one VM, or None when it is over."""

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
        """If `enabled` is false, paths change at once, and packets may overtake others."""
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
        """Return a handover number that was not used before."""
        self.last += 1
        return self.last

    def under_way(self, system: TenantSystem) -> bool:
        return system in self._under_way

    def redirected(self, system: TenantSystem, source: str) -> None:
        """Have the agent of a source NVE that is told to redirect make the switch apply that at
        once.

        The VM may leave when it has done so, while the confirmation of the redirect is on its way.
        """
        if self.enabled and self._desired.is_connected(source):
            nves = tuple(self.network_nves(system, source))
            signal = Signal(MarkerKind.FOLLOW, self.number(), system, nves)
            self._outbox.put_behind(Order(source, signal))

    def network_nves(self, system: TenantSystem, source: str) -> list[str]:
        """Return the connected NVEs to which a VM's packets from its source may go, in order.

        These are all NVEs with VMs of its network except the source.  If the destination has no
        other VM of the network, it is not among them: nothing that the VM sends goes there.
        """
        others = self._directory.members(system.vni) - {source}
        return sorted(nve for nve in others if self._desired.is_connected(nve))

    def paths(self, system: TenantSystem) -> dict[str, Vtep]:
        """Return the VTEP to which each NVE tunnels a VM's packets, those to groups included."""
        found = {}
        for nve in self._desired:
            state = self._desired.state(nve)
            if state.serves(system.vni) and (path := state.path(system)):
                found[nve] = path
        return found

    def arrived(self, system: TenantSystem, before: Mapping[str, Vtep]) -> None:
        """Begin the handover of a VM that runs at its new place.

        `before` holds the `paths` as they were; they have changed since.
        """
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
        """Handle the expiry of an outdated entry which the NVE keeps using.

        If the entry still leads to the VM, it changes by a handover.  Otherwise no marker could
        come by that path and nothing could be overtaken, so that it changes at once.
        """
        if self.enabled and self._entries.leads_on(ingress_nve, system):
            self._expired[system].add(ingress_nve)
        else:
            self._enter(ingress_nve, system)

    def missed(self, nve: str) -> frozenset[TenantSystem]:
        """Note the expired entries of an NVE that was out of reach, and return their VMs.

        Outdated entries that it uses may have expired unnoticed; those that still lead to their VM
        change by a handover.
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
        """Begin the handovers that nothing prevents any more.

        `may_begin` says whether a VM may have one now, which is not the case while it is on its
        way.
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
        """Handle a signal of an NVE's agent.  One about an earlier handover is too late and has no
        effect.
        """
        handover = self._under_way.get(signal.system)
        if handover is None or (handover.number, handover.destination) != (signal.handover, nve):
            return
        if not handover.switched:
            self._switch(handover)
        if signal.kind is MarkerKind.RELEASED:
            self._end(handover, signal.ingress_nves)

    def connected(self, nve: str) -> None:
        """Repeat the orders that an NVE may have missed."""
        for handover in self._under_way.values():
            if handover.destination == nve:
                self._expect(handover)
            if handover.switched and nve in handover.ingress_nves:
                self._order(nve, handover, MarkerKind.SEND_MARKER)

    def give_up(self, nve: str) -> None:
        """End the handovers to a destination that has been out of reach for too long."""
        for handover in list(self._under_way.values()):
            if handover.destination == nve:
                if not handover.switched:
                    self._switch(handover)
                self._end(handover, tuple(sorted(handover.ingress_nves)))

    def take_changed(self) -> tuple[PathChange, ...]:
        """Return the handovers that have changed since the last call."""
        changed, self._changed = self._changed, {}
        return tuple(PathChange(system, self._under_way.get(system)) for system in changed)

    def path_changes(self) -> tuple[PathChange, ...]:
        """Return all handovers that are not over."""
        return tuple(PathChange(*each) for each in self._under_way.items())

    def restore(self, last: int, changes: Iterable[PathChange]) -> None:
        """Continue, when the NVEs connect, the handovers that an earlier process had begun.

        A destination without one may still hold packets for a handover that is no longer known: it
        is told not to wait.
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
        """Tell the ingress NVEs the new path: the destination holds, or no longer knows the VM."""
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
