"""How pages are encoded in messages: unchanged, as "nothing but zeros", or compressed by zstd.

A sender looks for zeros and compresses only if asked to: both cost time, and a guest's pages may
allow neither.  A receiver understands all encodings.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import zstandard

from nve.guest.spec import PAGE_SIZE
from nve.transfer.convergence import Compression
from nve.transfer.framing import PageRun, ProtocolError, Say, of_pages, size_of

_LEVEL = 1
_EMPTY = bytes(PAGE_SIZE)


@dataclass(frozen=True)
class Encoded:
    """Messages about some pages, as buffers that are sent one behind the other."""

    buffers: Sequence[bytes | memoryview]
    normal_pages: int
    zero_pages: int

    @property
    def octets(self) -> int:
        return sum(len(each) for each in self.buffers)


class Encoder:
    """Encodes the pages of one channel.  `at(run)` returns the content of pages."""

    def __init__(
        self,
        at: Callable[[PageRun], memoryview],
        *,
        zero_pages: bool = False,
        compression: Compression = "none",
    ) -> None:
        self._at = at
        self._zero_pages = zero_pages
        self._compressor = zstandard.ZstdCompressor(_LEVEL) if compression == "zstd" else None

    def encoded(self, runs: Sequence[PageRun]) -> Encoded:
        """Return the messages for these pages, which fit into one message."""
        zeros: list[PageRun] = []
        if self._zero_pages:
            zeros, runs = self._parted(runs)
        buffers: list[bytes | memoryview] = []
        if zeros:
            buffers.append(of_pages(zeros, Say.ZEROS))
        if runs:
            buffers += self._written(runs)
        return Encoded(buffers, size_of(runs), size_of(zeros))

    def _parted(self, runs: Sequence[PageRun]) -> tuple[list[PageRun], list[PageRun]]:
        """Return the pages of nothing but zeros, and the others."""
        parts: dict[bool, list[PageRun]] = {True: [], False: []}
        for first, count in runs:
            octets = self._at((first, count))
            for place in range(count):
                page = octets[place * PAGE_SIZE : (place + 1) * PAGE_SIZE]
                mine = parts[page == _EMPTY]
                if mine and sum(mine[-1]) == first + place and place:
                    mine[-1] = (mine[-1][0], mine[-1][1] + 1)
                else:
                    mine.append((first + place, 1))
        return parts[True], parts[False]

    def _written(self, runs: Sequence[PageRun]) -> list[bytes | memoryview]:
        content = [self._at(run) for run in runs]
        if self._compressor:
            frame = self._compressor.compress(b"".join(content))
            if len(frame) < size_of(runs) * PAGE_SIZE:
                return [of_pages(runs, Say.PACKED, frame)]
        return [of_pages(runs), *content]


def unpacked(frame: bytes, pages: int) -> bytes:
    """Return the content of this number of pages.  Raises ProtocolError."""
    size = pages * PAGE_SIZE
    try:
        if zstandard.frame_content_size(frame) != size:
            raise ProtocolError(f"a frame of another size than {pages} pages")
        return zstandard.ZstdDecompressor().decompress(frame, max_output_size=size)
    except zstandard.ZstdError as error:
        raise ProtocolError(f"this is no frame of zstd: {error}") from None
