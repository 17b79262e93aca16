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

COUNTED = frozenset({"in-flight-ended", "in-flight-before-arrival", "in-flight-taken-away"})
"""The lines of the trace that say what a rule for packets in flight has carried."""
TUNNELLING = frozenset({Phase.ARRIVED, Phase.CONVERGED})
"""After its arrival, a move's in-flight tunnel has not ended in these phases."""


@dataclass(frozen=True)
class Debt:
    """What a rule has carried for a move.  `superseded`: with that, its tunnel has ended."""

    move: Move
    cookie: int
    superseded: bool


class Owed:
    """What all source NVEs owe, the oldest first."""

    def __init__(self) -> None:
        self._debts: list[Debt] = []

    def add(self, move: Move, rule: Rule, *, superseded: bool = False) -> None:
        self._debts.append(Debt(move, rule.cookie, superseded))

    def cookies(self, nve: str, system: TenantSystem) -> frozenset[int]:
        """Of the rules for a VM's packets in flight whose last counts an NVE owes."""
        its = (debt for debt in self._debts if debt.move.source == nve)
        return frozenset(debt.cookie for debt in its if debt.move.system == system)

    def count(self, nve: str, cookie: int) -> int:
        """How many reports with this cookie an NVE owes."""
        return sum((debt.move.source, debt.cookie) == (nve, cookie) for debt in self._debts)

    def settle(self, nve: str, cookie: int) -> Debt | None:
        """An NVE has reported the end of a rule: what that was about, if anybody waits for it."""
        found = (debt for debt in self._debts if (debt.move.source, debt.cookie) == (nve, cookie))
        debt = next(found, None)
        if debt:
            self._debts.remove(debt)
        return debt

    def forgive(self, nve: str, standing: Collection[int]) -> list[Move]:
        """An NVE is out of reach, or back: reports of rules that are gone by now are lost.

        `standing` are the cookies of the rules that wait there until a move ends by another: one
        report of each will come.  Returns the moves whose tunnel has ended uncounted.
        """
        kept: dict[int, Debt] = {}
        for debt in [debt for debt in self._debts if debt.move.source == nve]:
            if not debt.superseded and debt.cookie in standing:
                kept[debt.cookie] = debt  # the youngest
        lost = [d for d in self._debts if d.move.source == nve and kept.get(d.cookie) is not d]
        self._debts = [debt for debt in self._debts if debt not in lost]
        return [debt.move for debt in lost if debt.superseded]
