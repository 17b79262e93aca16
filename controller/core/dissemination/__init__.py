"""How NVEs learn where a VM is: one strategy a file, found by its file name (R4.1.3).

A strategy answers two questions, and nothing else: which NVEs are told at once when a binding
changes, and how long an entry lives at an NVE.  The authority does the rest, so that a new strategy
is one new file with a class `Strategy`, made from what a scenario asks for: `lifetime_s` (None: not
said) and `keeps_expired`.  It refuses with a ValueError what it cannot have; neither the scenario
nor the NVA knows strategies by name.
"""

import importlib
import pkgutil
from typing import Protocol


class Dissemination(Protocol):
    """What the authority asks of a strategy."""

    @property
    def lifetime_s(self) -> int | None:
        """How long an NVE keeps an entry before it forgets it; None: until told otherwise."""

    @property
    def keeps_expired(self) -> bool:
        """Whether an NVE uses an expired entry on until it has a new one."""

    def told_at_once(self, involved: frozenset[str], present: frozenset[str]) -> frozenset[str]:
        """The NVEs to tell about a changed binding.

        `involved` are the NVEs that take part in the change (the source and the destination of a
        move), `present` those with a VM in the virtual network.
        """


def names() -> list[str]:
    """The strategies there are."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def strategy(name: str, lifetime_s: int | None, *, keeps_expired: bool = False) -> Dissemination:
    """A strategy by name.  Raises ValueError for an unknown name or what it cannot have."""
    if name not in names():
        raise ValueError(f"there is no mapping_update {name!r}; there are {', '.join(names())}")
    module = importlib.import_module(f"{__name__}.{name}")
    found: Dissemination = module.Strategy(lifetime_s, keeps_expired)
    return found
