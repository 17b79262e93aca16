"""The log of pages that a guest has written: a byte for each, in memory shared with the guest.

The guest writes a page and then marks it; the reader clears the marks and then reads the pages.  So
a page that is written meanwhile is marked again, or read with its new content.  A guest may be
stopped between a write and its mark: it notes in the log beforehand what it is about to write
(`written_anyway`).

The log is the hypervisor's, as a processor's page-modification log is: it does not move with the
VM.
"""

import mmap
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from nve.guest.pages import Numbers

BATCH = 1024
"""The largest number of pages that a guest writes at once."""
_HEADER = 16384
_COUNT, _THROTTLE, _WRITES, _BROKEN, _LIST = 0, 1, 2, 3, 16

Marks: TypeAlias = NDArray[np.uint8]


def log_size(pages: int) -> int:
    """Return the size of the log in bytes."""
    return _HEADER + pages


class DirtyLog:
    """The log in a file of `log_size(pages)` bytes."""

    def __init__(self, descriptor: int, pages: int) -> None:
        self._map = mmap.mmap(descriptor, log_size(pages))
        self._header: NDArray[np.int64] = np.frombuffer(self._map, np.int64, _HEADER // 8)
        self._marks: Marks = np.frombuffer(self._map, np.uint8, pages, _HEADER)

    # What the guest calls

    def begin(self, numbers: Numbers) -> None:
        """These pages are about to be written; no more than BATCH."""
        self._header[_LIST : _LIST + len(numbers)] = numbers
        self._header[_COUNT] = len(numbers)

    def end(self, numbers: Numbers, writes: int) -> None:
        """Mark these pages, which were written by this number of writes."""
        self.mark(numbers)
        self._header[_COUNT] = 0
        self._header[_WRITES] += writes

    def mark(self, numbers: Numbers) -> None:
        """Mark these pages as written."""
        self._marks[numbers] = 1

    def found_broken(self, pages: int) -> None:
        """So many pages were not what they say they are."""
        self._header[_BROKEN] += pages

    @property
    def throttle_pct(self) -> int:
        return int(self._header[_THROTTLE])

    # What the hypervisor calls

    @throttle_pct.setter
    def throttle_pct(self, value: int) -> None:
        """The guest writes so much less."""
        self._header[_THROTTLE] = value

    def harvest(self) -> Numbers:
        """Return the pages marked since the last call, in ascending order, and clear their
        marks.
        """
        found = np.flatnonzero(self._marks.copy())  # what numpy reads may not change meanwhile
        self._marks[found] = 0
        return found

    def marked(self) -> int:
        """Return the number of marked pages."""
        return int(np.count_nonzero(self._marks))

    def written_anyway(self) -> Numbers:
        """Pages that a guest that stands still may have written, and not marked; the first is
        always among them: the registers are written without notice."""
        count = int(self._header[_COUNT])
        return np.append(self._header[_LIST : _LIST + count], 0)

    @property
    def writes(self) -> int:
        """How many writes of whole pages the guest has done."""
        return int(self._header[_WRITES])

    @property
    def broken(self) -> int:
        """How many pages the guest has found that were not what they say they are."""
        return int(self._header[_BROKEN])
