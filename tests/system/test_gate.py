"""The gate in a VM's inbound path, with real frames through real queues."""

import socket
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

import pytest

from benchmarks.namespaces import Namespace
from nve.hypervisor.drain_probe import DrainProbe
from nve.hypervisor.gate import Gate
from nve.linux.namespace import inside, ip
from nve.model import Bounds
from tests.helpers.wait import wait_until

ETHERTYPE = 0x88B6
EVERYBODY, SENDER = b"\xff" * 6, b"\x02\x00\x00\x00\x00\x01"
ROOM = 50
BUFFER = 16 << 20
_SO_SNDBUFFORCE, _SO_RCVBUFFORCE = 32, 33


@dataclass
class Way:
    """A cable into a bridge, with the gate behind its end."""

    gate: Gate
    sender: socket.socket
    receiver: socket.socket
    drain_probe: DrainProbe
    sent: int = 0

    def send(self, count: int) -> list[int]:
        """Sends numbered frames; returns their numbers."""
        numbers = list(range(self.sent, self.sent + count))
        for number in numbers:
            header = EVERYBODY + SENDER + ETHERTYPE.to_bytes(2, "big")
            self.sender.send(header + number.to_bytes(4, "big") + bytes(50))
        self.sent += count
        return numbers

    def received(self) -> list[int]:
        """The numbers of the frames that have come through since the last call, in order."""
        found = []
        with suppress(TimeoutError):
            while True:
                frame = self.receiver.recv(2000)
                found.append(int.from_bytes(frame[14:18], "big"))
        return found


@pytest.fixture
def way() -> Iterator[Way]:
    """Closed, as a gate is made, with room for `ROOM` frames."""
    here, there = Namespace(), Namespace()
    try:
        ip(
            here.pid,
            [
                f"link add near type veth peer name far netns {there.pid}",
                "link set near addrgenmode none up",
            ],
        )
        ip(
            there.pid,
            [
                "link add nic type bridge",
                "link set far master nic",
                "link set far addrgenmode none up",
                "link set nic addrgenmode none up",
            ],
        )
        gate = Gate(there.pid, "far", Bounds(packets=ROOM, octets=1 << 30, time_s=60))
        drain_probe = DrainProbe(here.pid, "near", there.pid, "nic")
        made = Way(gate, bound(here.pid, "near"), bound(there.pid, "nic"), drain_probe)
        gate.open()
        wait_until(lambda: None if made.send(1) and made.received() else "the bridge is not ready")
        gate.close()
        yield made
        gate.remove()
        made.drain_probe.close()
        made.sender.close()
        made.receiver.close()
    finally:
        here.close()
        there.close()


def bound(pid: int, interface: str) -> socket.socket:
    with inside(pid):
        opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        opened.bind((interface, ETHERTYPE))
    opened.settimeout(0.3)
    for option in (_SO_SNDBUFFORCE, _SO_RCVBUFFORCE):
        opened.setsockopt(socket.SOL_SOCKET, option, BUFFER)
    return opened


def test_closed_it_holds_and_opened_it_delivers_in_order(way: Way) -> None:
    held = way.send(ROOM)
    assert way.received() == []
    way.gate.open()
    later = way.send(ROOM)
    assert way.received() == [*held, *later]
    assert way.gate.dropped() == 0


def test_it_can_be_closed_again_and_again(way: Way) -> None:
    for _ in range(5):
        held = way.send(ROOM)
        assert way.received() == []
        way.gate.open()
        assert way.received() == held
        way.gate.close()
        way.gate.close()


def test_what_finds_no_room_is_counted(way: Way) -> None:
    numbers = way.send(ROOM + 30)
    way.gate.open()
    assert way.received() == numbers[:ROOM]
    assert way.gate.dropped() == 30


def test_what_is_given_up_is_counted_and_the_gate_can_be_opened_after_it(way: Way) -> None:
    way.send(20)
    way.gate.give_up()
    way.send(5)
    way.gate.open()
    later = way.send(10)
    assert way.received() == later
    assert way.gate.dropped() == 25


def test_a_sounding_comes_out_behind_all_that_went_in_before(way: Way) -> None:
    way.gate.open()
    for _ in range(20):
        numbers = way.send(ROOM)
        assert way.drain_probe.runs_dry()
        way.receiver.settimeout(0)  # what is not there by now is late
        found = []
        with suppress(BlockingIOError):
            while True:
                found.append(int.from_bytes(way.receiver.recv(2000)[14:18], "big"))
        assert found == numbers


def test_a_sounding_says_so_when_something_is_held(way: Way) -> None:
    way.send(1)
    assert not way.drain_probe.runs_dry()
    way.gate.open()
    assert way.drain_probe.runs_dry(), "the one before, which comes out late, is not taken for it"
