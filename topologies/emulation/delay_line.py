"""A delay line in user space, for kernels without netem.

The data centre starts it in the namespace `wire` as `python -m topologies.emulation.delay_line`,
one process for all delayed links.  Such a link is two cables that end here, and this process
carries frames from one to the other, in both directions, after the delay:

    nve1 to-core ~~~~ w1a  [delay line]  w1b ~~~~ to-nve1 core

The wait counts from the kernel's arrival time of a frame, so that a moment in which this process
does not get a CPU delays nothing unless it is longer than the link's own delay.  Jitter is uniform
and never reorders: a frame's due time is at least that of the frame before it, so that a jitter
that is large against the gaps between frames raises the mean delay.  Deviations are counted: frames
dropped here or in the kernel's buffer, and how late frames left.

Frames that a sender has not yet segmented (GSO) pass whole, with their checksums still open:
PACKET_VNET_HDR passes on what is left to do.
"""

import argparse
import ctypes
import gc
import json
import os
import random
import select
import signal
import socket
import struct
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, Self

from nve.model import Rank

READY = "ready"
"""Printed when frames are being carried."""

MAX_QUEUED_BYTES = 64 << 20
SOCKET_BUFFER_BYTES = 32 << 20
BATCH = 64
"""The number of frames read from one interface before others get their turn."""
LONGEST_FRAME = 65_600

LOOK_NS = 500_000
"""How long arrivals may stay unread while frames wait, in nanoseconds: with thousands a second,
reading each as it arrives costs as much as sending it.  They carry the kernel's time stamp."""

_LATENESS_STEP_US, _LATENESS_STEPS = 10, 2000
_NEVER_NS = 1 << 62
_IDLE_S = 1.0

# linux/if_packet.h, asm-generic/socket.h, linux/prctl.h
_SOL_PACKET, _PACKET_STATISTICS = 263, 6
_PACKET_VNET_HDR, _PACKET_QDISC_BYPASS, _PACKET_IGNORE_OUTGOING = 15, 20, 23
_SO_SNDBUFFORCE, _SO_RCVBUFFORCE, _SO_TIMESTAMPNS = 32, 33, 35
_ETH_P_ALL = 3
_PR_SET_TIMERSLACK = 29


@dataclass
class DelayQueue:
    """The waiting frames of one direction.  Pure: the time is an argument."""

    delay_ns: int
    jitter_ns: int
    chance: random.Random
    frames: deque[tuple[int, bytes]] = field(default_factory=deque)
    last_due_ns: int = 0
    queued_bytes: int = 0
    forwarded: int = 0
    overflowed: int = 0
    late_us_max: int = 0
    lateness: list[int] = field(default_factory=lambda: [0] * (_LATENESS_STEPS + 1))

    def put(self, arrival_ns: int, frame: bytes) -> None:
        """Take a frame in, or drop it if too many wait already."""
        if self.queued_bytes + len(frame) > MAX_QUEUED_BYTES:
            self.overflowed += 1
            return
        due_ns = arrival_ns + self.delay_ns
        if self.jitter_ns:
            due_ns += self.chance.randint(-self.jitter_ns, self.jitter_ns)
        self.last_due_ns = max(self.last_due_ns, due_ns)
        self.frames.append((self.last_due_ns, frame))
        self.queued_bytes += len(frame)

    def next_due_ns(self) -> int:
        return self.frames[0][0] if self.frames else _NEVER_NS

    def take(self, now_ns: int) -> bytes | None:
        """Return the next frame if it is due, and note how late it is."""
        if not self.frames or self.frames[0][0] > now_ns:
            return None
        due_ns, frame = self.frames.popleft()
        self.queued_bytes -= len(frame)
        self.forwarded += 1
        late_us = (now_ns - due_ns) // 1000
        self.late_us_max = max(self.late_us_max, late_us)
        self.lateness[min(late_us // _LATENESS_STEP_US, _LATENESS_STEPS)] += 1
        return frame

    def late_us(self, quantile: float) -> int:
        """Return the lateness in µs that this share of the frames stayed below."""
        rank = quantile * self.forwarded
        for step, count in enumerate(self.lateness[:-1]):
            rank -= count
            if rank <= 0:
                return min((step + 1) * _LATENESS_STEP_US, self.late_us_max)
        return self.late_us_max

    def statistics(self) -> dict[str, int]:
        return {
            "forwarded": self.forwarded,
            "waiting": len(self.frames),
            "overflowed": self.overflowed,
            "late_us_p50": self.late_us(0.5),
            "late_us_p99": self.late_us(0.99),
            "late_us_max": self.late_us_max,
        }


@dataclass
class Direction:
    """Carries frames from one interface, through a queue, to another."""

    name: str
    receiver: socket.socket
    sender: socket.socket
    queue: DelayQueue
    unsent: int = 0
    kernel_dropped: int = 0

    def receive(self) -> bool:
        """Take in what has arrived, up to a batch; return True if that was all."""
        receive, put = self.receiver.recvmsg, self.queue.put
        try:
            for _ in range(BATCH):
                frame, ((_, _, stamp), *_), _, _ = receive(LONGEST_FRAME, 64)
                seconds, nanoseconds = struct.unpack("qq", stamp)
                put(seconds * 1_000_000_000 + nanoseconds, frame)
        except BlockingIOError:
            return True
        return False

    def send_due(self, now_ns: int) -> None:
        while (frame := self.queue.take(now_ns)) is not None:
            try:
                self.sender.send(frame)
            # The buffer is full, or the link is down: drop the frame, as a cable would.
            except OSError:
                self.unsent += 1

    def statistics(self) -> dict[str, int | str]:
        counters = self.receiver.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8)
        self.kernel_dropped += struct.unpack("II", counters)[1]  # reading resets it
        return {
            "direction": self.name,
            **self.queue.statistics(),
            "unsent": self.unsent,
            "kernel_dropped": self.kernel_dropped,
        }


class DelayLine:
    """All directions of all links."""

    def __init__(self, directions: Sequence[Direction]) -> None:
        self.directions = directions
        self._by_descriptor = {direction.receiver.fileno(): direction for direction in directions}
        self._arrivals = select.poll()  # prepared once: it is asked thousands of times a second
        for descriptor in self._by_descriptor:
            self._arrivals.register(descriptor, select.POLLIN)
        self._unseen_ns = self._longest_unseen_ns()
        self._look_ns = 0

    @classmethod
    def of(cls, links: Sequence[dict[str, Any]], seed: int) -> Self:
        """Open the interfaces a_end and b_end of each link, whose nodes are a and b."""
        directions = []
        for link in links:
            a_end, b_end = open_interface(link["a_end"]), open_interface(link["b_end"])
            for sender, receiver, entry, leaving in (
                (link["a"], link["b"], a_end, b_end),
                (link["b"], link["a"], b_end, a_end),
            ):
                name = f"{sender}>{receiver}"
                queue = DelayQueue(
                    delay_ns=round(link["delay_ms"] * 1e6),
                    jitter_ns=round(link["jitter_ms"] * 1e6),
                    chance=random.Random(f"{seed} {name}"),
                )
                directions.append(Direction(name, entry, leaving, queue))
        return cls(directions)

    def turn(self) -> None:
        """Wait until a frame is due, or until one that was not read yet may be; send what is due.

        While no frame waits, wait for one to arrive.
        """
        next_due_ns = min(direction.queue.next_due_ns() for direction in self.directions)
        now_ns = time.time_ns()
        if next_due_ns == _NEVER_NS:
            self.look(_IDLE_S)
        elif (until_ns := min(next_due_ns, self._look_ns)) > now_ns:
            time.sleep((until_ns - now_ns) / 1e9)
        now_ns = time.time_ns()
        for direction in self.directions:
            direction.send_due(now_ns)
        if now_ns >= self._look_ns:
            self.look()

    def look(self, wait_s: float = 0) -> None:
        """Take in what has arrived.  Nothing that arrives later is due before the next look."""
        arrived = [descriptor for descriptor, _ in self._arrivals.poll(wait_s * 1000)]
        self._look_ns = time.time_ns() + self._unseen_ns
        for descriptor in arrived:
            if not self._by_descriptor[descriptor].receive():
                self._look_ns = 0

    def take_delays(self, links: Sequence[dict[str, Any]]) -> None:
        """Delay what is taken in from now on as long as the links say."""
        there_and_back = (link["delay_ms"] for link in links for _ in ("a to b", "b to a"))
        for direction, delay_ms in zip(self.directions, there_and_back, strict=True):
            direction.queue.delay_ns = round(delay_ms * 1e6)
        self._unseen_ns = self._longest_unseen_ns()

    def _longest_unseen_ns(self) -> int:
        queues = [direction.queue for direction in self.directions]
        return max(0, min(LOOK_NS, *(each.delay_ns - each.jitter_ns for each in queues)))

    def statistics(self) -> list[dict[str, int | str]]:
        return [direction.statistics() for direction in self.directions]


def open_interface(name: str) -> socket.socket:
    """Return a socket that reads what others send to the interface, and writes to it past its
    queue.
    """
    interface = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    for option in (_PACKET_VNET_HDR, _PACKET_IGNORE_OUTGOING, _PACKET_QDISC_BYPASS):
        interface.setsockopt(_SOL_PACKET, option, 1)
    for option in (_SO_RCVBUFFORCE, _SO_SNDBUFFORCE):
        interface.setsockopt(socket.SOL_SOCKET, option, SOCKET_BUFFER_BYTES)
    interface.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
    interface.bind((name, _ETH_P_ALL))
    interface.setblocking(False)
    return interface


def run_first() -> None:
    """Ask to be scheduled before everything else: a late frame would be taken for a slow
    network.
    """
    try:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(Rank.PATH))
    except PermissionError:  # not everywhere is root allowed real-time processes
        os.nice(-20)


def write_whole(path: Path, value: object) -> None:
    """Write a file so that a reader sees the old file or the new one, never half of one."""
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
    partial.rename(path)


def main() -> None:
    """Carry frames until SIGTERM.

    Writes its statistics then, and whenever it gets SIGUSR1; reads the links' delays again on
    SIGHUP.
    """
    arguments = argparse.ArgumentParser(description=main.__doc__)
    arguments.add_argument("links", type=Path, help="JSON: a list of links")
    arguments.add_argument("--statistics", type=Path, required=True, help="JSON file to write")
    arguments.add_argument("--seed", type=int, default=1, help="of the jitter")
    given = arguments.parse_args()

    ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, 1)
    run_first()
    gc.disable()

    def links() -> list[dict[str, Any]]:
        return list(json.loads(given.links.read_text(encoding="utf-8")))

    line = DelayLine.of(links(), given.seed)

    def report(signal_number: int, _: FrameType | None) -> None:
        with suppress(FileNotFoundError):  # the session is gone: nobody is going to read them
            write_whole(given.statistics, line.statistics())
        if signal_number == signal.SIGTERM:
            raise SystemExit

    signal.signal(signal.SIGTERM, report)
    signal.signal(signal.SIGUSR1, report)
    signal.signal(signal.SIGHUP, lambda *_: line.take_delays(links()))
    print(READY, flush=True)
    while True:
        line.turn()


if __name__ == "__main__":
    main()
