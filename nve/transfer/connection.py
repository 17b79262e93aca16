"""A TCP connection that carries messages of `nve.transfer.framing` (adapter)."""

import fcntl
import socket
import struct
import termios
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from nve.transfer.framing import HEADER, Head, ProtocolError, Say, message, told

_SO_MAX_PACING_RATE = 47  # asm-generic/socket.h
_TCP_USER_TIMEOUT = 18  # linux/tcp.h
_BYTES_ACKED, _LEAST_ROUND_TRIP_US = struct.Struct("=120xQ"), struct.Struct("=148xI")
"""Where linux/tcp.h has them in what TCP_INFO gives."""
_INT = struct.Struct("=i")
_BUFFERS_AT_ONCE = 512


class TransferConnection:
    """A connection; raises OSError if the other side is gone, ProtocolError for a wrong message."""

    def __init__(self, connected: socket.socket, patience_s: float) -> None:
        """Use a connected socket; the connection is given up if nothing arrives for
        `patience_s`.
        """
        self._socket = connected
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connected.setsockopt(socket.IPPROTO_TCP, _TCP_USER_TIMEOUT, int(patience_s * 1e3))

    def limit(self, bandwidth_mbit: float) -> None:
        """Have the kernel pace what is sent from now on."""
        rate = struct.pack("=Q", int(bandwidth_mbit * 1e6 / 8))
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_MAX_PACING_RATE, rate)

    @property
    def arrived(self) -> int:
        """How many octets the other side's kernel has confirmed; 0 when the connection is over."""
        return self._told(_BYTES_ACKED)

    @property
    def round_trip_s(self) -> float:
        """The shortest that there was lately; 0 when the connection is over."""
        return self._told(_LEAST_ROUND_TRIP_US) / 1e6

    @property
    def on_the_way(self) -> int:
        """How many octets were sent and are not confirmed."""
        (octets,) = _INT.unpack(fcntl.ioctl(self._socket, termios.TIOCOUTQ, bytes(_INT.size)))
        return int(octets)

    def _told(self, what: struct.Struct) -> int:
        try:
            told = self._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, what.size)
        except OSError:
            return 0
        (number,) = what.unpack(told)
        return int(number)

    def break_off(self) -> None:
        """Whoever waits for it, or will, gets an OSError.  Safe at any time, from any thread."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def send(self, say: Say, **more: Any) -> None:
        self._socket.sendall(message(say, **more))

    def send_all(self, buffers: Sequence[bytes | memoryview]) -> None:
        """Send the buffers one behind the other, without copying them together."""
        waiting = [memoryview(each) for each in buffers]
        while waiting:
            _drop(waiting, self._socket.sendmsg(waiting[:_BUFFERS_AT_ONCE]))

    def receive_into(self, buffers: Sequence[memoryview]) -> None:
        """Fill these buffers, one behind the other."""
        waiting = list(buffers)
        while waiting:
            some = waiting[:_BUFFERS_AT_ONCE]
            got, *_ = self._socket.recvmsg_into(some, 0, socket.MSG_WAITALL)
            if not got:
                raise ConnectionError("the other side has closed the connection")
            _drop(waiting, got)

    def receive(self) -> tuple[Head, bytes]:
        """Return the next message, without the pages that follow it."""
        head = Head.of(self._exactly(HEADER.size))
        return head, self._exactly(head.follows)

    def await_answer(self, say: Say) -> dict[str, Any]:
        """Return the content of the other side's answer, which has to be of this kind."""
        head, text = self.receive()
        if head.say == Say.ERROR:
            raise ProtocolError(str(told(text).get("why", "it does not say why")))
        if head.say != say:
            raise ProtocolError(f"{head.say.name} is no answer")
        return told(text)

    def _exactly(self, octets: int) -> bytes:
        found = bytearray(octets)
        if octets:
            self.receive_into([memoryview(found)])
        return bytes(found)

    def close(self) -> None:
        self._socket.close()


def _drop(waiting: list[memoryview], octets: int) -> None:
    """Remove the first octets from the buffers that wait."""
    done = 0
    while done < len(waiting) and octets >= len(waiting[done]):
        octets -= len(waiting[done])
        done += 1
    del waiting[:done]
    if octets:
        waiting[0] = waiting[0][octets:]
