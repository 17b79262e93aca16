"""The primary's side of a mirror, a process on its server.

    python -m nve.transfer.mirror_sender SPEC MEMORY LOG DISK CGROUP FROM TO PORT TOKEN MBIT

It opens the connection and prints a line when that is established.  It obeys lines on its standard
input:

    mirror     make one now; it prints a line when the standby has it, with the mirror's stamp
    end

The VM, the processes of CGROUP, is suspended only while its pages are copied: they are sent while
it runs.  MBIT limits the connection; 0 is whatever the path gives.
"""

import argparse
import sys
import time
from pathlib import Path

import numpy as np

from nve.guest.dirty_log import DirtyLog
from nve.guest.pages import Numbers
from nve.guest.spec import PAGE_SIZE, GuestSpec
from nve.hypervisor import freezer
from nve.transfer.connection import TransferConnection
from nve.transfer.framing import (
    VERSION,
    PageRun,
    ProtocolError,
    Say,
    in_messages,
    of_pages,
    size_of,
)
from nve.transfer.mirror import Mirror, MirrorStamp
from nve.transfer.page_runs import runs_of
from nve.transfer.sender import PATIENCE_S, connect, tell
from nve.transfer.state import Digests, State

Copied = list[tuple[list[PageRun], list[bytes]]]


class MirrorSender:
    """Makes all mirrors of one VM at one standby."""

    def __init__(
        self, connection: TransferConnection, state: State, log: DirtyLog, cgroup: Path
    ) -> None:
        self._connection = connection
        self._state = state
        self._log = log
        self._cgroup = cgroup
        self._digests = Digests(state)
        self.last = MirrorStamp()
        """The mirror that the standby has confirmed last."""

    def introduce(self, token: str) -> None:
        self._connection.send(Say.HELLO, version=VERSION, token=token, pages=self._state.pages)
        self._connection.await_answer(Say.ACK)

    def mirror(self) -> Mirror:
        """Make a mirror; return when the standby has it."""
        pages = octets = 0
        if self.last.number == 0:  # nearly all of the first one goes while the VM runs
            self._log.harvest()
            everything = np.arange(self._state.pages)
            for runs in self._messages(everything):
                octets += self._send(runs, [bytes(self._state.at(run)) for run in runs])
                pages += size_of(runs)
        taken_ns, began_s, copied = time.time_ns(), time.monotonic(), self._copied()
        pause_s = time.monotonic() - began_s
        for runs, contents in copied:
            octets += self._send(runs, contents)
            pages += size_of(runs)
        stamp = MirrorStamp(self.last.number + 1, taken_ns, **self._digests.totals())
        self._connection.send(Say.MIRRORED, **stamp.row())
        self._connection.await_answer(Say.ACK)
        self.last = stamp
        took_s = time.monotonic() - began_s
        return Mirror(stamp.number, taken_ns, pause_s * 1e3, took_s * 1e3, pages, octets)

    def _copied(self) -> Copied:
        """Copy what was written since the last time, as it is at one moment."""
        freezer.freeze(self._cgroup)
        try:
            written: Numbers = np.union1d(self._log.harvest(), self._log.written_anyway())
            return [
                (runs, [bytes(self._state.at(run)) for run in runs])
                for runs in self._messages(written)
            ]
        finally:
            freezer.thaw(self._cgroup)

    def _messages(self, numbers: Numbers) -> list[list[PageRun]]:
        return list(in_messages(runs_of(numbers, self._state.memory_pages)))

    def _send(self, runs: list[PageRun], contents: list[bytes]) -> int:
        for run, octets in zip(runs, contents, strict=True):
            self._digests.take(run, memoryview(octets))
        ahead = of_pages(runs)
        self._connection.send_all([ahead, *contents])
        return len(ahead) + size_of(runs) * PAGE_SIZE


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("spec", type=GuestSpec.of)
    for descriptor in ("memory", "log", "disk"):
        parser.add_argument(descriptor, type=int)
    parser.add_argument("cgroup", type=Path)
    parser.add_argument("source")
    parser.add_argument("target")
    parser.add_argument("port", type=int)
    parser.add_argument("token")
    parser.add_argument("mbit", type=float)
    given = parser.parse_args()
    try:
        _mirror(given)
    except (OSError, ProtocolError) as error:
        tell(failed=str(error))
        raise SystemExit(1) from None


def _mirror(given: argparse.Namespace) -> None:
    spec: GuestSpec = given.spec
    state = State(given.memory, spec.memory_pages, given.disk, spec.disk_pages)
    log = DirtyLog(given.log, spec.pages)
    connection = TransferConnection(connect(given.source, given.target, given.port), PATIENCE_S)
    if given.mbit:
        connection.limit(given.mbit)
    sender = MirrorSender(connection, state, log, given.cgroup)
    sender.introduce(given.token)
    tell(connected=True)
    for line in sys.stdin:
        if line.strip() != "mirror":
            return
        made = sender.mirror()
        tell(mirror=made.row(), stamp=sender.last.row())


if __name__ == "__main__":
    main()
