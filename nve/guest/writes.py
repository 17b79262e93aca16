"""Which page a guest writes next: a function of the number of its writes so far.

    uniform      any page of the working set
    hot-spot     nine of ten writes go to a tenth of the working set
    sequential   one page after the other, and again from the beginning

The first page of the memory does not belong to the working set: it holds the registers.
"""

from dataclasses import dataclass

import numpy as np

from nve.guest.pages import Numbers, mixed
from nve.guest.spec import Pattern

HOT_SHARE = 10
"""One write in this many is not to a hot page; one page in this many is hot."""


@dataclass(frozen=True)
class Writes:
    """Writes to pages `first` to `first + pages - 1`."""

    pattern: Pattern
    first: int
    pages: int
    seed: int

    def targets(self, done: int, count: int) -> Numbers:
        """Return the pages of the next `count` writes of a guest that has done `done` writes."""
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
    """Return the numbers in ascending order, each once.

    (`np.unique` would do, if its first use did not import more, for 50 ms and longer: in the middle
    of a guest's life, or of its pause.)
    """
    ordered = np.sort(numbers)
    once: Numbers = ordered[np.append(True, np.diff(ordered) > 0)]
    return once


class Pace:
    """Tells how many writes are due.  Writes that could not be done in time are not made up for."""

    LATEST_S = 0.1

    def __init__(self, rate_per_s: float, now_s: float, step: int = 1) -> None:
        """The number of writes that are due at once is a multiple of `step`."""
        self._step = step
        self._rate_per_s = rate_per_s
        self._until_s = now_s
        self._due = 0.0

    def due(self, now_s: float, throttle_pct: float = 0.0) -> int:
        """Return how many writes are due since the last call; throttling reduces them by that
        share.
        """
        passed_s = min(now_s - self._until_s, self.LATEST_S)
        self._until_s = now_s
        self._due += passed_s * self._rate_per_s * (1 - throttle_pct / 100)
        whole = int(self._due) // self._step * self._step
        self._due -= whole
        return whole
