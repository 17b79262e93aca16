"""The source's side, a process on its server: rounds while the VM runs, then the rest.

    python -m nve.transfer.sender SPEC MEMORY LOG DISK LIMITS FROM TO TOKEN [--mirror STAMP]

It opens the connections (R6.2) and says a line when they stand, one for each round, and one when
the VM is to be stopped.  STAMP is the mirror since which the log has all writes: if the destination
holds that, only these are sent, and the first line says so (`holds`).
On its standard input it is told the rest, a line each:

    connect PORT
    final     the VM stands still: send what is left, or what it cannot go on without
    push      it goes on there without some of its pages: send them, too
    digest    say what both sides have
    end
"""

import argparse
import json
import socket
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

import numpy as np

from nve.guest.dirty_log import DirtyLog
from nve.guest.pages import Numbers
from nve.guest.spec import PAGE_SIZE, GuestSpec
from nve.hypervisor.realtime import realtime_priority
from nve.transfer.connection import TransferConnection
from nve.transfer.convergence import (
    HAVE_ROUNDS,
    MAY_RESUME_FIRST,
    Convergence,
    Iteration,
    Round,
    Stop,
    TransferLimits,
)
from nve.transfer.encoding import Encoder
from nve.transfer.framing import (
    ASKED_CHANNEL,
    FIRST_CHANNEL,
    VERSION,
    PageRun,
    ProtocolError,
    Say,
    in_messages,
    later,
    message,
    of_pages,
    runs_in,
)
from nve.transfer.mirror import MirrorStamp
from nve.transfer.page_runs import Remaining, bitmap_of, runs_of, together
from nve.transfer.push_window import PushWindow
from nve.transfer.stall import Stall
from nve.transfer.state import Digests, State

PATIENCE_S = 3.0
"""Until the other side takes a connection."""
_LOOKS_EVERY_S = 0.1
_MOST_IN_FLIGHT = 1 << 20
"""Octets that wait in the kernel: what is written to a page meanwhile comes with the next round."""


@dataclass
class _Sent:
    """What was sent in a round."""

    octets: int = 0
    normal_pages: int = 0
    zero_pages: int = 0

    @property
    def pages(self) -> int:
        return self.normal_pages + self.zero_pages

    def add(self, other: "_Sent") -> None:
        self.octets += other.octets
        self.normal_pages += other.normal_pages
        self.zero_pages += other.zero_pages


class StateSender:
    """One transfer at its source."""

    def __init__(
        self,
        channels: list[TransferConnection],
        asked: TransferConnection | None,
        state: State,
        log: DirtyLog,
        limits: TransferLimits,
    ) -> None:
        """`asked` is the connection for pages that a guest waits for, if it may be resumed
        first.
        """
        self._channels = channels
        self._first = channels[0]
        self._asked = asked
        self._encoders = {
            each: Encoder(state.at, zero_pages=limits.zero_pages, compression=limits.compression)
            for each in channels
        }
        self._pool = ThreadPoolExecutor(len(channels))
        self._turn = threading.Lock()
        """Guards what several threads take from."""
        self._state = state
        self._log = log
        self._limits = limits
        self._convergence = Convergence(limits)
        self._iterations = 0
        self._octets_per_s = 0.0
        """The rate of the last round."""
        self._stall: Stall | None = None
        """The progress of what is being sent."""
        self._stalled = ""
        self._left: Numbers = np.arange(0)
        """What has to be sent, beside what the log has."""
        self._holds = False
        """Whether the destination holds the state, but for what the log has."""
        self._resumes_first = False
        self._remaining: Remaining
        self._window: PushWindow | None = None
        """What may be on its way, while pages are pushed."""
        self._demanded = _Sent()
        threading.Thread(target=self._look, daemon=True).start()

    def introduce(self, token: str, mirror: MirrorStamp | None = None) -> bool:
        """Introduce all channels; return whether the destination holds this mirror."""
        numbered = [*enumerate(self._channels, start=FIRST_CHANNEL)]
        if self._asked:
            numbered.append((ASKED_CHANNEL, self._asked))
        for number, channel in numbered:
            told = {"version": VERSION, "token": token, "pages": self._state.pages}
            if mirror and number == FIRST_CHANNEL:
                channel.send(Say.HELLO, **told, channel=number, mirror=mirror.digests)
                self._holds = channel.await_answer(Say.MIRRORED).get("holds") is True
                continue
            channel.send(Say.HELLO, **told, channel=number)
            channel.await_answer(Say.ACK)
        return self._holds

    def rounds(self) -> Stop:
        """Send everything that goes ahead; return why the VM is to be suspended now."""
        written = self._log.harvest()
        ahead = written if self._holds else np.arange(self._state.pages)
        if self._limits.kind not in HAVE_ROUNDS:
            of_disk = ahead >= self._state.memory_pages
            self._left, ahead = ahead[~of_disk], ahead[of_disk]
        stop = None if len(ahead) else Stop(self._convergence.ending_without_rounds)
        while stop is None:
            iteration, done = self._round("active", self._in_order(ahead), message(Say.ROUND))
            tell(iteration=iteration.row())
            decided = self._convergence.after(done)
            if isinstance(decided, Stop):
                stop = decided
            else:
                self._log.throttle_pct = decided.throttle_pct
                ahead = self._log.harvest()
        self._resumes_first = stop.why == "post-copy"
        return stop

    def final(self) -> None:
        """Send the rest while the VM is suspended.

        In a post-copy this is only what it cannot run without: its registers, in the first page,
        and its disk.
        """
        self._first.send(Say.STOPPED)
        left = (self._log.harvest(), self._log.written_anyway(), self._left)
        rest, closing = together(self._state.pages, *left), message(Say.FINISH)
        self._left, memory_pages = rest[:0], self._state.memory_pages
        if self._resumes_first:
            can_wait = rest < memory_pages
            can_wait[0] = False
            self._left, rest = rest[can_wait], rest[~can_wait]
            closing = later(bitmap_of(self._left, memory_pages))
        iteration, _ = self._round("device", self._in_order(rest), closing)
        tell(iteration=iteration.row())
        if self._resumes_first:
            self._remaining = Remaining(runs_of(self._left, memory_pages), memory_pages)
            threading.Thread(target=self._answer, daemon=True).start()

    def push(self) -> None:
        """Send all that is still missing while the VM runs at the destination.

        What the guest waits for goes first.
        """
        self._left = self._left[:0]
        round_trip_s = max(each.round_trip_s for each in self._channels)
        self._window = window = PushWindow(round_trip_s, self._arrived(), time.monotonic())
        waiting = iter(lambda: self._remaining.take(window.pages_at_once), [])
        iteration, _ = self._round("postcopy-active", waiting, message(Say.FINISH))
        tell(iteration=iteration.row())

    def digests(self) -> dict[str, dict[str, str]]:
        """Return the digests here and at the destination."""
        self._first.send(Say.DIGEST)
        here = Digests(self._state)
        here.take_all()
        return {"here": here.totals(), "there": self._first.await_answer(Say.DIGEST)}

    def _in_order(self, numbers: Numbers) -> Iterator[list[PageRun]]:
        return in_messages(runs_of(numbers, self._state.memory_pages))

    def _round(
        self, status: str, waiting: Iterator[list[PageRun]], closing: bytes
    ) -> tuple[Iteration, Round]:
        """Send a round; return when the destination has all of it."""
        began_ns, began_s = time.time_ns(), time.monotonic()
        with self._given_up_if_stalled(standing_still=status == "device"):
            others = [self._pool.submit(self._carry, each, waiting) for each in self._channels[1:]]
            sent = self._carry(self._first, waiting, confirmed=False)
            for other in others:
                sent.add(other.result())
            self._first.send_all([closing])
            self._first.await_answer(Say.ACK)
        if status == "postcopy-active":
            sent.add(self._demanded)
        left_pages = self._log.marked() if status == "active" else len(self._left)
        done = Round(sent.pages, time.monotonic() - began_s, left_pages)
        self._octets_per_s = sent.octets / done.took_s
        self._iterations += 1
        iteration = Iteration(
            iteration=self._iterations,
            status=status,
            began_ns=began_ns,
            took_ms=done.took_s * 1e3,
            transferred_bytes=sent.octets,
            normal_pages=sent.normal_pages,
            duplicate_pages=sent.zero_pages,
            remaining_bytes=left_pages * PAGE_SIZE,
            mbps=sent.octets * 8 / done.took_s / 1e6,
            dirty_pages_rate=left_pages / done.took_s if status == "active" else 0.0,
            expected_downtime_ms=self._convergence.expected_downtime_ms(done),
            cpu_throttle_percentage=self._log.throttle_pct,
        )
        return iteration, done

    @contextmanager
    def _given_up_if_stalled(self, *, standing_still: bool) -> Iterator[None]:
        """Watch the transfer in the block; raise OSError if it makes no progress."""
        usual = self._octets_per_s if standing_still else 0.0
        patience_s = self._limits.patience_s
        self._stall = Stall(patience_s, time.monotonic(), self._arrived(), usual)
        try:
            yield
        except OSError as error:
            raise OSError(self._stalled or str(error)) from None
        finally:
            self._stall = None

    def _look(self) -> None:
        """Watch for a stall, without end, in a thread that runs from the beginning.

        Starting a thread in the pause would make that longer."""
        while True:
            time.sleep(_LOOKS_EVERY_S)
            stall = self._stall
            if stall and stall.has_stalled(self._arrived(), time.monotonic()):
                patience_s = self._limits.patience_s
                self._stalled = f"next to nothing has arrived for {patience_s:g} s"
                for each in self._connections():
                    each.break_off()
                return

    def _connections(self) -> list[TransferConnection]:
        return [*self._channels, *([self._asked] if self._asked else [])]

    def _arrived(self) -> int:
        """Return how many octets have arrived over all connections."""
        return sum(each.arrived for each in self._connections())

    def _carry(
        self,
        channel: TransferConnection,
        waiting: Iterator[list[PageRun]],
        *,
        confirmed: bool = True,
    ) -> _Sent:
        """Send one channel's part of a round: it takes waiting pages whenever it is free."""
        sent, encoder = _Sent(), self._encoders[channel]
        while True:
            if self._window:
                self._await_room(self._window)
            with self._turn:
                runs = next(waiting, None)
            if runs is None:
                break
            encoded = encoder.encoded(runs)
            channel.send_all(encoded.buffers)
            sent.add(_Sent(encoded.octets, encoded.normal_pages, encoded.zero_pages))
        if confirmed:
            channel.send(Say.ROUND)
            channel.await_answer(Say.ACK)
        return sent

    def _await_room(self, window: PushWindow) -> None:
        """Returns when a page that is asked for would hardly wait behind what is pushed next."""
        while not self._stalled:
            window.seen(self._arrived(), time.monotonic())
            wait_s = window.wait_s(sum(each.on_the_way for each in self._connections()))
            if not wait_s:
                return
            time.sleep(wait_s)

    def _answer(self) -> None:
        """Send the pages that the guest waits for; those that cannot be sent here are still
        pushed.
        """
        assert self._asked, "a transfer that may resume the VM first has a channel for that"
        with realtime_priority(), suppress(OSError, ProtocolError):
            while True:
                head, more = self._asked.receive()
                if head.say != Say.ASK:
                    raise ProtocolError(f"{head.say.name} instead of ASK")
                ((page, _), *_), _ = runs_in(head, more, self._state.memory_pages)
                ahead = of_pages([(page, 1)])
                self._asked.send_all([ahead, self._state.at((page, 1))])
                with self._turn:
                    self._remaining.asked(page)
                self._demanded.add(_Sent(len(ahead) + PAGE_SIZE, 1))


def connect(source: str, target: str, port: int) -> socket.socket:
    version = ip_address(target).version
    connected = socket.socket(socket.AF_INET if version == 4 else socket.AF_INET6)
    connected.settimeout(PATIENCE_S)
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _MOST_IN_FLIGHT)
    connected.bind((source, 0))
    connected.connect((target, port))
    connected.settimeout(None)
    return connected


def tell(**message: Any) -> None:
    print(json.dumps(message), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("spec", type=GuestSpec.of)
    for descriptor in ("memory", "log", "disk"):
        parser.add_argument(descriptor, type=int)
    parser.add_argument("limits", type=lambda text: TransferLimits(**json.loads(text)))
    parser.add_argument("source")
    parser.add_argument("target")
    parser.add_argument("token")
    parser.add_argument("--mirror", type=lambda text: MirrorStamp.of(json.loads(text)))
    given = parser.parse_args()
    try:
        _transfer(given)
    except (OSError, ProtocolError) as error:
        tell(failed=str(error))
        raise SystemExit(1) from None


def _transfer(given: argparse.Namespace) -> None:
    spec: GuestSpec = given.spec
    state = State(given.memory, spec.memory_pages, given.disk, spec.disk_pages)
    log = DirtyLog(given.log, spec.pages)
    limits: TransferLimits = given.limits
    told, _, port = sys.stdin.readline().partition(" ")
    if told != "connect":
        return
    channels = [_channel(given, int(port)) for _ in range(limits.channels)]
    for channel in channels:
        if limits.bandwidth_mbit:
            channel.limit(limits.bandwidth_mbit / limits.channels)
    asked = _channel(given, int(port)) if limits.kind in MAY_RESUME_FIRST else None
    sender = StateSender(channels, asked, state, log, limits)
    holds = sender.introduce(given.token, given.mirror)
    tell(connected=True, holds=holds)
    tell(stop=sender.rounds().why)
    for line in sys.stdin:
        match line.strip():
            case "final":
                with realtime_priority():
                    sender.final()
            case "push":
                sender.push()
            case "digest":
                tell(digests=sender.digests())
            case _:
                return


def _channel(given: argparse.Namespace, port: int) -> TransferConnection:
    limits: TransferLimits = given.limits
    return TransferConnection(connect(given.source, given.target, port), limits.patience_s)


if __name__ == "__main__":
    main()
