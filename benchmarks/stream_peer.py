"""The peer of a task whose program is `stream`, in threads of this process."""

import socket
import threading
from hashlib import sha256
from typing import Any, Final, Protocol

from nve.linux.wait import wait_until
from nve.task.programs import pattern

BEGIN_S: Final = 30.0
END_S: Final = 60.0


class StreamTask(Protocol):
    """A running task, with what its peer asks of it."""

    def connections(self) -> list[dict[str, Any]]: ...

    def failure(self) -> str | None: ...


class StreamPeer:
    """Sends the pattern over a connection and reads it, both at once, up to a limit."""

    def __init__(self, connected: socket.socket, octets: int) -> None:
        self._digest, self.received = sha256(), 0
        self._failures: list[OSError] = []
        self._socket, self._octets = connected, octets
        self._may, self._more = 0, threading.Condition()
        connected.settimeout(20)
        self._threads = [
            threading.Thread(target=each, daemon=True) for each in (self._send, self._receive)
        ]
        for thread in self._threads:
            thread.start()

    def go_on(self, until: int) -> None:
        """Raise the limit of what it may send and receive; return when it has begun to."""
        before = self.received
        with self._more:
            self._may = until
            self._more.notify_all()
        wait_until(lambda: None if self.received > before else f"{before} received", BEGIN_S)

    def whole(self, task: StreamTask) -> None:
        """Check that everything comes as it was sent, both ways: the task checks what it reads.

        The kernel of a task that ends before it has read everything resets the connection.
        """
        self.go_on(self._octets + 1)
        for thread in self._threads:
            thread.join(END_S)
        assert self._failures == []
        found = (self.received, self._digest.hexdigest())
        assert found == (self._octets, pattern.digest(self._octets))
        wait_until(lambda: _unread(task), END_S)
        assert task.failure() is None

    def _await(self, place: int) -> None:
        with self._more:
            self._more.wait_for(lambda: place < self._may, 30)

    def _send(self) -> None:
        try:
            sent = 0
            while sent < self._octets:
                self._await(sent)
                part = pattern.part(sent, min(65536, self._octets - sent))
                self._socket.sendall(part)
                sent += len(part)
            self._socket.shutdown(socket.SHUT_WR)
        except OSError as error:
            self._failures.append(error)

    def _receive(self) -> None:
        try:
            self._await(0)
            while said := self._socket.recv(20_000):
                self._digest.update(said)
                self.received += len(said)
                self._await(self.received)
        except OSError as error:
            self._failures.append(error)


def _unread(task: StreamTask) -> str | None:
    states = [each["state"] for each in task.connections()]
    return None if set(states) <= {"LISTEN"} else f"the task still has connections: {states}"
