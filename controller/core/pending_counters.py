"""The last counts of rules for packets in flight, which source NVEs have yet to report.

Each such rule tells what it has carried when it goes.  A VM that leaves an NVE twice has the same
rule there twice, with the same cookie: the first report is about the older move.
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
"""The lines of the trace that say what a rule for packets in flight has carried."""
TUNNELLING = frozenset({Phase.ACTIVATED, Phase.CONVERGED})
"""After its arrival, a move's in-flight tunnel has not ended in these phases."""


@dataclass(frozen=True)
class PendingCounter:
    """What a rule has carried for a move.  `superseded`: with that, its tunnel has ended."""

    move: Move
    cookie: int
    superseded: bool


class PendingCounters:
    """What all source NVEs owe, the oldest first."""

    def __init__(self) -> None:
        self._counters: list[PendingCounter] = []

    def add(self, move: Move, rule: Rule, *, superseded: bool = False) -> None:
        self._counters.append(PendingCounter(move, rule.cookie, superseded))

    def cookies(self, nve: str, system: TenantSystem) -> frozenset[int]:
        """Of the rules for a VM's packets in flight whose last counts an NVE owes."""
        its = (counter for counter in self._counters if counter.move.source == nve)
        return frozenset(counter.cookie for counter in its if counter.move.system == system)

    def count(self, nve: str, cookie: int) -> int:
        """How many reports with this cookie an NVE owes."""
        return sum(
            (counter.move.source, counter.cookie) == (nve, cookie) for counter in self._counters
        )

    def settle(self, nve: str, cookie: int) -> PendingCounter | None:
        """An NVE has reported the end of a rule: what that was about, if anybody waits for it."""
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
        """An NVE is out of reach, or back: reports of rules that are gone by now are lost.

        `standing` are the cookies of the rules that wait there until a move ends by another: one
        report of each will come.  Returns the moves whose tunnel has ended uncounted.
        """
        kept: dict[int, PendingCounter] = {}
        for counter in [counter for counter in self._counters if counter.move.source == nve]:
            if not counter.superseded and counter.cookie in standing:
                kept[counter.cookie] = counter  # the youngest
        lost = [d for d in self._counters if d.move.source == nve and kept.get(d.cookie) is not d]
        self._counters = [counter for counter in self._counters if counter not in lost]
        return [counter.move for counter in lost if counter.superseded]
