"""Who talks to a task that moves notices an octet that is not the one that was sent."""

import socket
import threading
from contextlib import closing
from typing import Any

import pytest

from benchmarks.stream_peer import StreamPeer
from nve.task.programs import pattern

OCTETS = 50_000


def sends(there: socket.socket, stream: bytes) -> None:
    there.sendall(stream)
    there.shutdown(socket.SHUT_WR)
    while there.recv(65536):
        pass


class Task:
    """A task that has read everything, and has found no fault in it or one."""

    def __init__(self, failure: str | None) -> None:
        self._failure = failure

    def connections(self) -> list[dict[str, Any]]:
        return [{"state": "LISTEN"}]

    def failure(self) -> str | None:
        return self._failure


@pytest.mark.parametrize("fault", ["none", "changed", "missing", "the other way"])
def test_a_stream_is_whole_or_not(fault: str) -> None:
    stream = bytearray(pattern.part(0, OCTETS))
    assert len(stream) == OCTETS
    if fault == "changed":
        stream[30_000] ^= 1
    elif fault == "missing":
        del stream[-1]
    here, there = socket.socketpair()
    with closing(here), closing(there):
        other = threading.Thread(target=sends, args=(there, bytes(stream)))
        other.start()
        peer = StreamPeer(here, OCTETS)
        task = Task("what came is not what was sent" if fault == "the other way" else None)
        if fault == "none":
            peer.whole(task)
        else:
            with pytest.raises(AssertionError):
                peer.whole(task)
        other.join()
