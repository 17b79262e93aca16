"""Memory and disk of a guest as one row of pages, for reading and filling them.

Digests are of XXH3: one of 128 bits for each page, and one over all of those.  They find what was
forgotten, torn or put in the wrong place; they are no protection against deliberate forgery.
"""

import mmap

from xxhash import xxh3_128_digest, xxh3_128_hexdigest

from nve.guest.spec import PAGE_SIZE
from nve.transfer.framing import PageRun

PATTERN = bytes([0xA5]) * PAGE_SIZE
"""The content with which a state is overwritten after it was moved away."""
_DIGEST_SIZE = 16


class State:
    """Pages 0 to `memory_pages` - 1 are in one file, the rest in another."""

    def __init__(self, memory: int, memory_pages: int, disk: int, disk_pages: int) -> None:
        self.memory_pages = memory_pages
        self.pages = memory_pages + disk_pages
        self._memory_map = mmap.mmap(memory, memory_pages * PAGE_SIZE)
        self._memory = memoryview(self._memory_map)
        self._disk = memoryview(b"")
        if disk_pages:
            self._disk = memoryview(mmap.mmap(disk, disk_pages * PAGE_SIZE))

    def at(self, run: PageRun) -> memoryview:
        """Return the octets of a run of pages, to read or to write."""
        first, count = run
        space, place = self._memory, first
        if first >= self.memory_pages:
            space, place = self._disk, first - self.memory_pages
        return space[place * PAGE_SIZE : (place + count) * PAGE_SIZE]

    def forget(self, run: PageRun) -> None:
        """Remove these pages of the memory, for every process that maps it."""
        first, count = run
        self._memory_map.madvise(mmap.MADV_REMOVE, first * PAGE_SIZE, count * PAGE_SIZE)

    def overwrite(self) -> None:
        """Overwrite all pages, so that it shows if any is missing at its new place."""
        for page in range(self.pages):
            self.at((page, 1))[:] = PATTERN


class Digests:
    """The digest of each page of a state when it was last taken; empty if it never was."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._taken = bytearray(xxh3_128_digest(bytes(PAGE_SIZE)) * state.pages)

    def take(self, run: PageRun, octets: memoryview | None = None) -> None:
        """Take the digests of these pages, from the state or from `octets`."""
        first, count = run
        there = self._state.at(run) if octets is None else octets
        begins = range(0, count * PAGE_SIZE, PAGE_SIZE)
        found = b"".join([xxh3_128_digest(there[each : each + PAGE_SIZE]) for each in begins])
        self._taken[first * _DIGEST_SIZE : (first + count) * _DIGEST_SIZE] = found

    def take_all(self) -> None:
        memory, pages = self._state.memory_pages, self._state.pages
        self.take((0, memory))
        if pages > memory:
            self.take((memory, pages - memory))

    def totals(self) -> dict[str, str]:
        """Return the digests of memory and disk."""
        boundary = self._state.memory_pages * _DIGEST_SIZE
        parts = {"memory": self._taken[:boundary], "disk": self._taken[boundary:]}
        return {name: xxh3_128_hexdigest(bytes(part)) for name, part in parts.items()}
