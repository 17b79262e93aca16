"""A peer that speaks OpenFlow 1.3 to the NVA but is no NVE."""

import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress

VERSION = 4
HELLO, ERROR, ECHO_REQUEST, ECHO_REPLY, FEATURES_REPLY = 0, 1, 2, 3, 6
PACKET_IN, FLOW_REMOVED, MULTIPART_REPLY, BARRIER_REPLY = 10, 11, 19, 21
FEATURES_REQUEST, MULTIPART_REQUEST = 5, 18
_PORT_DESCRIPTION = 13


def message(kind: int, body: bytes = b"", xid: int = 1, version: int = VERSION) -> bytes:
    return struct.pack("!BBHI", version, kind, 8 + len(body), xid) + body


def features(dpid: int) -> bytes:
    return struct.pack("!QIBB2xII", dpid, 0, 254, 0, 0x4F, 0)


def packet_in(frame: bytes, port: int, table: int = 2) -> bytes:
    """Return the report of a frame that came in at a port, as an NVE sends it."""
    match = struct.pack("!HHIBB", 1, 12, 0x80000004, 0, 0)[:8] + struct.pack("!I4x", port)
    header = struct.pack("!IHBBQ", 0xFFFFFFFF, len(frame), 1, table, 0)
    return message(PACKET_IN, header + match + bytes(2) + frame)


def flow_removed(cookie: int) -> bytes:
    counters = struct.pack("!QHBBIIHHQQ", cookie, 10, 0, 4, 1, 0, 0, 0, 5, 500)
    return message(FLOW_REMOVED, counters + struct.pack("!HH4x", 1, 4))


EVERYTHING = (
    message(HELLO, struct.pack("!HHI", 1, 8, 1 << VERSION)),
    message(ECHO_REQUEST, b"are you there"),
    message(ECHO_REPLY),
    message(ERROR, struct.pack("!HH", 1, 1) + bytes(64)),
    message(FEATURES_REPLY, features(0xBAD)),
    message(BARRIER_REPLY),
    message(MULTIPART_REPLY, struct.pack("!HH4x", 1, 0)),
    message(MULTIPART_REPLY, struct.pack("!HH4x", 9, 0)),
    message(MULTIPART_REPLY, struct.pack("!HH4x", _PORT_DESCRIPTION, 0)),
    packet_in(bytes(60), 10),
    flow_removed(1),
)
"""One message of each kind that an NVE sends."""


class Impostor:
    """A connection to the NVA."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._unread = b""

    def send(self, octets: bytes) -> bool:
        """Send octets; return whether the connection still accepts them."""
        try:
            self._connection.sendall(octets)
        except OSError:
            return False
        return True

    def is_let_in(self) -> bool:
        """Return whether the NVA admits the connection: then it speaks first."""
        with suppress(OSError):
            return self._read()[0] == HELLO
        return False

    def introduce(self, dpid: int) -> bool:
        """Claim to be the switch with a datapath id; return whether the NVA let it finish."""
        if not self.send(EVERYTHING[0]) or not self._answer(FEATURES_REQUEST, features(dpid)):
            return False
        return self._answer(MULTIPART_REQUEST, struct.pack("!HH4x", _PORT_DESCRIPTION, 0))

    def is_sent_away(self) -> bool:
        """Wait until the NVA hangs up; return False if it does not."""
        try:
            while self._read()[0] is not None:
                pass
        except TimeoutError:
            return False
        except OSError:  # it did not even read the last message
            return True
        return True

    def _answer(self, question: int, body: bytes) -> bool:
        with suppress(OSError):
            while True:
                kind, xid = self._read()
                if kind is None:
                    return False
                if kind == question:
                    reply = FEATURES_REPLY if kind == FEATURES_REQUEST else MULTIPART_REPLY
                    return self.send(message(reply, body, xid))
        return False

    def _read(self) -> tuple[int | None, int]:
        """Return kind and number of the next message; kind None at the end."""
        while len(self._unread) < 8 or len(self._unread) < self._length():
            more = self._connection.recv(65536)
            if not more:
                return None, 0
            self._unread += more
        kind, xid = self._unread[1], int.from_bytes(self._unread[4:8], "big")
        self._unread = self._unread[self._length() :]
        return kind, xid

    def _length(self) -> int:
        return max(8, int.from_bytes(self._unread[2:4], "big"))


@contextmanager
def impostor(address: tuple[str, int], timeout_s: float = 10.0) -> Iterator[Impostor]:
    """Connect for the block, from the present network namespace."""
    with socket.create_connection(address, timeout_s) as connection:
        yield Impostor(connection)
