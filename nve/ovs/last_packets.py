"""Tells whether a VM's last packets from its old place have arrived (`nve.wire.end_marker`).

Packets from a VM, too, take other paths once it has moved, and on a shorter one they would overtake
what the VM sent before.  So what it sends at its destination is held there until it cannot:

    LAST       sent by the source NVE behind the last packet, when the VM is suspended, to all NVEs
               that have VMs of its network; their switches send it on to the destination
    passed     it has come to the destination from all of them: nothing that the VM sends from now
               on can overtake

One copy of the marker is enough.  What it may have overtaken in a switch leaves that right behind
it (`nve.wire.end_marker`), and the switch deals with that before it takes in anything new, so also
before what the VM sends from now on.

The hypervisors number the markers; a later move of a VM has a higher number.  Markers that nobody
expects are not remembered.  No I/O: `nve.ovs.agent` has one of these.
"""

from collections.abc import Iterable

from nve.model import TenantSystem
from nve.wire.end_marker import Signal


class LastPackets:
    """What the agent of a destination NVE knows of LAST markers."""

    def __init__(self) -> None:
        self._expected: dict[TenantSystem, tuple[int, set[str]]] = {}
        """By VM that is to come here: the number of the marker, and the NVEs that it has passed."""

    def expect(self, system: TenantSystem, number: int) -> None:
        """Expect marker `number` of a VM that is about to come here."""
        self._expected[system] = number, set()

    def came(self, marker: Signal, nve: str) -> bool:
        """Record a copy of a marker that has passed an NVE; return whether it is the first of an
        expected one.
        """
        number, passed = self._expected.get(marker.system, (None, set[str]()))
        if number != marker.handover or nve in passed:
            return False
        passed.add(nve)
        return True

    def missing(self, system: TenantSystem, nves: Iterable[str]) -> list[str]:
        """Return those of these NVEs that the VM's marker has not passed yet."""
        _, passed = self._expected.get(system, (None, set[str]()))
        return sorted(set(nves) - passed)

    def forget(self, system: TenantSystem) -> None:
        """Stop expecting a marker of this VM."""
        self._expected.pop(system, None)
