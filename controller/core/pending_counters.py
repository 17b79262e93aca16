"""The last counts of rules for packets in flight, which source NVEs have yet to report.

Each such rule reports what it has carried when it goes.  If a VM leaves an NVE twice, that NVE has
the same rule twice, with the same cookie: the first report is about the older move.
"""

from collections.abc import Collection
from dataclasses import dataclass

from controller.core.move import Move
from controller.core.move_fsm import Phase
from nve.model import TenantSystem
from nve.pipeline.rules import Rule

COUNTED = frozenset(
    {
        *("in-flight-before-arrival", "in-flight-taken-away"),
        *("in-flight-kept", "in-flight-ended"),
    }
)
"""The trace records that say what a rule for packets in flight has carried."""
TUNNELLING = frozenset({Phase.ACTIVATED, Phase.CONVERGED})
"""The phases after the VM's arrival in which the move's in-flight tunnel has not ended."""


@dataclass(frozen=True)
class PendingCounter:
    """The count of one rule for a move; if `superseded`, the report also ends the move's tunnel."""

    move: Move
    cookie: int
    superseded: bool


class PendingCounters:
    """The counts that all source NVEs have yet to report, the oldest first."""

    def __init__(self) -> None:
        self._counters: list[PendingCounter] = []

    def add(self, move: Move, rule: Rule, *, superseded: bool = False) -> None:
        self._counters.append(PendingCounter(move, rule.cookie, superseded))

    def cookies(self, nve: str, system: TenantSystem) -> frozenset[int]:
        """Return the cookies of the in-flight rules of a VM whose last counts an NVE has yet to
        report.
        """
        its = (counter for counter in self._counters if counter.move.source == nve)
        return frozenset(counter.cookie for counter in its if counter.move.system == system)

    def count(self, nve: str, cookie: int) -> int:
        """Return how many reports with this cookie an NVE has yet to send."""
        return sum(
            (counter.move.source, counter.cookie) == (nve, cookie) for counter in self._counters
        )

    def settle(self, nve: str, cookie: int) -> PendingCounter | None:
        """Take and return the oldest pending counter that an NVE's report of a rule's end is about,
        or None.
        """
        found = (
            counter
            for counter in self._counters
            if (counter.move.source, counter.cookie) == (nve, cookie)
        )
        counter = next(found, None)
        if counter:
            self._counters.remove(counter)
        return counter

    def drop_lost(self, nve: str, standing: Collection[int]) -> list[Move]:
        """Drop the counters whose reports are lost because their NVE is or was out of reach.

        `standing` are the cookies of the rules that wait there until another ends a move: one
        report of each will come.  Returns the moves whose tunnel has ended uncounted.
        """
        kept: dict[int, PendingCounter] = {}
        for counter in [counter for counter in self._counters if counter.move.source == nve]:
            if not counter.superseded and counter.cookie in standing:
                kept[counter.cookie] = counter  # the youngest
        lost = [d for d in self._counters if d.move.source == nve and kept.get(d.cookie) is not d]
        self._counters = [counter for counter in self._counters if counter not in lost]
        return [counter.move for counter in lost if counter.superseded]
