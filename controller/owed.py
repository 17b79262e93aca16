"""The last counts of rules for packets in flight, which source NVEs have yet to report.

Each such rule tells what it has carried when it goes.  A VM that leaves an NVE twice has the same
rule there twice, with the same cookie: the first report is about the older move.
"""

from dataclasses import dataclass

from controller.mobility import BEFORE_ARRIVAL, Phase
from controller.move import Move
from nve.model import TenantSystem
from nve.rules import Rule

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

    def forgive(self, nve: str) -> list[Move]:
        """An NVE is out of reach, and reports of rules that are gone by now are lost.

        Returns the moves whose tunnel has ended uncounted.
        """
        its = [debt for debt in self._debts if debt.move.source == nve]
        standing = {*BEFORE_ARRIVAL, *TUNNELLING}
        for debt in its:
            if debt.superseded or debt.move.phase not in standing:
                self._debts.remove(debt)
        return [debt.move for debt in its if debt.superseded]
