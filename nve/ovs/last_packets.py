"""Tells whether a VM's last packets from its old place have arrived (`nve.wire.end_marker`).

Packets from a VM, too, take other paths once it has moved, and on a shorter one they would overtake
what the VM sent before.  So what it sends at its destination is held there until it cannot:

    LAST       sent by the source NVE behind the last packet, when the VM is suspended, to all NVEs
               that have VMs of its network; their switches send it on to the destination
    passed     it has come to the destination from all of them: nothing that the VM sends from now
               on can overtake

The hypervisors number the markers; a later move of a VM has a higher number.  Markers that nobody
expects are not remembered.  No I/O: `nve.ovs.agent` has one of these.
"""

from collections import defaultdict
from collections.abc import Iterable

from nve.model import TenantSystem
from nve.wire.end_marker import NEEDED, Signal


class LastPackets:
    """What the agent of a destination NVE knows of LAST markers."""

    def __init__(self) -> None:
        self._expected: dict[TenantSystem, tuple[int, defaultdict[str, set[int]]]] = {}
        """By VM that is to come here: the number of the marker, and the copies that have come, by
        the NVE that they have passed."""

    def expect(self, system: TenantSystem, number: int) -> None:
        """Expect marker `number` of a VM that is about to come here."""
        self._expected[system] = number, defaultdict(set)

    def came(self, marker: Signal, nve: str) -> bool:
        """Record a copy of a marker that has passed an NVE; return whether it is the one with which
        enough have.
        """
        number, copies = self._expected.get(marker.system, (None, None))
        if copies is None or number != marker.handover:
            return False
        before = len(copies[nve])
        copies[nve].add(marker.copy)
        return before < NEEDED <= len(copies[nve])

    def missing(self, system: TenantSystem, nves: Iterable[str]) -> list[str]:
        """Return those of these NVEs that the VM's marker has not passed yet."""
        _, copies = self._expected.get(system, (None, defaultdict[str, set[int]](set)))
        return sorted(nve for nve in set(nves) if len(copies.get(nve, ())) < NEEDED)

    def forget(self, system: TenantSystem) -> None:
        """Stop expecting a marker of this VM."""
        self._expected.pop(system, None)
