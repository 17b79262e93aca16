"""Sends one netlink message and reads its answer within microseconds, for what a suspended VM waits
on.

pyroute2 does everything else: it takes milliseconds for a message, has a socket for each thread (in
the namespace that the thread is in at the moment), and cannot encode two of the messages used here.
"""

import os
import socket
import struct
from collections.abc import Sequence

from nve.linux.namespace import inside

REQUEST, ACK, ECHO = 1, 4, 8
"""linux/netlink.h, NLM_F_*."""
ATTRIBUTE = struct.Struct("=HH")
"""Length and kind of an attribute (linux/rtnetlink.h)."""
NESTED = 0x8000
"""linux/netlink.h, NLA_F_NESTED, in the kind of an attribute."""

_HEADER = struct.Struct("=IHHII")  # length, kind, flags, sequence, port
_ERROR = 2
_LONGEST = 16384


class Netlink:
    """A routing socket in the network namespace of a process."""

    def __init__(self, pid: int) -> None:
        with inside(pid):
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)

    def ask(self, kind: int, flags: int, body: bytes) -> bytes:
        """Return the body of the answer.  Raises OSError with the kernel's refusal."""
        self._socket.send(_message(kind, flags, body))
        return self._answer()

    def tell(self, kind: int, bodies: Sequence[bytes]) -> None:
        """Send several messages of a kind at once, and await an acknowledgement of each.

        Raises OSError with the first refusal.
        """
        self._socket.send(b"".join(_message(kind, REQUEST | ACK, body) for body in bodies))
        refusals = []
        for _ in bodies:
            try:
                self._answer()
            except OSError as error:
                refusals.append(error)
        if refusals:
            raise refusals[0]

    def _answer(self) -> bytes:
        reply = self._socket.recv(_LONGEST)
        _, kind, _, _, _ = _HEADER.unpack_from(reply)
        if kind == _ERROR:
            (error,) = struct.unpack_from("=i", reply, _HEADER.size)
            if error:
                raise OSError(-error, os.strerror(-error))
        return reply[_HEADER.size :]

    def close(self) -> None:
        self._socket.close()


def _message(kind: int, flags: int, body: bytes) -> bytes:
    return _HEADER.pack(_HEADER.size + len(body), kind, flags, 0, 0) + body


def attributes(octets: bytes) -> dict[int, bytes]:
    """Return the attributes encoded in `octets`, by their kind."""
    found = {}
    place = 0
    while place + ATTRIBUTE.size <= len(octets):
        length, kind = ATTRIBUTE.unpack_from(octets, place)
        found[kind & ~NESTED] = octets[place + ATTRIBUTE.size : place + length]
        place += (length + 3) & ~3
    return found


def attribute(kind: int, content: bytes) -> bytes:
    """Return an encoded attribute, padded to a multiple of four octets."""
    length = ATTRIBUTE.size + len(content)
    return ATTRIBUTE.pack(length, kind) + content + bytes(-length % 4)
