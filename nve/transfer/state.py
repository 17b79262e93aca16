"""Memory and disk of a guest as one row of pages, for who sends or fills them.

Digests are of BLAKE2b (RFC 7693): one for each page, and one over all of those.
"""

import mmap
from collections.abc import Iterable
from hashlib import blake2b

from nve.guest.spec import PAGE_SIZE
from nve.transfer.framing import PageRun

PATTERN = bytes([0xA5]) * PAGE_SIZE
"""What a state is overwritten with that has gone elsewhere."""
_DIGEST_SIZE = 16


class State:
    """Pages 0 to `memory_pages` - 1 are in one file, the rest in another."""

    def __init__(self, memory: int, memory_pages: int, disk: int, disk_pages: int) -> None:
        self.memory_pages = memory_pages
        self.pages = memory_pages + disk_pages
        self._memory = memoryview(mmap.mmap(memory, memory_pages * PAGE_SIZE))
        self._disk = memoryview(b"")
        if disk_pages:
            self._disk = memoryview(mmap.mmap(disk, disk_pages * PAGE_SIZE))

    def at(self, run: PageRun) -> memoryview:
        """The octets of a run of pages, to read or to write."""
        first, count = run
        space, place = self._memory, first
        if first >= self.memory_pages:
            space, place = self._disk, first - self.memory_pages
        return space[place * PAGE_SIZE : (place + count) * PAGE_SIZE]

    def overwrite(self) -> None:
        """What is forgotten elsewhere shows."""
        for page in range(self.pages):
            self.at((page, 1))[:] = PATTERN


class Digests:
    """What each page of a state was when it was last taken.  A page that never was is empty."""

    def __init__(self, state: State) -> None:
        self._state = state
        empty = blake2b(bytes(PAGE_SIZE), digest_size=_DIGEST_SIZE).digest()
        self._taken = bytearray(empty * state.pages)

    def take(self, run: PageRun) -> None:
        """Read these pages where they are."""
        octets, (first, count) = self._state.at(run), run
        for place in range(count):
            page = octets[place * PAGE_SIZE : (place + 1) * PAGE_SIZE]
            digest = blake2b(page, digest_size=_DIGEST_SIZE).digest()
            begin = (first + place) * _DIGEST_SIZE
            self._taken[begin : begin + _DIGEST_SIZE] = digest

    def take_all(self) -> None:
        for page in range(self._state.pages):
            self.take((page, 1))

    def totals(self) -> dict[str, str]:
        """Of memory and disk."""
        boundary = self._state.memory_pages * _DIGEST_SIZE
        parts = {"memory": self._taken[:boundary], "disk": self._taken[boundary:]}
        return {
            name: blake2b(part, digest_size=_DIGEST_SIZE).hexdigest()
            for name, part in parts.items()
        }


def size_of(runs: Iterable[PageRun]) -> int:
    """How many pages these runs have."""
    return sum(count for _, count in runs)
