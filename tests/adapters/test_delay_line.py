"""The turns of the delay line, on sockets of this machine: nothing waits for what is slower."""

import random
import socket
from collections.abc import Iterator

import pytest

from topologies.emulation.delay_line import BATCH, DelayLine, DelayQueue, Direction

SO_TIMESTAMPNS = 35
SLOW_MS, FAST_MS = 300.0, 1.0


def bound() -> socket.socket:
    opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    opened.bind(("127.0.0.1", 0))
    opened.setblocking(False)
    return opened


class Ways:
    """Two ways to the same end, one slow and one fast."""

    def __init__(self) -> None:
        self.end = bound()
        self.entries = [bound(), bound()]
        self.outside = bound()
        directions = []
        for entry, delay_ms in zip(self.entries, (SLOW_MS, FAST_MS), strict=True):
            entry.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
            leaving = bound()
            leaving.connect(self.end.getsockname())
            queue = DelayQueue(round(delay_ms * 1e6), 0, random.Random(1))
            directions.append(Direction(f"{delay_ms} ms", entry, leaving, queue))
        self.line = DelayLine(directions)

    def come(self, way: int, frame: bytes) -> None:
        self.outside.sendto(frame, self.entries[way].getsockname())

    def turn_until(self, way: int, *, waiting: int = 0, forwarded: int = 0) -> None:
        queue = self.line.directions[way].queue
        while len(queue.frames) < waiting or queue.forwarded < forwarded:
            self.line.turn()

    def left(self) -> list[bytes]:
        frames = []
        while True:
            try:
                frames.append(self.end.recv(100))
            except BlockingIOError:
                return frames

    def close(self) -> None:
        leaving = [direction.sender for direction in self.line.directions]
        for each in (self.end, self.outside, *self.entries, *leaving):
            each.close()


@pytest.fixture
def ways() -> Iterator[Ways]:
    opened = Ways()
    yield opened
    opened.close()


def test_a_frame_on_a_fast_link_does_not_wait_for_one_on_a_slow_link(ways: Ways) -> None:
    ways.come(0, b"slow")
    ways.turn_until(0, waiting=1)
    ways.come(1, b"fast")
    ways.turn_until(0, forwarded=1)

    assert ways.left() == [b"fast", b"slow"]


def test_a_burst_is_taken_in_whole_and_in_order(ways: Ways) -> None:
    frames = [b"%d" % number for number in range(3 * BATCH + 1)]
    for frame in frames:
        ways.come(1, frame)
    ways.turn_until(1, forwarded=len(frames))

    assert ways.left() == frames


def test_a_link_that_has_become_faster_is_looked_at_as_often_as_that_needs(ways: Ways) -> None:
    """What waits already goes on waiting as long as when it came."""
    ways.line.take_delays([{"delay_ms": SLOW_MS}])
    ways.come(1, b"slow")
    ways.turn_until(1, waiting=1)
    ways.line.take_delays([{"delay_ms": 0.0}])
    ways.come(0, b"fast")
    ways.turn_until(1, forwarded=1)

    assert ways.left() == [b"fast", b"slow"]
