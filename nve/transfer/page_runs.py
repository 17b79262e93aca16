"""Page numbers as runs: which pages of a state are sent, and in which order they are pushed."""

from collections.abc import Sequence

import numpy as np

from nve.guest.pages import Numbers
from nve.transfer.framing import MOST_RUNS, PageRun


def runs_of(numbers: Numbers, boundary: int) -> list[PageRun]:
    """Return page numbers in ascending order as runs; no run crosses `boundary`."""
    if not len(numbers):
        return []
    begins = (np.diff(numbers) != 1) | (numbers[1:] == boundary)
    places = np.concatenate([[0], np.flatnonzero(begins) + 1])
    counts = np.diff(np.append(places, len(numbers)))
    return list(zip(numbers[places].tolist(), counts.tolist(), strict=True))


def together(pages: int, *numbers: Numbers) -> Numbers:
    """Return the union of these page numbers in ascending order; `pages` is the size of the
    state.
    """
    marks = np.zeros(pages, np.bool_)
    for each in numbers:
        marks[each] = True
    return np.flatnonzero(marks)


def bitmap_of(numbers: Numbers, pages: int) -> bytes:
    """Return a bit for each of `pages` pages, the first in the lowest bit of the first octet."""
    bits = np.zeros(pages, np.uint8)
    bits[numbers] = 1
    return np.packbits(bits, bitorder="little").tobytes()


class Remaining:
    """The pages that a post-copy still has to push.

    They go in order, continuing after a page that the guest has waited for: what it touches next is
    often near.
    """

    def __init__(self, runs: Sequence[PageRun], pages: int) -> None:
        self._waiting = bytearray(pages)
        for first, count in runs:
            self._waiting[first : first + count] = b"\x01" * count
        self._next = 0

    def __len__(self) -> int:
        return self._waiting.count(1)

    def asked(self, page: int) -> None:
        """Record that this page is sent at once."""
        self._waiting[page] = 0
        self._next = page + 1

    def take(self, most: int) -> list[PageRun]:
        """Return the next pages, at most `most`; none if nothing is left."""
        runs: list[PageRun] = []
        room = most
        while room and len(runs) < MOST_RUNS:
            first = self._waiting.find(1, self._next)
            if first < 0 and self._next:  # from the beginning again
                self._next = 0
                continue
            if first < 0:
                break
            end = self._waiting.find(0, first, first + room)
            count = (min(first + room, len(self._waiting)) if end < 0 else end) - first
            self._waiting[first : first + count] = bytes(count)
            runs.append((first, count))
            self._next, room = first + count, room - count
        return runs
