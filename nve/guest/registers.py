"""What a guest has to remember: its registers, in two copies in the first page of its memory.

The two copies are written in turn, each with a checksum.  A guest may be stopped at any point; then
one of them is complete, and the newest complete one counts.
"""

import struct
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Self
from zlib import crc32

_COPY = struct.Struct("<QQQQQQ")  # sequence, writes, disk writes, counter, client, request
_CHECKED = struct.Struct("<I")
COPY_SIZE = _COPY.size + _CHECKED.size
PLACES = (0, 1024)
"""Where the copies are in the page."""


@dataclass(frozen=True)
class Registers:
    """The registers of a guest.

    `writes` and `disk_writes` count the writes so far; the service has counted up to `counter`, for
    `request` of `client`.
    """

    sequence: int = 0
    writes: int = 0
    disk_writes: int = 0
    counter: int = 0
    client: int = 0
    request: int = 0

    def after(self, **changes: int) -> Self:
        """Return the registers that follow these, with some values changed."""
        return replace(self, sequence=self.sequence + 1, **changes)

    @property
    def place(self) -> int:
        """The offset in the page at which they are written."""
        return PLACES[self.sequence % len(PLACES)]

    def octets(self) -> bytes:
        copy = _COPY.pack(
            *(self.sequence, self.writes, self.disk_writes),
            *(self.counter, self.client, self.request),
        )
        return copy + _CHECKED.pack(crc32(copy))


def newest(page: bytes) -> Registers | None:
    """Return the newest registers in a page, or None if no copy there is complete."""
    return max(_whole(page), key=lambda each: each.sequence, default=None)


def _whole(page: bytes) -> Iterable[Registers]:
    for place in PLACES:
        copy = page[place : place + _COPY.size]
        (check,) = _CHECKED.unpack_from(page, place + _COPY.size)
        if crc32(copy) == check:
            yield Registers(*_COPY.unpack(copy))
