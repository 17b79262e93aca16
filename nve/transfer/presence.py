"""Which pages of a guest's memory are present in a post-copy, and how long the guest waits for
others.

If the running guest touches an absent page, that is a fault.  The page is requested once, and
arrives; or it arrives unrequested, as all are pushed.  A page that arrives twice is put in place
once: the guest may have written it since.
"""

from dataclasses import dataclass

from nve.transfer.framing import PageRun


@dataclass(frozen=True)
class PageFault:
    """A page that the guest has waited for."""

    t_ns: int
    """When the fault was noticed."""
    page: int
    latency_ms: float
    """The time until the page was in place."""


class Presence:
    """The presence of each page; all are present at first."""

    def __init__(self, pages: int) -> None:
        self._there = bytearray(b"\x01") * pages
        self._asked_ns: dict[int, int] = {}
        self.missing = 0
        self.faults: list[PageFault] = []
        """The page faults that are over."""

    def take_away(self, run: PageRun) -> None:
        """Mark these pages as absent: they come later."""
        first, count = run
        self.missing += self._there.count(1, first, first + count)
        self._there[first : first + count] = bytes(count)

    def touched(self, page: int, now_ns: int) -> bool | None:
        """Record that the guest waits for a page; return whether to request it, or None if it is
        present.
        """
        if self._there[page]:
            return None
        if page in self._asked_ns:
            return False
        self._asked_ns[page] = now_ns
        return True

    def absent(self, run: PageRun) -> list[PageRun]:
        """Return those pages of a run that are not present yet."""
        first, count = run
        found: list[PageRun] = []
        at, end = first, first + count
        while (begin := self._there.find(0, at, end)) >= 0:
            at = self._there.find(1, begin, end)
            at = end if at < 0 else at
            found.append((begin, at - begin))
        return found

    def arrived(self, run: PageRun, now_ns: int) -> None:
        """Record that these pages, which were absent, are in place now."""
        first, count = run
        self._there[first : first + count] = b"\x01" * count
        self.missing -= count
        for page in self._asked_ns.keys() & range(first, first + count):
            asked_ns = self._asked_ns.pop(page)
            self.faults.append(PageFault(asked_ns, page, (now_ns - asked_ns) / 1e6))
