"""The source's side, a process on its server: rounds while the VM runs, then the rest.

    python -m nve.transfer.sender SPEC MEMORY LOG DISK LIMITS FROM TO PORT TOKEN

It opens the connection (R6.2) and says a line when that stands, one for each round, and one when
the VM is to be stopped.
On its standard input it is told the rest, a line each:

    final     the VM stands still: send what is left
    digest    say what both sides have
    end
"""

import argparse
import json
import socket
import sys
import time
from ipaddress import ip_address
from typing import Any

import numpy as np

from nve.guest.dirty_log import DirtyLog
from nve.guest.pages import Numbers
from nve.guest.spec import PAGE_SIZE, GuestSpec
from nve.hypervisor.realtime import realtime_priority
from nve.transfer.connection import TransferConnection
from nve.transfer.convergence import (
    Convergence,
    Iteration,
    Round,
    Stop,
    TransferLimits,
)
from nve.transfer.framing import VERSION, ProtocolError, Say, in_runs, pages_ahead
from nve.transfer.state import Digests, State, size_of

PATIENCE_S = 3.0
_PAGES_AT_ONCE = 128
_MOST_IN_FLIGHT = 1 << 20
"""Octets that wait in the kernel: what is written to a page meanwhile comes with the next round."""


class StateSender:
    """One transfer at its source."""

    def __init__(
        self,
        connection: TransferConnection,
        state: State,
        log: DirtyLog,
        limits: TransferLimits,
    ) -> None:
        self._connection = connection
        self._state = state
        self._log = log
        self._limits = limits
        self._convergence = Convergence(limits)
        self._iterations = 0
        self._left: Numbers = np.arange(state.pages)
        """What has to be sent, beside what the log has."""

    def introduce(self, token: str) -> None:
        self._connection.send(Say.HELLO, version=VERSION, token=token, pages=self._state.pages)
        self._connection.await_answer(Say.ACK)

    def rounds(self) -> Stop:
        """Everything that goes ahead; returns why the VM is to be stopped now."""
        memory = np.arange(self._state.memory_pages)
        ahead = self._left
        if self._limits.kind == "stop-and-copy":
            ahead = ahead[self._state.memory_pages :]
            if not len(ahead):
                return Stop("asked")
        self._log.harvest()
        while True:
            iteration, done = self._round(ahead, "active")
            decided = self._convergence.after(done)
            tell(iteration=iteration.row())
            if isinstance(decided, Stop):
                self._left = memory if self._limits.kind == "stop-and-copy" else memory[:0]
                return decided
            self._log.throttle_pct = decided.throttle_pct
            ahead = self._log.harvest()

    def final(self) -> None:
        """The VM stands still: the rest."""
        self._connection.send(Say.STOPPED)
        rest = np.union1d(self._log.harvest(), self._log.written_anyway())
        iteration, _ = self._round(np.union1d(rest, self._left), "device")
        tell(iteration=iteration.row())

    def digests(self) -> dict[str, dict[str, str]]:
        """What is here and what is there."""
        self._connection.send(Say.DIGEST)
        here = Digests(self._state)
        here.take_all()
        return {"here": here.totals(), "there": self._connection.await_answer(Say.DIGEST)}

    def _round(self, numbers: Numbers, status: str) -> tuple[Iteration, Round]:
        began_ns, began_s = time.time_ns(), time.monotonic()
        octets = self._send(numbers)
        self._connection.send(Say.FINISH if status == "device" else Say.ROUND)
        self._connection.await_answer(Say.ACK)
        done = Round(len(numbers), octets, time.monotonic() - began_s, self._log.marked())
        self._iterations += 1
        iteration = Iteration(
            iteration=self._iterations,
            status=status,
            began_ns=began_ns,
            took_ms=done.took_s * 1e3,
            transferred_bytes=octets,
            normal_pages=done.pages,
            remaining_bytes=done.left_pages * PAGE_SIZE,
            mbps=octets * 8 / done.took_s / 1e6,
            dirty_pages_rate=done.left_pages / done.took_s,
            expected_downtime_ms=self._convergence.expected_downtime_ms(done),
            cpu_throttle_percentage=self._log.throttle_pct,
        )
        return iteration, done

    def _send(self, numbers: Numbers) -> int:
        octets = 0
        for runs in in_runs(numbers.tolist(), self._state.memory_pages, _PAGES_AT_ONCE):
            ahead = pages_ahead(runs)
            self._connection.send_all([ahead, *(self._state.at(run) for run in runs)])
            octets += len(ahead) + size_of(runs) * PAGE_SIZE
        return octets


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
    parser.add_argument("port", type=int)
    parser.add_argument("token")
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
    connection = TransferConnection(connect(given.source, given.target, given.port), PATIENCE_S)
    if given.limits.bandwidth_mbit:
        connection.limit(given.limits.bandwidth_mbit)
    sender = StateSender(connection, state, log, given.limits)
    sender.introduce(given.token)
    tell(connected=True)
    tell(stop=sender.rounds().why)
    for line in sys.stdin:
        match line.strip():
            case "final":
                with realtime_priority():
                    sender.final()
            case "digest":
                tell(digests=sender.digests())
            case _:
                return


if __name__ == "__main__":
    main()
