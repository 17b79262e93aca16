"""Tells whether a VM's last packets from its old place have arrived (`nve.wire.end_marker`).

Packets from a VM, too, take other paths once it has moved, and on a shorter one they would overtake
what the VM sent before.  So what it sends at its destination is held there until it cannot:

    LAST       sent by the source NVE behind the last packet, when the VM is suspended, to all NVEs
               that have VMs of its network
    ARRIVED    sent to the destination by each NVE that LAST has come to
    passed     the destination has heard ARRIVED of all of them: nothing that the VM sends from now
               on can overtake

The hypervisors number the markers; a later move of a VM has a higher number.  Unexpected markers
are remembered only as long as there is room.  No I/O: `nve.ovs.agent` has one of these.
"""

from collections import OrderedDict
from collections.abc import Iterable

from nve.model import TenantSystem
from nve.wire.end_marker import NEEDED, Signal

REMEMBERED = 1024
"""The number of markers whose copies an agent counts at a time."""


class LastPackets:
    """What the agent of one NVE knows of LAST markers."""

    def __init__(self) -> None:
        self._copies: OrderedDict[tuple[TenantSystem, int], set[int]] = OrderedDict()
        self._arrived: dict[TenantSystem, tuple[int, set[str]]] = {}
        """By VM that is to come here: the number of the marker, and the NVEs it has come to."""

    def have_come(self, marker: Signal) -> bool:
        """Record a copy of a marker; return True for the copy with which enough have come."""
        key = marker.system, marker.handover
        copies = self._copies.setdefault(key, set())
        self._copies.move_to_end(key)
        if len(self._copies) > REMEMBERED:
            self._copies.popitem(last=False)
        enough = len(copies) >= NEEDED
        copies.add(marker.copy)
        return not enough and len(copies) >= NEEDED

    def expect(self, system: TenantSystem, number: int) -> None:
        """Expect marker `number` of a VM that is about to come here."""
        self._arrived[system] = number, set()

    def arrived(self, signal: Signal) -> None:
        """Record that a marker has come to the NVEs that the signal names."""
        number, nves = self._arrived.get(signal.system, (None, set()))
        if number == signal.handover:
            nves.update(signal.ingress_nves)

    def missing(self, system: TenantSystem, nves: Iterable[str]) -> list[str]:
        """Return those of these NVEs that the VM's marker has not come to yet."""
        _, arrived = self._arrived.get(system, (None, set()))
        return sorted(set(nves) - arrived)

    def forget(self, system: TenantSystem) -> None:
        """Stop expecting a marker of this VM."""
        self._arrived.pop(system, None)
