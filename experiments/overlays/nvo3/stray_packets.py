"""Counts packets that still reach a VM's former NVE after no NVE holds an old entry (R3.4).

The count is the difference between two readings of what came out of tunnels at the source NVE
without belonging there: one when the move has converged, one when it is completed.  It ends when
the VM's next move begins, as stray packets may belong to that from then on.  A reading of a switch
that was out of reach, or was restarted, says nothing of the time before; there is no count then.
"""

import time

from experiments.overlays import OverlayMove
from experiments.overlays.nvo3.move_requests import AGAIN_S, path_of
from experiments.overlays.nvo3.nva import NvaError, NvaProcess
from nve.ovs.bridge import OvsInstance
from topologies.emulation.data_centre import DataCentre

DRAIN_S = 0.2
"""The time in which packets on the underlay reach the source NVE after the last old entry went."""
RETURN_S = 5.0
"""How long an NVA and NVEs may take to connect again before counters are read, in seconds."""


class StrayPackets:
    """The counts of the moves whose VMs have arrived."""

    def __init__(self, data_centre: DataCentre, nva: NvaProcess) -> None:
        self._data_centre = data_centre
        self._nva = nva
        self._arrived: dict[int, OverlayMove] = {}
        """The moves that something is left of, by their numbers."""
        self._before: dict[int, int | None] = {}
        self._after: dict[int, int | None] = {}

    def begins(self, move: OverlayMove) -> None:
        """End the counts of the VM's earlier moves."""
        for number, earlier in list(self._arrived.items()):
            if earlier.vm.name == move.vm.name and number not in self._after:
                self._after.setdefault(number, self._astray(earlier))

    def arrived(self, move: OverlayMove) -> None:
        """Take note of a move whose VM has arrived."""
        self._arrived[move.number] = move

    def converged(self, move: OverlayMove) -> None:
        """Begin to count: no NVE holds an old entry any more."""
        time.sleep(DRAIN_S)
        self._count(move, self._before)

    def completed(self, move: OverlayMove) -> int | None:
        """Return the count of a move, whose last one this is; None if there is none."""
        time.sleep(DRAIN_S)
        self._count(move, self._after)
        del self._arrived[move.number]
        before, after = (of.get(move.number) for of in (self._before, self._after))
        if before is None or after is None or after < before:
            return None
        return after - before

    def _count(self, move: OverlayMove, counts: dict[int, int | None]) -> None:
        """Count stray packets of a move, unless counting has ended.

        An NVA that has just come back, and NVEs that have to connect to it again, get some time.
        """
        until_s = time.monotonic() + RETURN_S
        while move.number not in self._after:
            counted = self._astray(move)
            alive = self._data_centre.nves[move.source].edge.alive
            if counted is not None or not alive or time.monotonic() > until_s:
                counts.setdefault(move.number, counted)
                return
            time.sleep(AGAIN_S)

    def _astray(self, move: OverlayMove) -> int | None:
        """Return how many packets came out of tunnels at the source NVE without belonging there.

        Returns None if the NVE, or the NVA, does not answer.
        """
        try:
            OvsInstance.of(self._data_centre.nves[move.source].edge).have_counted()
            return int(self._nva.get(f"{path_of(move)}/astray")["packets"])
        except (NvaError, RuntimeError):
            return None
