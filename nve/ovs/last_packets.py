"""Whether what a VM sent last at its old place has arrived (`nve.wire.end_marker`).

Packets from a VM, too, take other ways once it has moved, and a shorter one would bring them past
what the VM sent before.  So what it sends at its destination is held there until:

    LAST       sent by the source NVE behind the last packet, when the VM stands still, to all NVEs
               that have VMs of its network
    ARRIVED    sent to the destination by each NVE that it has come to
    passed     the destination has heard it of all of them: nothing that the VM sends from now on
               can overtake

The hypervisors number the markers; a later move of a VM has a higher number.  What is not expected
is not remembered for longer than there is room.  No I/O: `nve.ovs.agent` has one of these.
"""

from collections import OrderedDict
from collections.abc import Iterable

from nve.model import TenantSystem
from nve.wire.end_marker import NEEDED, Signal

REMEMBERED = 1024
"""Markers that an agent counts the copies of at a time."""


class LastPackets:
    """What the agent of one NVE knows of them."""

    def __init__(self) -> None:
        self._copies: OrderedDict[tuple[TenantSystem, int], set[int]] = OrderedDict()
        self._arrived: dict[TenantSystem, tuple[int, set[str]]] = {}
        """By VM that is to come here: the number of the marker, and the NVEs it has come to."""

    def have_come(self, marker: Signal) -> bool:
        """A copy of a marker has come to this NVE.  True for the one with which enough have."""
        key = marker.system, marker.handover
        copies = self._copies.setdefault(key, set())
        self._copies.move_to_end(key)
        if len(self._copies) > REMEMBERED:
            self._copies.popitem(last=False)
        enough = len(copies) >= NEEDED
        copies.add(marker.copy)
        return not enough and len(copies) >= NEEDED

    def expect(self, system: TenantSystem, number: int) -> None:
        """The VM is about to come here, and its marker has that number."""
        self._arrived[system] = number, set()

    def arrived(self, signal: Signal) -> None:
        """A marker has come to the NVEs that the signal names."""
        number, nves = self._arrived.get(signal.system, (None, set()))
        if number == signal.handover:
            nves.update(signal.ingress_nves)

    def missing(self, system: TenantSystem, nves: Iterable[str]) -> list[str]:
        """Those of these NVEs that the VM's marker has not come to yet."""
        _, arrived = self._arrived.get(system, (None, set()))
        return sorted(set(nves) - arrived)

    def forget(self, system: TenantSystem) -> None:
        """Nothing is expected of this VM any more."""
        self._arrived.pop(system, None)
