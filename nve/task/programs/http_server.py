"""An HTTP/1.1 server that can move in the middle of a download (RFC 9112).

Every request is answered with the same document: `octets` octets of `pattern`, on the port `port`;
HEAD with what stands before it.
What waits in a connection's send queue moves with it; `send_buffer` bounds it, in octets.
A connection stays open until the client closes it; what cannot be read as a request is answered
with 400, and ends it.
"""

import json
import select
import socket
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Final

from nve.task.program import Place, Socket, in_range, listens
from nve.task.programs import pattern

_SNDBUFFORCE: Final = 32  # asm-generic/socket.h
_PATIENCE_MS: Final = 10
_AT_ONCE: Final = 1 << 18
_LONGEST_REQUEST: Final = 16384
_END: Final = b"\r\n\r\n"
_BAD: Final = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


@dataclass(frozen=True)
class HttpArguments:
    """The arguments that a scenario may give it."""

    octets: int = 1_000_000
    send_buffer: int = 0
    """0: as the kernel decides."""
    port: int = 80

    def __post_init__(self) -> None:
        in_range("octets", self.octets, 0, 1 << 50)
        in_range("send_buffer", self.send_buffer, 0, 1 << 30)
        in_range("port", self.port, 1, 65535)


@dataclass
class HttpExchange:
    """What the server has to remember of a connection."""

    asked: str = ""
    """The part of the next request that has come (latin-1)."""
    head: str = ""
    """What is left to send of an answer's head."""
    place: int = 0
    end: int = 0
    """Octets of the document to send, and where that ends."""
    closing: bool = False

    @property
    def answering(self) -> bool:
        return bool(self.head) or self.place < self.end


class Program:
    """The HTTP server."""

    ARGUMENTS: Final = HttpArguments

    def start(self, place: Place) -> None:
        given = HttpArguments(**place.arguments)
        self._octets, self._send_buffer = given.octets, given.send_buffer
        self._listening = place.listen(given.port)
        self._served: dict[Socket, HttpExchange] = {}

    def work(self) -> None:
        waiting = select.poll()
        sockets: dict[int, Socket] = {}
        for each in self._listening:
            waiting.register(each, select.POLLIN)
            sockets[each.fileno()] = each
        for each, exchange in self._served.items():
            waiting.register(each, select.POLLOUT if exchange.answering else select.POLLIN)
            sockets[each.fileno()] = each
        for number, _ in waiting.poll(_PATIENCE_MS):
            self._serve(sockets[number])

    def checkpoint(self) -> tuple[bytes, Sequence[Socket]]:
        state = {
            "octets": self._octets,
            "send_buffer": self._send_buffer,
            "listening": len(self._listening),
            "served": [asdict(each) for each in self._served.values()],
        }
        return json.dumps(state).encode(), [*self._listening, *self._served]

    def restore(self, state: bytes, sockets: Sequence[Socket | None]) -> None:
        found = json.loads(state)
        self._octets, self._send_buffer = found["octets"], found["send_buffer"]
        first = found["listening"]
        self._listening = [each for each in sockets[:first] if each]
        exchanges = [HttpExchange(**each) for each in found["served"]]
        accepted = sockets[first + len(exchanges) :]
        pairs = zip(sockets[first:], exchanges + [HttpExchange() for _ in accepted], strict=True)
        self._served = {each: exchange for each, exchange in pairs if each}

    def _serve(self, each: Socket) -> None:
        try:
            if listens(each):
                accepted, _ = each.accept()
                accepted.setblocking(False)
                if self._send_buffer:
                    accepted.setsockopt(socket.SOL_SOCKET, _SNDBUFFORCE, self._send_buffer)
                self._served[accepted] = HttpExchange()
            elif self._served[each].answering:
                self._answer(each, self._served[each])
            else:
                self._read(each, self._served[each])
        except BlockingIOError:
            pass
        except OSError:  # the client has reset it
            self._end(each)

    def _read(self, each: Socket, exchange: HttpExchange) -> None:
        said = each.recv(_LONGEST_REQUEST)
        exchange.asked += said.decode("latin-1")
        if not said:
            self._end(each)
        elif _END.decode() in exchange.asked:
            request, _, exchange.asked = exchange.asked.partition(_END.decode())
            method = request.partition(" ")[0]
            if method in ("GET", "HEAD"):
                exchange.head = (
                    "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\n"
                    f"Content-Length: {self._octets}\r\n\r\n"
                )
                exchange.place, exchange.end = 0, self._octets if method == "GET" else 0
            else:
                self._refuse(exchange)
        elif len(exchange.asked) > _LONGEST_REQUEST:
            self._refuse(exchange)

    @staticmethod
    def _refuse(exchange: HttpExchange) -> None:
        exchange.head, exchange.closing = _BAD.decode(), True

    def _answer(self, each: Socket, exchange: HttpExchange) -> None:
        if exchange.head:
            sent = each.send(exchange.head.encode("latin-1"))
            exchange.head = exchange.head[sent:]
        if not exchange.head and exchange.place < exchange.end:
            left = min(_AT_ONCE, exchange.end - exchange.place)
            exchange.place += each.send(pattern.part(exchange.place, left))
        if exchange.closing and not exchange.answering:
            each.shutdown(socket.SHUT_WR)
            exchange.closing = False

    def _end(self, each: Socket) -> None:
        self._served.pop(each, None)
        each.close()
