"""The content of pages before a transfer overwrote them, so that it can be undone.

A move to a VM's standby starts from the last mirror there, in place.  If the move is given up, the
mirror has to be what it was: until the next one is complete, it is all that the VM could be
recovered from.
"""

from collections.abc import Callable

from nve.transfer.framing import PageRun


class Overwritten:
    """The old content of the pages that were overwritten; `at(run)` returns the octets of a run."""

    def __init__(self, at: Callable[[PageRun], memoryview]) -> None:
        self._at = at
        self._before: dict[int, bytes] = {}

    def __len__(self) -> int:
        return len(self._before)

    def keep(self, run: PageRun) -> None:
        """Keep what these pages hold, which are about to be overwritten; once for each page."""
        first, count = run
        for page in range(first, first + count):
            if page not in self._before:
                self._before[page] = bytes(self._at((page, 1)))

    def put_back(self) -> None:
        """Put back everything that was kept."""
        for page, octets in self._before.items():
            self._at((page, 1))[:] = octets
        self._before.clear()
