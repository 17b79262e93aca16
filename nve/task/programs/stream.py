"""Sends a stream on each of its connections, and reads one: both ways at once.

With `port` it listens; with `connect: {address, port, connections}` it opens connections itself.
On each it sends `octets` octets of `pattern` and closes its direction then.  What comes has to be
of the same pattern: the first octet that is not ends the task with a sentence.
"""

import select
import socket
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from json import dumps, loads
from typing import Any, Final

from nve.task.program import Place, Socket, in_range, listens
from nve.task.programs import pattern

_PATIENCE_MS: Final = 10
_AT_ONCE: Final = 1 << 16
_OF_CONNECT: Final = ("address", "port", "connections")


class StreamCorrupt(RuntimeError):
    """The received octets are not those that were sent."""


@dataclass(frozen=True)
class StreamArguments:
    """The arguments that a scenario may give it."""

    octets: int = 1_000_000
    port: int | None = None
    connect: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        in_range("octets", self.octets, 0, 1 << 50)
        if self.port is not None:
            in_range("port", self.port, 1, 65535)
        asked = self.connect
        if asked is not None and not {"address", "port"} <= {*asked} <= {*_OF_CONNECT}:
            raise ValueError(
                f"connect: give it address, port and, at will, connections; not {', '.join(asked)}"
            )
        if asked is None and self.port is None:
            raise ValueError("a stream listens or connects; give it port or connect")


@dataclass
class StreamProgress:
    """The progress of one connection."""

    sent: int = 0
    received: int = 0
    closed: bool = False
    """Whether this side has closed its direction."""
    ended: bool = False
    """Whether the peer has closed its direction."""


class Program:
    """The streams on all connections."""

    ARGUMENTS: Final = StreamArguments

    def start(self, place: Place) -> None:
        given = StreamArguments(**place.arguments)
        self._octets = given.octets
        self._listening: list[Socket] = []
        self._streams: dict[Socket, StreamProgress] = {}
        if given.port is not None:
            self._listening = place.listen(given.port)
        if asked := given.connect:
            for _ in range(int(asked.get("connections", 1))):
                opened = place.connect(asked["address"], int(asked["port"]))
                opened.setblocking(False)
                self._streams[opened] = StreamProgress()

    def work(self) -> None:
        waiting = select.poll()
        sockets: dict[int, Socket] = {}
        for each in self._listening:
            waiting.register(each, select.POLLIN)
            sockets[each.fileno()] = each
        for each, progress in self._streams.items():
            events = 0 if progress.ended else select.POLLIN
            events |= 0 if progress.closed else select.POLLOUT
            if events:
                waiting.register(each, events)
                sockets[each.fileno()] = each
        for number, events in waiting.poll(_PATIENCE_MS):
            self._serve(sockets[number], events)

    def checkpoint(self) -> tuple[bytes, Sequence[Socket]]:
        state = {
            "octets": self._octets,
            "listening": len(self._listening),
            "streams": [asdict(each) for each in self._streams.values()],
        }
        return dumps(state).encode(), [*self._listening, *self._streams]

    def restore(self, state: bytes, sockets: Sequence[Socket | None]) -> None:
        found = loads(state)
        self._octets = found["octets"]
        first = found["listening"]
        self._listening = [each for each in sockets[:first] if each]
        streams = [StreamProgress(**each) for each in found["streams"]]
        streams += [StreamProgress() for _ in sockets[first + len(streams) :]]
        pairs = zip(sockets[first:], streams, strict=True)
        self._streams = {each: progress for each, progress in pairs if each}

    def _serve(self, each: Socket, events: int) -> None:
        try:
            if listens(each):
                accepted, _ = each.accept()
                accepted.setblocking(False)
                self._streams[accepted] = StreamProgress()
                return
            with suppress(BlockingIOError):
                if events & (select.POLLIN | select.POLLHUP):
                    self._read(each, self._streams[each])
            with suppress(BlockingIOError):
                if events & select.POLLOUT and each in self._streams:
                    self._write(each, self._streams[each])
        except BlockingIOError:
            pass
        except OSError:  # the peer has reset it
            self._end(each)

    def _read(self, each: Socket, progress: StreamProgress) -> None:
        said = each.recv(_AT_ONCE)
        if said != pattern.part(progress.received, len(said)):
            raise StreamCorrupt(
                f"what came is not what was sent, within {len(said)} octets from "
                f"{progress.received} on"
            )
        progress.received += len(said)
        progress.ended |= not said
        if progress.ended and progress.closed:
            self._end(each)

    def _write(self, each: Socket, progress: StreamProgress) -> None:
        left = self._octets - progress.sent
        if left:
            progress.sent += each.send(pattern.part(progress.sent, min(left, _AT_ONCE)))
        else:
            each.shutdown(socket.SHUT_WR)
            progress.closed = True
            if progress.ended:
                self._end(each)

    def _end(self, each: Socket) -> None:
        self._streams.pop(each, None)
        each.close()
