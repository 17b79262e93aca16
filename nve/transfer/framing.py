"""What is on the wire between sender and receiver, and who may say what when.

A message is a header, then what the header says:

    HELLO    who one is: a token, how many pages there are, and which channel; answered with ACK, or
             with ERROR.  On the first channel it may name a `mirror`, by the digests of its memory
             and its disk; answered with MIRRORED, which says whether the receiver `holds` that.
             If so, only pages that were written since follow
    PAGES    runs of pages (first, how many), then their content, in this order
    ZEROS    runs of pages that hold nothing but zeros
    PACKED   runs of pages, then their content as one frame of zstd (RFC 8878)
    ROUND    a round is over; answered with ACK when all of it is in place
    STOPPED  the VM stands still: what follows is urgent; not answered
    LATER    post-copy: these pages of the memory, a bit for each, come when the VM runs again; what
             is there of them is too old.  Answered with ACK: it may run
    ASK      the other way, on the channel for that: the guest waits for this page
    FINISH   all is sent; answered with ACK, and nothing but DIGEST may follow
    DIGEST   answered with DIGEST: what the receiver has been given
    MIRRORED also of a mirror alone (`nve.transfer.mirror`)

One TCP connection is the first channel.  Others carry pages beside it, and say when a round is over
on them; in a post-copy one more is for the pages that the guest waits for, so that none of these
queues behind others.

A receiver believes nothing: what is out of order, out of bounds or too long is a ProtocolError.
"""

import json
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, TypeAlias

VERSION = 3
MOST_RUNS = 256
MOST_PAGES = 256
"""The largest number of pages in one message."""
LONGEST_TEXT = 4096
LONGEST_FRAME = 2 << 20
LONGEST_BITMAP = 4 << 20

FIRST_CHANNEL = 0
ASKED_CHANNEL = -1
"""The channel of the pages that the guest waits for."""

HEADER = struct.Struct("!4sBxHI")
"""Mark, kind, count of runs, octets of text."""
_MARK = b"vmmT"
_RUN = struct.Struct("!II")


class ProtocolError(Exception):
    """The other side has sent something that the protocol does not allow."""


class Say(IntEnum):
    HELLO = 1
    PAGES = 2
    ROUND = 3
    FINISH = 4
    DIGEST = 5
    ACK = 6
    ERROR = 7
    STOPPED = 8
    ZEROS = 9
    PACKED = 10
    LATER = 11
    ASK = 12
    MIRRORED = 13


CONTENT = frozenset({Say.PAGES, Say.ZEROS, Say.PACKED})
_HAVE_RUNS = CONTENT | {Say.ASK}
_LONGEST = {
    **dict.fromkeys((Say.HELLO, Say.DIGEST, Say.ERROR, Say.MIRRORED), LONGEST_TEXT),
    Say.PACKED: LONGEST_FRAME,
    Say.LATER: LONGEST_BITMAP,
}
"""The largest text, in octets, of each kind of message that has one."""

PageRun: TypeAlias = tuple[int, int]
"""The first page of a run, and the number of pages."""


@dataclass(frozen=True)
class Head:
    """The header of a message: its kind, and what follows."""

    say: Say
    runs: int = 0
    text: int = 0

    def octets(self) -> bytes:
        return HEADER.pack(_MARK, self.say, self.runs, self.text)

    @property
    def follows(self) -> int:
        """How many octets belong to the message, without the content of PAGES."""
        return self.runs * _RUN.size + self.text

    @classmethod
    def of(cls, octets: bytes) -> "Head":
        """Parse a header.  Raises ProtocolError."""
        mark, kind, runs, text = HEADER.unpack(octets)
        if mark != _MARK or kind not in set(Say):
            raise ProtocolError("this is no message of a transfer")
        say = Say(kind)
        longest = _LONGEST.get(say, 0)
        if runs > MOST_RUNS or (runs > 0) != (say in _HAVE_RUNS) or text > longest:
            raise ProtocolError(f"{say.name} with {runs} runs and {text} octets of text")
        return cls(say, runs, text)


def message(say: Say, **told: Any) -> bytes:
    """Return a message without pages."""
    text = json.dumps(told).encode() if told else b""
    return Head(say, 0, len(text)).octets() + text


def told(text: bytes) -> dict[str, Any]:
    """Return the content of a message's text.  Raises ProtocolError."""
    try:
        found = json.loads(text or b"{}")
    except ValueError as error:
        raise ProtocolError("its text is no JSON") from error
    if not isinstance(found, dict):
        raise ProtocolError("its text is no JSON object")
    return found


def of_pages(runs: Sequence[PageRun], say: Say = Say.PAGES, frame: bytes = b"") -> bytes:
    """Return a message about these pages, or the part of it before their content."""
    head = Head(say, len(runs), len(frame)).octets()
    return head + b"".join(_RUN.pack(first, count) for first, count in runs) + frame


def later(bitmap: bytes) -> bytes:
    """Return a message that says which pages come later: the first in the lowest bit of the first
    octet.
    """
    return Head(Say.LATER, 0, len(bitmap)).octets() + bitmap


def runs_in(head: Head, octets: bytes, pages: int) -> tuple[list[PageRun], bytes]:
    """Return the runs of a message, and the frame that it holds, if any.

    `pages` is the size of the state.  Raises ProtocolError.
    """
    behind = head.runs * _RUN.size
    runs = list(_RUN.iter_unpack(octets[:behind]))
    for first, count in runs:
        if not count or first + count > pages:
            raise ProtocolError(f"{count} pages from {first} of {pages}")
    if (together := size_of(runs)) > MOST_PAGES:
        raise ProtocolError(f"{together} pages in one message")
    return runs, octets[behind:]


def size_of(runs: Iterable[PageRun]) -> int:
    """Return how many pages these runs have."""
    return sum(count for _, count in runs)


def in_messages(runs: Iterable[PageRun], most_pages: int = MOST_PAGES) -> Iterator[list[PageRun]]:
    """Yield the runs in groups that fit into messages of `most_pages`, in their order.

    They are made one by one, so that a suspended VM does not wait for all of them."""
    made: list[PageRun] = []
    room = most_pages
    for first, count in runs:
        while count:
            if not room or len(made) == MOST_RUNS:
                yield made
                made, room = [], most_pages
            taken = min(room, count)
            made.append((first, taken))
            first, count, room = first + taken, count - taken, room - taken
    if made:
        yield made


class Incoming:
    """Checks the messages of one channel at a receiver: returns what to do, or raises
    ProtocolError.
    """

    def __init__(self, token: str, pages: int, memory_pages: int) -> None:
        self._token = token
        self._pages = pages
        self._memory_pages = memory_pages
        self.channel: int | None = None
        """Which it is, when it has said so."""
        self.finished = False
        self.urgent = False
        """The VM stands still and waits for what comes."""
        self.resumed = False
        """The VM runs again although pages are missing."""
        self.mirror: dict[str, str] | None = None
        """The digests of the mirror that the sender has marked writes since, if it names one."""

    def pages(self, head: Head, octets: bytes) -> tuple[list[PageRun], bytes]:
        """Return the pages that a message is about, and the frame that it holds."""
        if self.channel is None or self.finished:
            raise ProtocolError(f"{head.say.name} at the wrong time")
        return runs_in(head, octets, self._pages)

    def later(self, bitmap: bytes) -> list[PageRun]:
        """Return the pages that come later."""
        if not self.urgent:
            raise ProtocolError("LATER at the wrong time")
        if len(bitmap) != (self._memory_pages + 7) // 8:
            raise ProtocolError(f"a bitmap of {len(bitmap)} octets")
        self.urgent, self.resumed = False, True
        return runs_of_bits(bitmap, self._memory_pages)

    def other(self, head: Head, text: bytes) -> Say | None:
        """Handle a message without pages; return the kind of its answer, if it is answered."""
        if head.say == Say.HELLO and self.channel is None:
            hello = told(text)
            if hello.get("token") != self._token:
                raise ProtocolError("this transfer was not registered here")
            if (hello.get("version"), hello.get("pages")) != (VERSION, self._pages):
                raise ProtocolError(f"it has other pages than were registered: {self._pages}")
            channel = hello.get("channel")
            if not isinstance(channel, int) or channel < ASKED_CHANNEL:
                raise ProtocolError(f"{channel!r} is no channel")
            self.mirror = _mirror_in(hello, channel)
            self.channel = channel
            return Say.MIRRORED if self.mirror else Say.ACK
        if self.channel is None:
            raise ProtocolError("it has to begin with HELLO")
        if head.say == Say.ROUND and not self.finished:
            return Say.ACK
        if self.channel != FIRST_CHANNEL:
            raise ProtocolError(f"{head.say.name} on another channel than the first")
        if head.say == Say.DIGEST and self.finished:
            return Say.DIGEST
        if head.say == Say.STOPPED and not (self.urgent or self.finished or self.resumed):
            self.urgent = True
            return None
        if head.say == Say.FINISH and not self.finished:
            self.finished = True
            self.urgent = False
            return Say.ACK
        raise ProtocolError(f"{head.say.name} at the wrong time")


def _mirror_in(hello: dict[str, Any], channel: int) -> dict[str, str] | None:
    """Return the digests of the mirror that a HELLO names.  Raises ProtocolError."""
    named = hello.get("mirror")
    if named is None:
        return None
    if channel != FIRST_CHANNEL:
        raise ProtocolError("a mirror is named on the first channel only")
    if not isinstance(named, dict) or set(named) != {"memory", "disk"}:
        raise ProtocolError("a mirror is named by the digests of memory and disk")
    if not all(isinstance(digest, str) and digest for digest in named.values()):
        raise ProtocolError("a mirror is named by the digests of memory and disk")
    return named


def runs_of_bits(bitmap: bytes, pages: int) -> list[PageRun]:
    """Return the runs of ones among the first `pages` bits."""
    bits = f"{int.from_bytes(bitmap, 'little'):b}"[::-1].ljust(pages, "0")[:pages]
    found: list[PageRun] = []
    at = 0
    while (begin := bits.find("1", at)) >= 0:
        at = bits.find("0", begin)
        at = pages if at < 0 else at
        found.append((begin, at - begin))
    return found
