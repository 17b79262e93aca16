"""Which pages of a guest's memory are there, in a post-copy; who waits for one; how long it took.

The guest runs, and touches a page that is not there: a fault.  The page is asked for, once, and
comes; or it comes by itself, for all are pushed.  What comes twice is put in place once: the guest
may have written it since.
"""

from dataclasses import dataclass

from nve.transfer.framing import PageRun


@dataclass(frozen=True)
class PageFault:
    """A page that the guest has waited for."""

    t_ns: int
    """When the fault was heard of."""
    page: int
    latency_ms: float
    """Until the page was in place."""


class Presence:
    """Of so many pages, all of which are there at first."""

    def __init__(self, pages: int) -> None:
        self._there = bytearray(b"\x01") * pages
        self._asked_ns: dict[int, int] = {}
        self.missing = 0
        self.faults: list[PageFault] = []
        """Those that are over."""

    def take_away(self, run: PageRun) -> None:
        """These come later."""
        first, count = run
        self.missing += self._there.count(1, first, first + count)
        self._there[first : first + count] = bytes(count)

    def touched(self, page: int, now_ns: int) -> bool | None:
        """The guest waits for a page: whether it has to be asked for; None if it is there."""
        if self._there[page]:
            return None
        if page in self._asked_ns:
            return False
        self._asked_ns[page] = now_ns
        return True

    def absent(self, run: PageRun) -> list[PageRun]:
        """Those of a run that are not there yet."""
        first, count = run
        found: list[PageRun] = []
        at, end = first, first + count
        while (begin := self._there.find(0, at, end)) >= 0:
            at = self._there.find(1, begin, end)
            at = end if at < 0 else at
            found.append((begin, at - begin))
        return found

    def arrived(self, run: PageRun, now_ns: int) -> None:
        """These were not there, and are in place now."""
        first, count = run
        self._there[first : first + count] = b"\x01" * count
        self.missing -= count
        for page in self._asked_ns.keys() & range(first, first + count):
            asked_ns = self._asked_ns.pop(page)
            self.faults.append(PageFault(asked_ns, page, (now_ns - asked_ns) / 1e6))
