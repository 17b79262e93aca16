"""Whether what a VM sent last at its old place has arrived (`nve.wire.end_marker`).

Packets from a VM, too, take other ways once it has moved, and a shorter one would bring them past
what the VM sent before.  So between the VM's pause and its activation:

    passing    by the orchestrator, when the VM sends nothing any more
               source NVE: SEND_LAST, a marker to every other NVE with VMs of this network
    LAST       reported by the switches that it comes to
    passed     all of them have: nothing that the VM sends from now on can overtake

Whoever asks decides how long to wait.  NVEs that are out of reach are not waited for.  Nothing here
outlives the process: asking again sends other markers.
"""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

from controller.core.desired_state import DesiredState
from controller.core.directory import Directory
from controller.core.outbox import Outbox
from nve.messages import Order
from nve.model import TenantSystem
from nve.wire.end_marker import NEEDED, MarkerKind, Signal


@dataclass
class LastPacketWait:
    """The last packets of one VM.  `missing` are the NVEs that they may still be on the way to."""

    number: int
    system: TenantSystem
    missing: set[str]
    seen: defaultdict[str, set[int]] = field(default_factory=lambda: defaultdict(set))
    """The copies of the marker that each NVE has reported."""


class LastPackets:
    """Those of all VMs that stand still."""

    def __init__(
        self,
        desired: DesiredState,
        directory: Directory,
        outbox: Outbox,
        number: Callable[[], int],
        name: Callable[[TenantSystem], str],
    ) -> None:
        """`number` gives numbers that no handover has; `name` is a VM's in the trace."""
        self._desired = desired
        self._directory = directory
        self._outbox = outbox
        self._number = number
        self._name = name
        self._latest: dict[TenantSystem, LastPacketWait] = {}

    def passing(self, system: TenantSystem, source: str) -> LastPacketWait:
        """The VM sends nothing any more: have its source NVE, which is in reach, send a marker."""
        members = self._directory.members(system.vni) - {source}
        connected = {nve for nve in members if self._desired.is_connected(nve)}
        passing = LastPacketWait(self._number(), system, connected)
        self._latest[system] = passing
        order = Signal(MarkerKind.SEND_LAST, passing.number, system)
        self._outbox.put(Order(source, order))
        return passing

    def signalled(self, nve: str, signal: Signal) -> None:
        """A marker has come to an NVE."""
        passing = self._latest.get(signal.system)
        if passing is None or passing.number != signal.handover:
            return
        passing.seen[nve].add(signal.copy)
        if nve in passing.missing and len(passing.seen[nve]) >= NEEDED:
            passing.missing.remove(nve)
            if not passing.missing:
                name, nves = self._name(signal.system), sorted(passing.seen)
                self._outbox.record("last-packets-passed", name, nves=nves)
