"""The TCP connection between the processes of a task at its two hosts, and its messages.

    HELLO        a token and whom the task talks to; answered with ANSWER
    CHECKPOINT   the task; answered with ANSWER, which says why if it is refused
    FRAME        a frame that has come to the old host (`nve.task.old_stack`)

A message is its kind, its length, and that many octets.  The receiver trusts nothing: an unexpected
message is a LinkError.
"""

import json
import socket
import struct
from contextlib import suppress
from enum import IntEnum
from typing import Any, Final

from nve.task.checkpoint import LONGEST, PREFIX

_HEADER: Final = struct.Struct("!BI")
_LONGEST_TEXT: Final = 1 << 20
_TCP_USER_TIMEOUT: Final = 18  # linux/tcp.h


class LinkError(RuntimeError):
    """The other host has sent something that is not allowed, or nothing any more."""


class Kind(IntEnum):
    HELLO = 1
    ANSWER = 2
    CHECKPOINT = 3
    FRAME = 4


_LIMITS: Final = {
    Kind.HELLO: _LONGEST_TEXT,
    Kind.ANSWER: _LONGEST_TEXT,
    Kind.CHECKPOINT: LONGEST + PREFIX.size,
    Kind.FRAME: 1 << 18,
}


class TaskLink:
    """One end of the connection."""

    def __init__(self, connected: socket.socket, patience_s: float) -> None:
        self._socket = connected
        connected.settimeout(patience_s)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with suppress(OSError):  # BBR would spend time on probing the rate for so little data
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"reno")
        connected.setsockopt(socket.IPPROTO_TCP, _TCP_USER_TIMEOUT, int(patience_s * 1000))

    def fileno(self) -> int:
        return self._socket.fileno()

    def send(self, kind: Kind, *parts: bytes) -> None:
        """A message, in so many parts.  Raises LinkError."""
        try:
            self._socket.sendall(b"".join((_HEADER.pack(kind, sum(map(len, parts))), *parts)))
        except OSError as error:
            raise LinkError(f"the other host is gone: {error}") from error

    def tell(self, kind: Kind, **told: Any) -> None:
        self.send(kind, json.dumps(told).encode())

    def receive(self, *expected: Kind) -> tuple[Kind, bytearray]:
        """Return the next message, which has to be of one of these kinds.  Raises LinkError."""
        number, length = _HEADER.unpack(self._exactly(_HEADER.size))
        if number not in expected or length > _LIMITS[Kind(number)]:
            raise LinkError(f"the other host says what it may not: {number}, {length} octets")
        return Kind(number), self._exactly(length)

    def heard(self, *expected: Kind) -> dict[str, Any]:
        """Return the content of the next message.  Raises LinkError, also if the message is a
        refusal.
        """
        _, octets = self.receive(*expected)
        try:
            told = json.loads(octets)
        except ValueError:
            raise LinkError("the other host says what is no JSON") from None
        if not isinstance(told, dict):
            raise LinkError("the other host says what is no JSON object")
        if why := told.get("refused"):
            raise LinkError(str(why))
        return told

    def wait_for_ever(self) -> None:
        """Wait without limit from now on: frames may come late, or never."""
        self._socket.settimeout(None)

    def _exactly(self, octets: int) -> bytearray:
        found = bytearray(octets)
        waiting = memoryview(found)
        try:
            while waiting:
                got = self._socket.recv_into(waiting)
                if not got:
                    raise LinkError("the other host has closed the connection")
                waiting = waiting[got:]
        except OSError as error:
            raise LinkError(f"the other host says nothing: {error}") from error
        return found

    def close(self) -> None:
        """Close the connection; a thread that waits for the other side ends."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
