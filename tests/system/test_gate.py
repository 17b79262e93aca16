"""The gates in a VM's paths and the inlet of a switch, with real frames through real queues."""

import fcntl
import itertools
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field

import pytest

from benchmarks.namespaces import Namespace
from nve.hypervisor.drain_probe import DrainProbe
from nve.hypervisor.gate import Gate
from nve.hypervisor.outbound_gate import OutboundGate
from nve.hypervisor.plug import NIC, Plug, set_forwarding
from nve.hypervisor.reorder_buffer import ReorderBuffer
from nve.linux.namespace import inside, ip
from nve.linux.steering import take_in_by_one_processor
from nve.linux.wait import waiting_in
from nve.model import Bounds, Mac
from nve.ovs.buffers import Inlet
from nve.wire.end_marker import COPIES, MarkerKind, Signal, frame
from tests.helpers.tenants import vm
from tests.helpers.wait import wait_until

ETHERTYPE = 0x88B6
EVERYBODY, SENDER = b"\xff" * 6, b"\x02\x00\x00\x00\x00\x01"
ROOM = 50
MTU = 1450
TIMEOUT_S = 5
BUFFER = 16 << 20
_SO_SNDBUFFORCE, _SO_RCVBUFFORCE = 32, 33


@dataclass
class Sending:
    """Two ends of a way with a gate."""

    sender: socket.socket
    receiver: socket.socket
    sent: int = field(default=0, kw_only=True)

    def send(self, count: int, octets: int = 54) -> list[int]:
        """Sends numbered frames; returns their numbers."""
        numbers = list(range(self.sent, self.sent + count))
        for number in numbers:
            header = EVERYBODY + SENDER + ETHERTYPE.to_bytes(2, "big")
            with suppress(OSError):  # no room: the kernel tells the sender
                self.sender.send(header + number.to_bytes(4, "big").ljust(octets, b"\0"))
        self.sent += count
        return numbers

    def received(self, most: int | None = None) -> list[int]:
        """The numbers of the frames that have come through since the last call, in order."""
        found: list[int] = []
        with suppress(TimeoutError):
            while most is None or len(found) < most:
                frame = self.receiver.recv(2000)
                found.append(int.from_bytes(frame[14:18], "big"))
        return found


@dataclass
class Way(Sending):
    """A cable into a bridge, with the gate behind its end."""

    gate: Gate
    drain_probe: DrainProbe


@pytest.fixture
def way() -> Iterator[Way]:
    """Closed, with room for `ROOM` frames."""
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
        made = Way(
            bound(here.pid, "near"), bound(there.pid, "nic"), gate=gate, drain_probe=drain_probe
        )
        wait_until(lambda: None if made.send(1) and made.received() else "the bridge is not ready")
        gate.close()
        yield made
        gate.end()
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
    for times in (1, 2):
        way.send(20)
        way.gate.give_up()
        way.send(5)
        way.gate.open()
        later = way.send(10)
        assert way.received() == later
        assert way.gate.dropped() == 25 * times
        way.gate.close()


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


# -- outbound --------------------------------------------------------------------------------------


@pytest.fixture
def guest() -> Iterator[tuple[Plug, Plug]]:
    """A VM's plug and lane, and nothing else."""
    server, guest = Namespace(), Namespace()
    try:
        ip(guest.pid, [f"link add {NIC} type bridge", f"link set {NIC} addrgenmode none up"])
        plug, lane = (
            Plug.create("vm1", "nve1", guest.pid, server.pid, offloads=False, lane=lane)
            for lane in (False, True)
        )
        yield plug, lane
        for cable in (plug, lane):
            cable.remove()
    finally:
        server.close()
        guest.close()


def test_what_is_held_comes_out_behind_what_the_switch_has_yet_to_deal_with(
    guest: tuple[Plug, Plug],
) -> None:
    """A switch may forward markers before packets that came with them."""
    plug, lane = guest
    never: list[str] = []
    bounds = Bounds(ROOM, 1 << 30, 60, markers_s=30)
    plug_gate, lane_gate = (Gate(plug.vm_pid, cable.vm_interface, bounds) for cable in guest)
    set_forwarding([plug, lane], True)

    def visit() -> ReorderBuffer:
        return ReorderBuffer(plug.vm_pid, bounds, lambda: never.append("!"), plug_gate, lane_gate)

    buffer = visit()
    nic = bound(plug.vm_pid, NIC)
    new_path = Sending(bound(plug.nve_pid, plug.nve_interface), nic)
    old_path = Sending(bound(plug.nve_pid, lane.nve_interface), nic, sent=100)
    buffer.open()
    wait_until(lambda: None if old_path.send(1) and old_path.received() else "not ready")
    released: list[tuple[str, ...]] = []
    overtaken: list[int] = []

    def dealt_with() -> None:
        overtaken.extend(old_path.send(3))
        time.sleep(0.1)

    markers = bound(plug.nve_pid, lane.nve_interface)
    system = vm("vm1", 1, "nve1").tenant_system
    try:
        assert buffer.expect(1, ("nve3",), released.append, dealt_with)
        held = new_path.send(3)
        assert new_path.received() == []
        for copy in range(COPIES):
            marker = Signal(MarkerKind.MARKER, 1, system, ("nve3",), copy)
            markers.send(frame(marker, Mac("ff:ff:ff:ff:ff:ff")))
        buffer.await_delivery()
        received = new_path.received()
        assert received == [*overtaken, *held]
        assert len(received) == 6
        assert (released, never) == ([()], [])
        # The VM leaves while something is held: that is dropped, and counts with this visit.
        assert buffer.expect(2, ("nve3",), released.append, dealt_with)
        new_path.send(ROOM + 5)
        assert new_path.received() == []
        assert buffer.dropped() == 5
        buffer.end()
        assert new_path.received() == []
        later = new_path.send(3)
        assert new_path.received() == later
        # It comes again.
        buffer = visit()
        old_path.send(ROOM + 7)
        assert old_path.received() == []
        assert buffer.dropped() == 7
    finally:
        buffer.end()
        for gate in (plug_gate, lane_gate):
            gate.end()
        for each in (nic, new_path.sender, old_path.sender, markers):
            each.close()


@dataclass
class WayOut(Sending):
    """A cable out of a namespace, with the gate before its end."""

    gate: OutboundGate


@pytest.fixture
def way_out() -> Iterator[WayOut]:
    """Open, as a gate is made, with room for `ROOM` frames."""
    here, there = Namespace(), Namespace()
    try:
        ends = f"near type veth peer name far netns {there.pid}"
        ip(here.pid, [f"link add {ends}", "link set near addrgenmode none up"])
        ip(there.pid, ["link set far addrgenmode none up"])
        bounds = Bounds(packets=ROOM, octets=1 << 30, time_s=60)
        take_in_by_one_processor(there.pid, ["far"])
        gate = OutboundGate(here.pid, "near", bounds)
        made = WayOut(bound(here.pid, "near"), bound(there.pid, "far"), gate=gate)
        wait_until(lambda: None if made.send(1) and made.received() else "the cable is not ready")
        yield made
        gate.end()
        made.sender.close()
        made.receiver.close()
    finally:
        here.close()
        there.close()


def test_outbound_what_is_held_leaves_before_what_comes_later(way_out: WayOut) -> None:
    for _ in range(5):
        way_out.gate.close()
        held = way_out.send(ROOM // 2)
        assert way_out.received() == []
        assert way_out.gate.queued() == ROOM // 2
        assert way_out.gate.open() == ROOM // 2
        later = way_out.send(ROOM // 2)
        assert way_out.received() == [*held, *later]
    assert way_out.gate.dropped() == 0


def test_outbound_opening_needs_no_further_packet_and_may_be_repeated(way_out: WayOut) -> None:
    way_out.gate.close()
    held = way_out.send(3, octets=MTU)
    assert way_out.gate.open() == 3
    assert way_out.gate.open() == 0
    assert way_out.received() == held
    assert way_out.gate.queued() == 0


def test_outbound_what_finds_no_room_is_counted(way_out: WayOut) -> None:
    way_out.gate.close()
    numbers = way_out.send(ROOM + 30)
    assert way_out.gate.open() == ROOM
    assert way_out.received() == numbers[:ROOM]
    assert way_out.gate.dropped() == 30
    way_out.gate.close()
    assert way_out.gate.dropped() == 0


def test_outbound_what_is_sent_from_another_processor_does_not_overtake(way_out: WayOut) -> None:
    """Where there is one processor only, there is nothing to see."""
    processors = os.sched_getaffinity(0)
    try:
        for first, second in itertools.permutations(processors, 2):
            for _ in range(20):
                os.sched_setaffinity(0, {first})
                way_out.gate.close()
                held = way_out.send(ROOM // 2)
                opening = threading.Thread(target=way_out.gate.open)
                opening.start()
                os.sched_setaffinity(0, {second})
                while way_out.gate.closed:
                    pass
                later = way_out.send(ROOM // 2)
                assert way_out.received(len(held + later)) == [*held, *later]
                opening.join()
    finally:
        os.sched_setaffinity(0, processors)


# -- into a switch ---------------------------------------------------------------------------------


def test_an_inlet_is_empty_once_the_switch_has_read_and_changes_nothing_for_it() -> None:
    """A switch whose sockets are made blocking ones stands still for ever."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as port:
        port.bind(("lo", ETHERTYPE))
        port.setblocking(False)
        inlet = Inlet(os.getpid(), "lo")
        assert fcntl.fcntl(port, fcntl.F_GETFL) & os.O_NONBLOCK
        inlet.await_taken_in(TIMEOUT_S)
        port.send(EVERYBODY + SENDER + ETHERTYPE.to_bytes(2, "big") + bytes(46))
        with pytest.raises(TimeoutError, match="wait in lo"):
            inlet.await_taken_in(0.05)
        assert list(waiting_in(port))
        inlet.await_taken_in(TIMEOUT_S)
        inlet.close()
        with pytest.raises(RuntimeError, match="no port"):
            Inlet(os.getpid(), "nowhere")
