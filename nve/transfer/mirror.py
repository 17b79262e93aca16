"""A mirror of a VM's state at a standby: the messages, and which mirror counts.

    HELLO      as in a transfer (`nve.transfer.framing`); answered with ACK
    PAGES      pages of the next mirror
    MIRRORED   that mirror is complete: its number, its time, and digests; answered with ACK

The first mirror is all of the state, each further one what was written since the one before.  A
mirror is the state of the VM at one moment: it is suspended while its pages are copied (R7.3).  The
standby keeps the pages of a mirror apart until that is complete.  So what has arrived of a mirror
that breaks off is discarded, and the one before counts.
"""

from dataclasses import asdict, dataclass
from typing import Any, Self

from nve.transfer.framing import VERSION, Head, PageRun, ProtocolError, Say, runs_in, told

_STAMP = {"number": int, "taken_ns": int, "memory": str, "disk": str}


@dataclass(frozen=True)
class MirrorStamp:
    """The number and the time of a mirror.  Number 0 is none."""

    number: int = 0
    taken_ns: int = 0
    memory: str = ""
    disk: str = ""
    """Digests of all memory and disk at that time."""

    def row(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def of(cls, given: dict[str, Any]) -> Self:
        """Parse a stamp.  Raises ProtocolError."""
        if {name: type(value) for name, value in given.items()} != _STAMP:
            raise ProtocolError("MIRRORED does not say which mirror that is")
        return cls(**given)

    @property
    def digests(self) -> dict[str, str]:
        return {"memory": self.memory, "disk": self.disk}


@dataclass(frozen=True)
class Mirror:
    """A mirror that was made: a line of mirrors.csv."""

    mirror: int
    """The number of the mirror, from 1."""
    taken_ns: int
    """When the VM was suspended for it."""
    pause_ms: float
    """For how long the VM was suspended."""
    took_ms: float
    """The time from then until the standby had all of it in place."""
    normal_pages: int
    transferred_bytes: int

    def row(self) -> dict[str, Any]:
        return asdict(self)


class MirrorIncoming:
    """Checks the messages at a standby: returns what to do, or raises ProtocolError."""

    def __init__(self, token: str, pages: int) -> None:
        self._token = token
        self._pages = pages
        self._known = False
        self.last = MirrorStamp()
        """The mirror that counts."""

    def hello(self, head: Head, text: bytes) -> None:
        """Check the first message."""
        hello = told(text) if head.say == Say.HELLO else {}
        if self._known or hello.get("token") != self._token:
            raise ProtocolError("this mirror was not registered here")
        if (hello.get("version"), hello.get("pages")) != (VERSION, self._pages):
            raise ProtocolError(f"it has other pages than were registered: {self._pages}")
        self._known = True

    def pages(self, head: Head, octets: bytes) -> list[PageRun]:
        """Return which pages follow a PAGES message; none for another message."""
        if not self._known:
            raise ProtocolError("it has to begin with HELLO")
        if head.say != Say.PAGES:
            return []
        runs, _ = runs_in(head, octets, self._pages)
        return runs

    def whole(self, head: Head, text: bytes) -> MirrorStamp:
        """Return the stamp of the next mirror, which is complete; call `counts` when all of it is
        in place.
        """
        if not self._known or head.say != Say.MIRRORED:
            raise ProtocolError(f"{head.say.name} at the wrong time")
        stamp = MirrorStamp.of(told(text))
        if stamp.number != self.last.number + 1:
            raise ProtocolError(f"mirror {stamp.number} after mirror {self.last.number}")
        return stamp

    def counts(self, stamp: MirrorStamp) -> None:
        """Make this mirror the one to continue from."""
        self.last = stamp
