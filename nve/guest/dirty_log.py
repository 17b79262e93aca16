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
_COUNT, _THROTTLE, _WRITES, _BROKEN = 0, 1, 2, 3
_ASKED, _ANSWERED, _SENT_OCTETS, _HEARD_NS = 4, 5, 6, 7
_LIST = 16

Marks: TypeAlias = NDArray[np.uint8]


def log_size(pages: int) -> int:
    """Return the size of the log in bytes."""
    return _HEADER + pages


class _Counter:
    """A number in the header, which the guest writes and others read."""

    def __init__(self, place: int) -> None:
        self._place = place

    def __get__(self, log: "DirtyLog", _kind: type | None = None) -> int:
        return int(log.header[self._place])

    def __set__(self, log: "DirtyLog", value: int) -> None:
        log.header[self._place] = value


class DirtyLog:
    """The log in a file of `log_size(pages)` bytes."""

    asked = _Counter(_ASKED)
    """How often the service was asked, of two instances the one here."""
    answered = _Counter(_ANSWERED)
    """How often it has answered."""
    sent_octets = _Counter(_SENT_OCTETS)
    """What it has said to the other instance."""
    heard_ns = _Counter(_HEARD_NS)
    """When it last heard of that, by the monotonic clock."""

    def __init__(self, descriptor: int, pages: int) -> None:
        self._map = mmap.mmap(descriptor, log_size(pages))
        self.header: NDArray[np.int64] = np.frombuffer(self._map, np.int64, _HEADER // 8)
        self._marks: Marks = np.frombuffer(self._map, np.uint8, pages, _HEADER)

    # What the guest calls

    def begin(self, numbers: Numbers) -> None:
        """Note that these pages, at most BATCH, are about to be written."""
        self.header[_LIST : _LIST + len(numbers)] = numbers
        self.header[_COUNT] = len(numbers)

    def end(self, numbers: Numbers, writes: int) -> None:
        """Mark these pages, which were written by this number of writes."""
        self.mark(numbers)
        self.header[_COUNT] = 0
        self.header[_WRITES] += writes

    def mark(self, numbers: Numbers) -> None:
        """Mark these pages as written."""
        self._marks[numbers] = 1

    def found_broken(self, pages: int) -> None:
        """Count pages whose content is inconsistent."""
        self.header[_BROKEN] += pages

    @property
    def throttle_pct(self) -> int:
        return int(self.header[_THROTTLE])

    # What the hypervisor calls

    @throttle_pct.setter
    def throttle_pct(self, value: int) -> None:
        """Reduce the guest's writes by this share, in percent."""
        self.header[_THROTTLE] = value

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
        """Return the pages that a stopped guest may have written without marking them.

        The first page is always among them, as the registers are written without notice.
        """
        count = int(self.header[_COUNT])
        return np.append(self.header[_LIST : _LIST + count], 0)

    @property
    def writes(self) -> int:
        """The number of writes of whole pages that the guest has done."""
        return int(self.header[_WRITES])

    @property
    def broken(self) -> int:
        """The number of pages that the guest has found inconsistent."""
        return int(self.header[_BROKEN])
