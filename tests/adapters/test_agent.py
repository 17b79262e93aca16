"""An NVE's agent at a port that is a pair of sockets: what it is told, and what it says."""

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from ipaddress import ip_address
from typing import cast

from nve.hypervisor.reorder_buffer import Released, ReorderBuffer
from nve.linux.wait import readable
from nve.model import Mac
from nve.ovs.agent import Agent
from nve.ovs.bridge import OvsInstance
from nve.wire.end_marker import (
    COPIES,
    MarkerKind,
    Signal,
    frame,
    last_address,
    passed_address,
    read,
)
from tests.helpers.tenants import vm

ORDER = Signal(MarkerKind.EXPECT_MARKERS, 7, vm("vm1", 1, "nve1").tenant_system, ("nve3",))


class AtAPair(Agent):
    """`nva` is the other end of its port."""

    def _open(self) -> None:
        self._socket, self.nva = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.nva.settimeout(5)

    def said(self) -> Signal:
        return read(self.nva.recv(2048))


class FakeReorderBuffer:
    """They hold until the test says that the markers are there."""

    released: Released
    dealt_with: Callable[[], None]

    def __init__(self, *, there: bool = True) -> None:
        self._there = there

    def expect(
        self,
        handover: int,
        ingress_nves: tuple[str, ...],
        released: Released,
        dealt_with: Callable[[], None],
    ) -> bool:
        self.released, self.dealt_with = released, dealt_with
        return self._there


VTEPS = {f"nve{number}": ip_address(f"192.0.2.{number}") for number in (1, 2, 3)}


class FakeSwitch:
    """What an agent asks of its switch."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.vtep = VTEPS[name]
        self.peers = {nve: vtep for nve, vtep in VTEPS.items() if nve != name}
        self.followed = 0

    def add_internal_port(self, name: str, port: int) -> None:
        """There is one."""

    def follow_rules_now(self, *, thoroughly: bool = False) -> None:
        self.followed += 1 + thoroughly


def at(nve: str, reorder_buffer: FakeReorderBuffer | None = None) -> AtAPair:
    switch = cast(OvsInstance, FakeSwitch(nve))
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
        with agent.following(ORDER.system) as following:
            assert not readable(following, 0)
            agent.nva.send(frame(replace(ORDER, kind=MarkerKind.FOLLOW)))
            assert readable(following, 5)
        assert following.network_nves == ("nve3",)
        assert cast(FakeSwitch, agent._nve).followed == 2


def test_an_order_to_follow_that_nobody_waits_for_does_no_harm() -> None:
    with closing_all(at("nve1")) as (agent,):
        with agent.following(ORDER.system):
            pass
        for kind in (MarkerKind.FOLLOW, MarkerKind.EXPECT_MARKERS):
            agent.nva.send(frame(replace(ORDER, kind=kind)))
        assert agent.said().kind is MarkerKind.RELEASED


SYSTEM, NUMBER = ORDER.system, 9
MARKER = Signal(MarkerKind.LAST, NUMBER, SYSTEM, ("nve1", "nve2"))


def test_what_a_vm_has_sent_last_is_marked_at_the_word_of_its_hypervisor() -> None:
    with closing_all(at("nve1")) as (agent,):
        agent.mark_last(SYSTEM, NUMBER, "nve2", None)
        said = [agent.said() for _ in range(COPIES)]
    assert said == [replace(MARKER, copy=copy) for copy in range(COPIES)]


def has_passed(nve: str) -> Mac:
    return last_address(VTEPS[nve]) if nve == "nve2" else passed_address(VTEPS[nve])


def test_a_destination_waits_until_the_marker_has_passed_each_nve() -> None:
    with closing_all(at("nve2")) as (destination,):
        destination.expect_last(SYSTEM, NUMBER)
        for copy in range(COPIES):
            destination.nva.send(frame(replace(MARKER, copy=copy), has_passed("nve2")))
        nves = ["nve2", "nve3"]
        assert destination.await_last(SYSTEM, nves, timeout_s=0.2) == ["nve3"]
        destination.expect_last(SYSTEM, NUMBER)
        for nve in nves:
            destination.nva.send(frame(replace(MARKER, copy=3), has_passed(nve)))
        assert destination.await_last(SYSTEM, nves, timeout_s=5) == []


def test_a_marker_for_another_destination_says_nothing() -> None:
    with closing_all(at("nve2")) as (destination,):
        destination.expect_last(SYSTEM, NUMBER)
        for copy in range(COPIES):
            destination.nva.send(frame(replace(MARKER, copy=copy), last_address(VTEPS["nve3"])))
        assert destination.await_last(SYSTEM, ["nve2"], timeout_s=0.2) == ["nve2"]


@contextmanager
def closing_all(*agents: AtAPair) -> Iterator[tuple[AtAPair, ...]]:
    yield agents
    for agent in agents:
        agent.stop()
