"""Counts what peers sent to the NVA and what of it was refused, by NVE and port (R9.1-R9.4).

Counts are exact.  The trace has the first hundred of a kind and after that only every doubling of
the count, so that a peer that floods the NVA does not fill its memory.
"""

from collections import Counter

from controller.core.drops import Drops
from controller.core.outbox import Outbox

TOLD_ONE_BY_ONE = 100


class ViolationCounters:
    """Counts what the NVA has `refused`, what it has `heard` at all, and the `drops` of the
    NVEs.
    """

    def __init__(self, outbox: Outbox) -> None:
        self.refused: Counter[tuple[str, int | None, str]] = Counter()
        self.heard: Counter[tuple[str, int]] = Counter()
        self.drops = Drops()
        self._announced: Counter[tuple[str, int]] = Counter()
        self._outbox = outbox

    def refuse(self, nve: str, port: int | None, what: str, **details: object) -> None:
        """Count a peer's mistake, which has no other effect."""
        self.refused[nve, port, what] += 1
        times = self.refused[nve, port, what]
        if _worth_telling(times):
            self._outbox.record(f"refused-{what}", nve, port=port, times=times, **details)

    def announce(self, nve: str, port: int) -> bool:
        """Count a VM's announcement that changes nothing; return whether it belongs in the
        trace.
        """
        self._announced[nve, port] += 1
        return _worth_telling(self._announced[nve, port])


def _worth_telling(times: int) -> bool:
    return times <= TOLD_ONE_BY_ONE or times.bit_count() == 1
