"""Puts pages into a guest that runs without them: post-copy at the destination (adapter).

The guest has asked the kernel to let it wait for missing pages (userfaultfd), and has passed the
descriptor on.  A page is put in place whole, in one step for the guest, and only once: a second
copy could be older than what the guest has written since.
"""

import ctypes
import mmap
import socket
import sys
import threading
import time
from collections.abc import Callable

from nve.guest.spec import PAGE_SIZE
from nve.hypervisor.realtime import realtime_priority
from nve.linux import userfaultfd
from nve.linux.wait import readable
from nve.transfer.framing import MOST_PAGES, PageRun
from nve.transfer.presence import Presence
from nve.transfer.state import Digests


class MissingPages:
    """The pages of one guest's memory, some of which are missing."""

    def __init__(self, given: socket.socket, pages: int, digests: Digests) -> None:
        """Wait until the guest has passed its descriptor.  Raises OSError if it ends before."""
        told, descriptors, _, _ = socket.recv_fds(given, 8, 1)
        if not descriptors:
            raise OSError("the guest has given no userfaultfd")
        self._address = int.from_bytes(told, sys.byteorder)
        (self._descriptor,) = descriptors
        self._digests = digests
        self._lock = threading.Lock()
        self.presence = Presence(pages)

    def take_away(self, runs: list[PageRun]) -> None:
        """Remove these pages, which come later."""
        for run in runs:
            self.presence.take_away(run)

    def watch(self, ask: Callable[[int], None]) -> None:
        """Request, without end, each page that the guest waits for.  Raises OSError."""
        with realtime_priority():
            while True:
                self._hear(ask)

    def _hear(self, ask: Callable[[int], None]) -> None:
        readable(_Descriptor(self._descriptor), None)
        for address in userfaultfd.faults(self._descriptor):
            page = (address - self._address) // PAGE_SIZE
            with self._lock:
                needed = self.presence.touched(page, time.time_ns())
            if needed is None:
                userfaultfd.wake(self._descriptor, self._address + page * PAGE_SIZE)
            elif needed:
                ask(page)

    def put(self, run: PageRun, buffer: "PageBuffer", place: int) -> None:
        """Put these pages in place from a buffer, starting at octet `place` of it."""
        with self._lock:
            for first, count in self.presence.absent(run):
                begin = place + (first - run[0]) * PAGE_SIZE
                octets = buffer.octets[begin : begin + count * PAGE_SIZE]
                self._digests.take((first, count), octets)
                userfaultfd.copy(
                    self._descriptor,
                    self._address + first * PAGE_SIZE,
                    buffer.address + begin,
                    count * PAGE_SIZE,
                )
                self.presence.arrived((first, count), time.time_ns())


class PageBuffer:
    """Memory in which the pages of one message wait."""

    def __init__(self) -> None:
        memory = mmap.mmap(-1, MOST_PAGES * PAGE_SIZE)
        self.octets = memoryview(memory)
        self._held = ctypes.c_char.from_buffer(memory)
        self.address = ctypes.addressof(self._held)


class _Descriptor:
    def __init__(self, number: int) -> None:
        self._number = number

    def fileno(self) -> int:
        return self._number
