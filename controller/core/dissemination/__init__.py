"""Strategies that decide how NVEs learn where a VM is, one per file (R4.1.3).

A strategy, which is found by its file name, answers only two questions: which NVEs are told at once
when a binding changes, and how long an entry lives at an NVE.  The authority does the rest, so that
a new strategy is one new file with a class `Strategy`.  It is constructed with what a scenario asks
for: `lifetime_s` (None if the scenario does not say) and `keeps_expired`.  It raises ValueError for
values that it does not support; neither the scenario nor the NVA knows strategies by name.
"""

import importlib
import pkgutil
from typing import Protocol


class Dissemination(Protocol):
    """The questions that the authority asks a strategy."""

    @property
    def lifetime_s(self) -> int | None:
        """How long an NVE keeps an entry, in seconds; None if it keeps it until told otherwise."""

    @property
    def keeps_expired(self) -> bool:
        """Whether an NVE keeps using an expired entry until it has a new one."""

    def told_at_once(self, involved: frozenset[str], present: frozenset[str]) -> frozenset[str]:
        """Return the NVEs to tell about a changed binding.

        `involved` are the NVEs that take part in the change (the source and the destination of a
        move), `present` those with a VM in the virtual network.
        """


def names() -> list[str]:
    """Return the names of the available strategies."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def strategy(name: str, lifetime_s: int | None, *, keeps_expired: bool = False) -> Dissemination:
    """Return the strategy of this name.

    Raises ValueError for an unknown name or for values that the strategy does not support.
    """
    if name not in names():
        raise ValueError(f"there is no mapping_update {name!r}; there are {', '.join(names())}")
    module = importlib.import_module(f"{__name__}.{name}")
    found: Dissemination = module.Strategy(lifetime_s, keeps_expired)
    return found
