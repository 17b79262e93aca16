"""The guest, run inside a VM: writes its memory and its disk, and answers requests.

    python -m nve.guest.process SPEC MEMORY LOG DISK SOCKET [--incoming]

SPEC is a line (`nve.guest.spec`), the others are file descriptors, -1 for one that is not there.
It says a line when it is ready.  With `--incoming` its pages are somebody else's business until a
line comes on its standard input; then it goes on from what they hold.  With `--without-pages
SOCKET` it may go on before they are there, and waits where it touches one that is not: who puts it
there is given what that takes (`nve.linux.userfaultfd`).  With `--protected` the kernel notes what
it writes, too (`nve.linux.written_pages`).  With `--pair SOCKET TOKEN ROLE` it is one of two
instances (`nve.guest.paired`), until a line says that it goes on alone.
"""

import argparse
import json
import mmap
import os
import select
import socket
import sys
import time
from collections.abc import Callable

import numpy as np

from nve.guest import registers, service
from nve.guest.dirty_log import BATCH, DirtyLog
from nve.guest.pages import Numbers, Words, broken, content
from nve.guest.paired import ALIVE_S, PairedService
from nve.guest.registers import Registers
from nve.guest.replica import Replica, ReplicaRole
from nve.guest.service import ServiceRequest
from nve.guest.spec import PAGE_SIZE, PAGES_OF_A_MB, GuestSpec
from nve.guest.writes import Pace, Writes, distinct
from nve.linux import userfaultfd
from nve.linux.written_pages import protect

TICK_S = 0.002
_FILLED_AT_ONCE = 4096
_STEP = 16
"""How many pages each of two instances writes at once, so that both hold the same after the same
steps.  (A page that is written twice at once has one version more, not two.)"""
_REGISTERS = np.zeros(1, dtype=np.int64)


class Space:
    """Pages in a file, the first of which has the number `first`."""

    def __init__(self, descriptor: int, pages: int, first: int) -> None:
        self.map = mmap.mmap(descriptor, pages * PAGE_SIZE)
        self.rows: Words = np.frombuffer(self.map, np.uint64).reshape(pages, -1)
        self.first = first
        self.pages = pages
        self.unchecked = 0
        """How many writes may find a page torn: those that were interrupted elsewhere."""

    def fill(self, pages: int, words: int) -> None:
        """Write this number of pages in their first version."""
        for begin in range(0, pages, _FILLED_AT_ONCE):
            end = min(begin + _FILLED_AT_ONCE, pages)
            numbers = np.arange(begin, end) + self.first
            self.rows[begin:end] = content(numbers, np.zeros(end - begin, np.uint64), words)


class GuestProcess:
    """The guest with its memory, disk and service."""

    def __init__(self, spec: GuestSpec, memory: int, log: int, disk: int, serving: int) -> None:
        self._memory = Space(memory, spec.memory_pages, 0)
        self._disk = Space(disk, spec.disk_pages, spec.memory_pages) if spec.disk_pages else None
        self._log = DirtyLog(log, spec.pages)
        self._socket = socket.socket(fileno=serving) if serving >= 0 else None
        self._spec = spec
        self._registers = Registers()
        self._pair: PairedService | None = None

    @property
    def address(self) -> int:
        """The address of its memory in this process."""
        return int(self._memory.rows.ctypes.data)

    def wait_for_pages(self, other: socket.socket) -> None:
        """Make accesses to missing pages wait until another process has filled them in.

        The descriptor stays open: without it, the guest would read zeros from missing pages.
        """
        length = self._memory.pages * PAGE_SIZE
        self._pages_missed = userfaultfd.registered(
            self.address, length, userfaultfd.MISSING, userfaultfd.MISSING_SHARED_MEMORY
        )
        octets = self.address.to_bytes(8, sys.byteorder)
        socket.send_fds(other, [octets], [self._pages_missed])

    def pair(self, other: socket.socket, token: bytes, role: ReplicaRole) -> None:
        """Make the guest one of two instances."""
        assert self._socket, "an instance has a service"
        self._pair = PairedService(self._socket, other, token, role, self._log)

    def fill(self) -> None:
        """Fill memory and disk, as a guest that starts for the first time does."""
        self._memory.fill(self._spec.filled_pages, self._spec.words)
        if self._disk:
            self._disk.fill(self._disk.pages, self._spec.words)
        self._keep(Registers())

    def go_on(self) -> None:
        """Continue from the pages, as a guest that has come from elsewhere does.

        Raises ValueError if they are not a guest's.
        """
        found = registers.newest(self._memory.map[:PAGE_SIZE])
        if found is None:
            raise ValueError("no copy of the registers is whole")
        self._registers = found
        for space in filter(None, (self._memory, self._disk)):
            space.unchecked = BATCH

    def run(self) -> None:
        """Write and answer requests without end."""
        spec, now_s = self._spec, time.monotonic()
        memory = Writes(spec.pattern, 1, max(1, spec.working_set_pages - 1), spec.seed)
        disk = Writes("uniform", spec.memory_pages, max(1, spec.disk_pages), spec.seed + 1)
        step = _STEP if self._pair else 1
        memory_pace = Pace(spec.writes_mb_s * PAGES_OF_A_MB, now_s, step)
        disk_pace = Pace(spec.disk_writes_mb_s * PAGES_OF_A_MB, now_s, step)
        waiting = select.poll()
        if self._socket:
            self._socket.setblocking(False)
            waiting.register(self._socket, select.POLLIN)
        patience_s = TICK_S if spec.writes_mb_s or spec.disk_writes_mb_s else None
        if self._pair:
            patience_s = patience_s or ALIVE_S
            for each in (self._pair.sockets[1], sys.stdin):
                waiting.register(each, select.POLLIN)
        while True:
            come = waiting.poll(patience_s and patience_s * 1000)
            if self._pair:
                self._take_turn(self._pair, {descriptor for descriptor, _ in come})
            elif come and self._socket:
                self._serve(self._socket)
            now_s, throttle = time.monotonic(), self._log.throttle_pct
            due = memory_pace.due(now_s, throttle), disk_pace.due(now_s, throttle)
            if self._pair and self._pair.follows:
                here, there = self._work, self._pair.work
                due = there[0] - here[0], there[1] - here[1]
            self._write(
                self._memory,
                due[0],
                lambda count: memory.targets(self._registers.writes, count),
                lambda count: {"writes": self._registers.writes + count},
            )
            if self._disk:
                self._write(
                    self._disk,
                    due[1],
                    lambda count: disk.targets(self._registers.disk_writes, count),
                    lambda count: {"disk_writes": self._registers.disk_writes + count},
                )

    def _write(
        self,
        space: Space,
        due: int,
        targets: Callable[[int], Numbers],
        counted: Callable[[int], dict[str, int]],
    ) -> None:
        while due > 0:
            numbers = distinct(targets(count := min(due, _STEP if self._pair else BATCH)))
            rows = numbers - space.first
            old = space.rows[rows]
            if space.unchecked > 0:
                space.unchecked -= count
            elif len(wrong := broken(old, numbers, self._spec.words)):
                self._log.found_broken(len(wrong))
            self._log.begin(numbers)
            space.rows[rows] = content(numbers, old[:, 1] + np.uint64(1), self._spec.words)
            self._log.end(numbers, count)
            self._keep(self._registers.after(**counted(count)))
            due -= count

    def _keep(self, changed: Registers) -> None:
        octets = changed.octets()
        self._memory.map[changed.place : changed.place + len(octets)] = octets
        self._registers = changed
        self._log.mark(_REGISTERS)

    @property
    def _work(self) -> tuple[int, int]:
        return self._registers.writes, self._registers.disk_writes

    def _take_turn(self, pair: PairedService, come: set[int]) -> None:
        pair.take_turn(self._work, self._store)
        if sys.stdin.fileno() in come:
            if not os.read(sys.stdin.fileno(), 64):
                raise SystemExit
            pair.go_on_alone(self._work, self._store)

    def _store(self, replica: Replica) -> None:
        """What one of two instances has counted up to."""
        newest = replica.newest
        if newest and replica.counter != self._registers.counter:
            self._keep(
                self._registers.after(
                    counter=replica.counter, client=newest.client, request=newest.request
                )
            )

    def _serve(self, serving: socket.socket) -> None:
        """Answer the requests that have come.

        A request is removed from the socket only when it is answered: if the guest continues
        elsewhere before that, it is answered there.
        """
        while True:
            try:
                octets, sender = serving.recvfrom(service.LONGEST, socket.MSG_PEEK)
                if asked := ServiceRequest.of(octets):
                    reply, changed = service.answer(asked, self._registers)
                    if changed is not self._registers:
                        self._keep(changed)
                    serving.sendto(reply.octets(), sender)
                serving.recv(service.LONGEST)
            except BlockingIOError:
                return
            except OSError:  # an ICMP error that answers an earlier reply
                continue


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("spec", type=GuestSpec.of)
    for descriptor in ("memory", "log", "disk", "serving"):
        parser.add_argument(descriptor, type=int)
    parser.add_argument("--incoming", action="store_true")
    parser.add_argument("--without-pages", type=int)
    parser.add_argument("--protected", action="store_true")
    parser.add_argument("--pair", nargs=3, metavar=("SOCKET", "TOKEN", "ROLE"))
    given = parser.parse_args()
    guest = GuestProcess(given.spec, given.memory, given.log, given.disk, given.serving)
    if not given.incoming:
        guest.fill()
    if given.without_pages is not None:
        guest.wait_for_pages(socket.socket(fileno=given.without_pages))
    if given.protected:
        protect(guest.address, given.spec.memory_pages * PAGE_SIZE)
    if given.pair:
        descriptor, token, role = given.pair
        other = socket.socket(fileno=int(descriptor))
        guest.pair(other, bytes.fromhex(token), ReplicaRole(role))
    print(json.dumps({"ready": True, "address": guest.address}), flush=True)
    if given.incoming:
        if not sys.stdin.readline():
            return
        guest.go_on()
    guest.run()


if __name__ == "__main__":
    main()
