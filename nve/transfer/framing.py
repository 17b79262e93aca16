"""What is on the wire between sender and receiver, and who may say what when.

A message is a header, then what the header says:

    HELLO    who one is (a token) and how many pages there are; answered with ACK, or with ERROR
    PAGES    runs of pages (first, how many), then their content, in this order
    ROUND    a round is over; answered with ACK when all of it is in place
    STOPPED  the VM stands still: what follows is urgent; not answered
    FINISH   all is sent; answered with ACK, and nothing but DIGEST may follow
    DIGEST   answered with DIGEST: what the receiver has been given

A receiver believes nothing: what is out of order, out of bounds or too long is a ProtocolError.
"""

import json
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, TypeAlias

VERSION = 1
MOST_RUNS = 256
LONGEST_TEXT = 4096

HEADER = struct.Struct("!4sBxHI")
"""Mark, kind, count of runs, octets of text."""
_MARK = b"vmmT"
_RUN = struct.Struct("!II")


class ProtocolError(Exception):
    """The other side has said what it may not say."""


class Say(IntEnum):
    HELLO = 1
    PAGES = 2
    ROUND = 3
    FINISH = 4
    DIGEST = 5
    ACK = 6
    ERROR = 7
    STOPPED = 8


PageRun: TypeAlias = tuple[int, int]
"""First page and how many."""


@dataclass(frozen=True)
class Head:
    """A header: what it is, and what follows."""

    say: Say
    runs: int = 0
    text: int = 0

    def octets(self) -> bytes:
        return HEADER.pack(_MARK, self.say, self.runs, self.text)

    @property
    def follows(self) -> int:
        """How many octets belong to the message, without the pages."""
        return self.runs * _RUN.size + self.text

    @classmethod
    def of(cls, octets: bytes) -> "Head":
        """Raises ProtocolError."""
        mark, kind, runs, text = HEADER.unpack(octets)
        if mark != _MARK or kind not in set(Say):
            raise ProtocolError("this is no message of a transfer")
        has_runs, has_text = kind == Say.PAGES, kind in (Say.HELLO, Say.DIGEST, Say.ERROR)
        if runs > MOST_RUNS or (runs > 0) != has_runs or text > LONGEST_TEXT:
            raise ProtocolError(f"{Say(kind).name} with {runs} runs and {text} octets of text")
        if text and not has_text:
            raise ProtocolError(f"{Say(kind).name} has no text")
        return cls(Say(kind), runs, text)


def message(say: Say, **told: Any) -> bytes:
    """A message without pages."""
    text = json.dumps(told).encode() if told else b""
    return Head(say, 0, len(text)).octets() + text


def told(text: bytes) -> dict[str, Any]:
    """What a message says.  Raises ProtocolError."""
    try:
        found = json.loads(text or b"{}")
    except ValueError as error:
        raise ProtocolError("its text is no JSON") from error
    if not isinstance(found, dict):
        raise ProtocolError("its text is no JSON object")
    return found


def pages_ahead(runs: Sequence[PageRun]) -> bytes:
    """What goes ahead of the content of these pages."""
    head = Head(Say.PAGES, len(runs)).octets()
    return head + b"".join(_RUN.pack(first, count) for first, count in runs)


def runs_in(octets: bytes, pages: int) -> list[PageRun]:
    """The runs of a message, of a state of so many pages.  Raises ProtocolError."""
    runs = list(_RUN.iter_unpack(octets))
    for first, count in runs:
        if not count or first + count > pages:
            raise ProtocolError(f"{count} pages from {first} of {pages}")
    return runs


def in_runs(numbers: Iterable[int], boundary: int, most_pages: int) -> Iterator[list[PageRun]]:
    """Page numbers in ascending order, as messages of so many pages at most; a run does not go
    across `boundary`."""
    runs: list[PageRun] = []
    held = 0
    for number in numbers:
        goes_on = bool(runs) and number == sum(runs[-1]) and number != boundary
        if held == most_pages or (len(runs) == MOST_RUNS and not goes_on):
            yield runs
            runs, held, goes_on = [], 0, False
        if goes_on:
            runs[-1] = (runs[-1][0], runs[-1][1] + 1)
        else:
            runs.append((number, 1))
        held += 1
    if runs:
        yield runs


class Incoming:
    """What a receiver makes of messages: what to do, or ProtocolError."""

    def __init__(self, token: str, pages: int) -> None:
        self._token = token
        self._pages = pages
        self._known = False
        self.finished = False
        self.urgent = False
        """The VM stands still and waits for what comes."""

    def pages(self, octets: bytes) -> list[PageRun]:
        """Where the pages go that follow a PAGES message."""
        if not self._known or self.finished:
            raise ProtocolError("PAGES at the wrong time")
        return runs_in(octets, self._pages)

    def other(self, head: Head, text: bytes) -> Say | None:
        """A message without pages: what to answer it with, if it is answered."""
        if head.say == Say.HELLO and not self._known:
            hello = told(text)
            if hello.get("token") != self._token:
                raise ProtocolError("this transfer was not registered here")
            if (hello.get("version"), hello.get("pages")) != (VERSION, self._pages):
                raise ProtocolError(f"it has other pages than were registered: {self._pages}")
            self._known = True
            return Say.ACK
        if not self._known:
            raise ProtocolError("it has to begin with HELLO")
        if head.say == Say.DIGEST and self.finished:
            return Say.DIGEST
        if head.say == Say.STOPPED and not self.urgent and not self.finished:
            self.urgent = True
            return None
        if head.say in (Say.ROUND, Say.FINISH) and not self.finished:
            self.finished = head.say == Say.FINISH
            self.urgent = False
            return Say.ACK
        raise ProtocolError(f"{head.say.name} at the wrong time")
