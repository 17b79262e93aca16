"""Which pages of its memory a process has written since the last call, as the kernel knows it.

    PAGEMAP_SCAN   since Linux 6.7, with userfaultfd's asynchronous write protection, which the
                   process itself asks for (`protect`)
    soft-dirty     if the kernel has it, as Debian 12's does

Neither is needed to move a guest, whose own log is the same on every kernel; they verify that log.
See Documentation/admin-guide/mm/pagemap.rst and soft-dirty.rst.
"""

import ctypes
import fcntl
import mmap
import os
import struct
from array import array
from pathlib import Path

from nve.linux.userfaultfd import (
    PAGE_SIZE,
    WP_ASYNC,
    WP_UNPOPULATED,
    WRITE_PROTECT,
    registered,
)

_WP_MATCHING, _CHECK_WPASYNC, _IS_WRITTEN = 1, 2, 2
_REGION = struct.Struct("=QQQ")  # start, end, categories
_SCAN = struct.Struct("=12Q")
_REGIONS_AT_ONCE = 4096
_SOFT_DIRTY = 1 << 55

_PAGEMAP_SCAN = 3 << 30 | _SCAN.size << 16 | ord("f") << 8 | 16


def protect(address: int, length: int) -> int:
    """Make the kernel note what this process writes there, until the returned descriptor is closed.

    Raises OSError if the kernel does not support it.
    """
    return registered(address, length, WRITE_PROTECT, WP_ASYNC | WP_UNPOPULATED)


class PagemapScan:
    """Reads the written pages of a process that has `protect`ed its memory."""

    def __init__(self, pid: int, address: int, pages: int) -> None:
        self._pagemap = os.open(f"/proc/{pid}/pagemap", os.O_RDONLY | os.O_CLOEXEC)
        self._begin, self._end = address, address + pages * PAGE_SIZE
        self._found = mmap.mmap(-1, _REGIONS_AT_ONCE * _REGION.size)
        self._buffer = ctypes.c_char.from_buffer(self._found)

    def written(self) -> list[int]:
        """Return the numbers of the pages written since the last call, in order.

        The first call returns all pages that were ever written.
        """
        numbers: list[int] = []
        place = self._begin
        while place < self._end:
            argument = bytearray(
                _SCAN.pack(
                    *(_SCAN.size, _WP_MATCHING | _CHECK_WPASYNC, place, self._end, 0),
                    *(ctypes.addressof(self._buffer), _REGIONS_AT_ONCE, 0),
                    *(0, _IS_WRITTEN, 0, _IS_WRITTEN),
                )
            )
            count = fcntl.ioctl(self._pagemap, _PAGEMAP_SCAN, argument)
            place = _SCAN.unpack(argument)[4]
            for region in range(count):
                start, end, _ = _REGION.unpack_from(self._found, region * _REGION.size)
                first, behind = (each - self._begin for each in (start, end))
                numbers += range(first // PAGE_SIZE, behind // PAGE_SIZE)
        return numbers

    def close(self) -> None:
        os.close(self._pagemap)


class SoftDirty:
    """Reads the written pages of any process, if the kernel supports it
    (`soft_dirty_available`).
    """

    def __init__(self, pid: int, address: int, pages: int) -> None:
        self._process = Path(f"/proc/{pid}")
        self._first, self._pages = address // PAGE_SIZE, pages

    def written(self) -> list[int]:
        """Return the numbers of the pages written since the last call; the process has to be
        stopped.
        """
        with (self._process / "pagemap").open("rb") as pagemap:
            pagemap.seek(8 * self._first)
            found = soft_dirty(pagemap.read(8 * self._pages))
        (self._process / "clear_refs").write_text("4", encoding="ascii")
        return found

    def close(self) -> None:
        """Do nothing: no resource is held."""


def soft_dirty(entries: bytes) -> list[int]:
    """Return the positions of the entries of a pagemap whose page was written."""
    words = array("Q", entries)
    return [place for place, word in enumerate(words) if word & _SOFT_DIRTY]


def soft_dirty_available() -> bool:
    """Return whether the kernel notes writes, by writing a page and looking."""
    page = mmap.mmap(-1, PAGE_SIZE)
    page[0] = 1
    held = ctypes.c_char.from_buffer(page)
    own = SoftDirty(os.getpid(), ctypes.addressof(held), 1)
    return own.written() == [0]
