"""An NVE's agent at a port that is a pair of sockets: what it is told, and what it says."""

import os
import socket
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import replace
from ipaddress import ip_address
from typing import cast

from nve.hypervisor.reorder_buffer import Released, ReorderBuffer
from nve.ovs.agent import UDP_PORT, Agent
from nve.ovs.bridge import OvsInstance
from nve.wire.end_marker import COPIES, NEEDED, MarkerKind, Signal, frame, read
from tests.helpers.tenants import vm

ORDER = Signal(MarkerKind.EXPECT_MARKERS, 7, vm("vm1", 1, "nve1").tenant_system, ("nve3",))


class AtAPair(Agent):
    """`nva` is the other end of its port, and the underlay is the loopback interface."""

    def _open(self) -> None:
        self._socket, self.nva = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.nva.settimeout(5)

    def _open_to_peers(self) -> socket.socket:
        peers = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        peers.bind((str(self._nve.vtep), UDP_PORT))
        peers.setblocking(False)
        return peers

    def said(self) -> Signal:
        return read(self.nva.recv(2048))


class FakeReorderBuffer:
    """They hold until the test says that the markers are there."""

    released: Released

    def __init__(self, *, there: bool = True) -> None:
        self._there = there

    def expect(self, handover: int, ingress_nves: tuple[str, ...], released: Released) -> bool:
        self.released = released
        return self._there


_HERE = f"127.{os.getpid() >> 8 & 0x7F}.{os.getpid() & 0xFF}"
"""Other processes run the same tests at the same time."""
VTEPS = {f"nve{number}": ip_address(f"{_HERE}.{number}") for number in (1, 2, 3)}


class FakeSwitch:
    """What an agent asks of its switch; `dead`: it does not answer."""

    def __init__(self, name: str, *, dead: bool) -> None:
        self.name = name
        self.vtep = VTEPS[name]
        self.peers = {nve: vtep for nve, vtep in VTEPS.items() if nve != name}
        self.followed = 0
        self._dead = dead

    def add_internal_port(self, name: str, port: int) -> None:
        """There is one."""

    def take_in_what_has_come(self) -> None:
        if self._dead:
            raise RuntimeError("it does not run")

    def follow_rules_now(self, *, thoroughly: bool = False) -> None:
        self.followed += 1 + thoroughly


def at(nve: str, reorder_buffer: FakeReorderBuffer | None = None, *, dead: bool = False) -> AtAPair:
    switch = cast(OvsInstance, FakeSwitch(nve, dead=dead))
    agent = AtAPair(switch, lambda system, at: cast(ReorderBuffer | None, reorder_buffer))
    agent.start()
    return agent


def started(reorder_buffer: FakeReorderBuffer | None) -> AtAPair:
    agent = at("nve2", reorder_buffer)
    agent.nva.send(frame(ORDER))
    return agent


def test_it_says_when_lanes_hold_and_when_they_do_no_longer() -> None:
    reorder_buffer = FakeReorderBuffer()
    agent = started(reorder_buffer)
    assert agent.said().kind is MarkerKind.EXPECTING
    reorder_buffer.released(("nve3",))
    assert agent.said() == Signal(MarkerKind.RELEASED, 7, ORDER.system, ("nve3",))
    agent.stop()


def test_where_nothing_can_hold_it_says_so_at_once() -> None:
    for reorder_buffer in (None, FakeReorderBuffer(there=False)):
        agent = started(reorder_buffer)
        assert agent.said() == Signal(MarkerKind.RELEASED, 7, ORDER.system, ("nve3",))
        agent.stop()


def test_whose_markers_are_over_when_its_port_is_gone_is_not_disturbed() -> None:
    """A watcher of reorder buffers that ended here would never open a gate again."""
    reorder_buffer = FakeReorderBuffer()
    agent = started(reorder_buffer)
    assert agent.said().kind is MarkerKind.EXPECTING
    agent.stop()
    reorder_buffer.released(("nve3",))


def test_a_source_says_when_its_switch_follows_a_redirect() -> None:
    with closing_all(at("nve1")) as (agent,):
        following = agent.following(ORDER.system)
        agent.nva.send(frame(replace(ORDER, kind=MarkerKind.FOLLOW, ingress_nves=())))
        assert following.wait(5)
        assert cast(FakeSwitch, agent._nve).followed == 2


SYSTEM, NUMBER = ORDER.system, 9
MARKER = Signal(MarkerKind.LAST, NUMBER, SYSTEM, ("nve1", "nve2"))


def test_what_a_vm_has_sent_last_is_marked_at_the_word_of_its_hypervisor() -> None:
    with closing_all(at("nve1")) as (agent,):
        agent.mark_last(SYSTEM, NUMBER, "nve2").result(5)
        said = [agent.said() for _ in range(COPIES)]
    assert said == [replace(MARKER, copy=copy) for copy in range(COPIES)]


def test_a_destination_hears_of_a_marker_wherever_it_comes_to() -> None:
    with closing_all(at("nve2"), at("nve3")) as (destination, other):
        destination.expect_last(SYSTEM, NUMBER)
        for agent in (destination, other):
            for copy in range(NEEDED):
                agent.nva.send(frame(replace(MARKER, copy=copy)))
        assert destination.await_last(SYSTEM, ["nve2", "nve3"], sent(), timeout_s=5) == []


def test_where_too_few_copies_come_the_destination_does_not_wait_for_ever() -> None:
    with closing_all(at("nve2"), at("nve3")) as (destination, other):
        destination.expect_last(SYSTEM, NUMBER)
        for copy in range(NEEDED - 1):
            other.nva.send(frame(replace(MARKER, copy=copy)))
        assert destination.await_last(SYSTEM, ["nve3"], sent(), timeout_s=0.2) == ["nve3"]


def test_an_agent_is_heard_as_its_own_nve_alone() -> None:
    with (
        closing_all(at("nve2")) as (destination,),
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as forger,
    ):
        destination.expect_last(SYSTEM, NUMBER)
        forger.bind((str(VTEPS["nve3"]), 0))
        claims = (("nve1",), ("nve1", "nve3"), (), ("nobody",))
        for said in claims:
            arrived = replace(MARKER, kind=MarkerKind.ARRIVED, ingress_nves=said)
            forger.sendto(frame(arrived), (str(VTEPS["nve2"]), UDP_PORT))
        forger.sendto(b"noise", (str(VTEPS["nve2"]), UDP_PORT))
        own = replace(MARKER, kind=MarkerKind.ARRIVED, ingress_nves=("nve3",))
        forger.sendto(frame(own), (str(VTEPS["nve2"]), UDP_PORT))
        missing = destination.await_last(SYSTEM, ["nve1", "nve3"], sent(), timeout_s=0.2)
        assert missing == ["nve1"]


def test_a_marker_that_cannot_be_sent_is_not_waited_for() -> None:
    with closing_all(at("nve1", dead=True), at("nve2")) as (source, destination):
        destination.expect_last(SYSTEM, NUMBER)
        failed = source.mark_last(SYSTEM, NUMBER, "nve2")
        assert destination.await_last(SYSTEM, ["nve3"], failed, timeout_s=60) == ["nve3"]
        assert isinstance(failed.exception(), RuntimeError)


def sent() -> "Future[None]":
    done: Future[None] = Future()
    done.set_result(None)
    return done


@contextmanager
def closing_all(*agents: AtAPair) -> Iterator[tuple[AtAPair, ...]]:
    yield agents
    for agent in agents:
        agent.stop()
