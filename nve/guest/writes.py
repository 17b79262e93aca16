"""Which page a guest writes next: a function of how many it has written.

    uniform      any page of the working set
    hot-spot     nine of ten writes go to a tenth of the working set
    sequential   one page after the other, and again from the beginning

The first page of the memory does not belong to the working set: the registers are there.
"""

from dataclasses import dataclass

import numpy as np

from nve.guest.pages import Numbers, mixed
from nve.guest.spec import Pattern

HOT_SHARE = 10
"""A write in so many is not to a hot page; a page in so many is hot."""


@dataclass(frozen=True)
class Writes:
    """Writes to pages `first` to `first + pages - 1`."""

    pattern: Pattern
    first: int
    pages: int
    seed: int

    def targets(self, done: int, count: int) -> Numbers:
        """The pages of the next `count` writes of a guest that has done so many."""
        order = np.arange(done, done + count, dtype=np.uint64)
        if self.pattern == "sequential":
            chosen = order % np.uint64(self.pages)
        else:
            random = mixed(order + np.uint64(self.seed << 32))
            chosen = random % np.uint64(self.pages)
            if self.pattern == "hot-spot":
                hot = max(1, self.pages // HOT_SHARE)
                is_hot = (random >> np.uint64(40)) % np.uint64(HOT_SHARE) != 0
                chosen = np.where(is_hot, random % np.uint64(hot), chosen)
        return chosen.astype(np.int64) + self.first


def distinct(numbers: Numbers) -> Numbers:
    """In ascending order and once.  (`np.unique` would do, if it did not import more first, for
    50 ms and more: in the midst of a guest's life, or of its pause.)"""
    ordered = np.sort(numbers)
    once: Numbers = ordered[np.append(True, np.diff(ordered) > 0)]
    return once


class Pace:
    """How many writes are due.  What could not be written in time is not caught up with."""

    LATEST_S = 0.1

    def __init__(self, rate_per_s: float, now_s: float) -> None:
        self._rate_per_s = rate_per_s
        self._until_s = now_s
        self._due = 0.0

    def due(self, now_s: float, throttle_pct: float = 0.0) -> int:
        """How many since one last asked; a throttled guest writes so much less."""
        passed_s = min(now_s - self._until_s, self.LATEST_S)
        self._until_s = now_s
        self._due += passed_s * self._rate_per_s * (1 - throttle_pct / 100)
        whole = int(self._due)
        self._due -= whole
        return whole
