"""Whether what a VM sent last at its old place has arrived (`nve.wire.end_marker`).

Packets from a VM, too, take other ways once it has moved, and a shorter one would bring them past
what the VM sent before.  So what it sends at its destination is held there until:

    LAST       sent by the source NVE behind the last packet, when the VM stands still; reported by
               the other NVEs that had VMs of its network when the source NVE was told to redirect:
               it comes to no other
    passed     all of them have reported it: nothing that the VM sends from now on can overtake

The hypervisors say when the VM stands still and which number its marker has; a later move of a VM
has a higher one.  A marker may be reported before anybody asks about it.  Whoever asks decides how
long to wait.  NVEs that are out of reach are not waited for.  Nothing here outlives the process.
"""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

from controller.core.desired_state import DesiredState
from controller.core.directory import Directory
from controller.core.outbox import Outbox
from nve.model import TenantSystem
from nve.wire.end_marker import NEEDED, Signal


@dataclass
class LastPacketWait:
    """The last packets of one VM.  `missing` are the NVEs that they may still be on the way to;
    None before anybody has asked."""

    number: int
    missing: set[str] | None = None
    seen: defaultdict[str, set[int]] = field(default_factory=lambda: defaultdict(set))
    """The copies of the marker that each NVE has reported."""

    def have_come_to(self, nve: str) -> bool:
        """Whether enough copies have."""
        return len(self.seen.get(nve, ())) >= NEEDED


class LastPackets:
    """Those of the latest move of each VM."""

    def __init__(
        self,
        desired: DesiredState,
        directory: Directory,
        outbox: Outbox,
        name: Callable[[TenantSystem], str],
    ) -> None:
        """`name` is a VM's in the trace."""
        self._desired = desired
        self._directory = directory
        self._outbox = outbox
        self._name = name
        self._latest: dict[TenantSystem, LastPacketWait] = {}
        self._others: dict[TenantSystem, frozenset[str]] = {}
        """The NVEs, beside its source, with VMs of a VM's network when it was about to leave."""

    def leaving(self, system: TenantSystem, source: str) -> None:
        """The VM is about to stop at its source.  Its destination may have no other VM of the
        network: then nothing of what the VM sends goes there."""
        self._others[system] = self._directory.members(system.vni) - {source}

    def passing(self, system: TenantSystem, source: str, number: int) -> LastPacketWait:
        """From now on, `missing` is kept."""
        passing = self._of(system, number)
        # An NVA that has started anew since does not know them.
        others = self._others.get(system, self._directory.members(system.vni) - {source})
        connected = {nve for nve in others if self._desired.is_connected(nve)}
        passing.missing = {nve for nve in connected if not passing.have_come_to(nve)}
        self._note_if_passed(system, passing)
        return passing

    def signalled(self, nve: str, signal: Signal) -> None:
        """A marker has come to an NVE."""
        latest = self._latest.get(signal.system)
        earlier = latest is not None and signal.handover < latest.number
        if earlier or self._directory.find(signal.system) is None:
            return
        passing = self._of(signal.system, signal.handover)
        passing.seen[nve].add(signal.copy)
        if passing.missing and passing.have_come_to(nve):
            passing.missing.discard(nve)
            self._note_if_passed(signal.system, passing)

    def _of(self, system: TenantSystem, number: int) -> LastPacketWait:
        latest = self._latest.get(system)
        if latest is None or latest.number != number:
            latest = self._latest[system] = LastPacketWait(number)
        return latest

    def _note_if_passed(self, system: TenantSystem, passing: LastPacketWait) -> None:
        if not passing.missing:
            name, nves = self._name(system), sorted(passing.seen)
            self._outbox.record("last-packets-passed", name, nves=nves)
