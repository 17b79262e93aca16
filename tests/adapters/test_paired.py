"""Two guests that answer as one, as processes over the loopback interface (R7.4)."""

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nve.guest import registers
from nve.guest.machine import GuestMachine, PairedWith
from nve.guest.replica import ReplicaRole
from nve.guest.service import LONGEST, ServiceReply, ServiceRequest
from nve.guest.spec import PAGE_SIZE, GuestSpec
from nve.linux.wait import readable, wait_until
from tests.helpers.examples import some_of

SPEC = GuestSpec(2, writes_mb_s=2, disk_mb=1, disk_writes_mb_s=0.5, service=True)
TOKEN = b"together"


def bound() -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.bind(("127.0.0.1", 0))
    return made


class Pair:
    """The leader, and its follower."""

    def __init__(self, directory: Path) -> None:
        self.services = [bound(), bound()]
        self._channel = [bound(), bound()]
        for end, other in (self._channel, reversed(self._channel)):
            end.connect(other.getsockname())
        self.machines = []
        for name, serving, end, role in zip(
            *(("a", "b"), self.services, self._channel, ReplicaRole), strict=False
        ):
            machine = GuestMachine(name, SPEC, directory, serving.fileno())
            machine.launch(subprocess.Popen, pair=PairedWith(end, TOKEN, role))
            self.machines.append(machine)
        for machine in self.machines:
            machine.await_ready()
        self._client, self._nobody = bound(), bound()

    def ask(self, at: int, request: ServiceRequest, patience_s: float = 5.0) -> int | None:
        """The number that an instance answers with; None if it does not answer."""
        until_s = time.monotonic() + patience_s
        while (left_s := until_s - time.monotonic()) > 0:
            self._client.sendto(request.octets(), self.services[at].getsockname())
            if readable(self._client, min(left_s, 0.2)):
                reply = ServiceReply.of(self._client.recv(LONGEST))
                if reply and (reply.client, reply.request) == (request.client, request.request):
                    return reply.counter
        return None

    def registers(self, at: int) -> registers.Registers | None:
        return registers.newest(os.pread(self.machines[at].memory, PAGE_SIZE, 0))

    def state(self, at: int) -> tuple[bytes, bytes]:
        """Memory, but for its first page, and disk."""
        machine = self.machines[at]
        memory = os.pread(machine.memory, (SPEC.memory_pages - 1) * PAGE_SIZE, PAGE_SIZE)
        return memory, os.pread(machine.disk, SPEC.disk_pages * PAGE_SIZE, 0)

    def different_work(self) -> str | None:
        leader, follower = self.registers(0), self.registers(1)
        if leader and follower and follower.writes == leader.writes > 0:
            return None if follower.disk_writes == leader.disk_writes else "the disks differ"
        return f"the follower is at {follower}, the leader at {leader}"

    def cut(self) -> None:
        """The two do not reach each other: each talks to nobody."""
        for end in self._channel:
            end.connect(self._nobody.getsockname())

    def close(self) -> None:
        for machine in self.machines:
            machine.close()
        for each in (*self.services, *self._channel, self._client, self._nobody):
            each.close()


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    made = Pair(tmp_path)
    yield made
    made.close()


@pytest.mark.shows("R7.4")
@pytest.mark.parametrize("dies", some_of([0, 1], every=2))
def test_whichever_dies_the_other_goes_on_once_it_is_told(pair: Pair, dies: int) -> None:
    left = 1 - dies
    numbers = [pair.ask(n % 2, ServiceRequest(n % 2, n)) for n in range(1, 21)]
    assert numbers == list(range(1, 21))
    assert [machine.log.answered for machine in pair.machines] == [10, 10]
    assert all(machine.log.sent_octets for machine in pair.machines)

    pair.machines[dies].kill()
    assert pair.ask(left, ServiceRequest(7, 1), patience_s=0.5) is None, "nobody else has it"
    pair.machines[left].go_on_alone()
    after = [pair.ask(left, ServiceRequest(7, n)) for n in range(1, 6)]
    assert after == list(range(21, 26))
    assert pair.ask(left, ServiceRequest(0, 20)) == 20, "asked again of the other one"


@pytest.mark.thorough
@pytest.mark.shows("R7.4")
def test_cut_off_from_each_other_neither_answers_until_one_is_told_to_go_on(pair: Pair) -> None:
    """The other one, which runs on, still answers nothing new."""
    assert [pair.ask(at, ServiceRequest(at, 1)) for at in (0, 1)] == [1, 2]
    pair.cut()
    for at in (0, 1):
        assert pair.ask(at, ServiceRequest(5 + at, 1), patience_s=0.5) is None

    pair.machines[1].go_on_alone()
    assert pair.ask(1, ServiceRequest(6, 1)) == 3, "it was asked before"
    assert pair.ask(1, ServiceRequest(7, 1)) == 4
    assert pair.ask(0, ServiceRequest(8, 1), patience_s=0.5) is None
    assert pair.ask(0, ServiceRequest(0, 1)) == 1, "what was answered stays"


@pytest.mark.thorough
@pytest.mark.shows("R7.4")
def test_both_hold_the_same_memory_and_disk(pair: Pair) -> None:
    """The leader writes of its own, and the follower the same."""
    pair.ask(0, ServiceRequest(1, 1))
    wait_until(lambda: None if (r := pair.registers(0)) and r.writes > 500 else "early", 10.0)
    pair.machines[0].log.throttle_pct = 100
    wait_until(pair.different_work, 10.0)

    assert pair.state(0) == pair.state(1)
    assert [machine.failure() for machine in pair.machines] == [None, None]
