"""An NVE's agent at a port that is a pair of sockets: what it is told, and what it says."""

import socket
from types import SimpleNamespace
from typing import cast

from nve.hypervisor.agent import Agent
from nve.hypervisor.reorder_buffer import Lanes, Released
from nve.ovs.bridge import OvsInstance
from nve.wire.end_marker import Kind, Signal, frame, read
from tests.helpers.tenants import vm

ORDER = Signal(Kind.EXPECT_MARKERS, 7, vm("vm1", 1, "nve1").tenant_system, ("nve3",))


class AtAPair(Agent):
    """`nva` is the other end of its port."""

    def _open(self) -> None:
        self._socket, self.nva = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.nva.settimeout(5)

    def said(self) -> Signal:
        return read(self.nva.recv(2048))


class FakeLanes:
    """They hold until the test says that the markers are there."""

    released: Released

    def __init__(self, *, there: bool = True) -> None:
        self._there = there

    def expect(self, handover: int, edges: tuple[str, ...], released: Released) -> bool:
        self.released = released
        return self._there


def started(lanes: FakeLanes | None) -> AtAPair:
    nve = SimpleNamespace(name="nve2", add_internal_port=lambda name, port: None)
    agent = AtAPair(cast(OvsInstance, nve), lambda system, at: cast(Lanes | None, lanes))
    agent.start()
    agent.nva.send(frame(ORDER))
    return agent


def test_it_says_when_lanes_hold_and_when_they_do_no_longer() -> None:
    lanes = FakeLanes()
    agent = started(lanes)
    assert agent.said().kind is Kind.EXPECTING
    lanes.released(("nve3",))
    assert agent.said() == Signal(Kind.RELEASED, 7, ORDER.system, ("nve3",))
    agent.stop()


def test_where_nothing_can_hold_it_says_so_at_once() -> None:
    for lanes in (None, FakeLanes(there=False)):
        agent = started(lanes)
        assert agent.said() == Signal(Kind.RELEASED, 7, ORDER.system, ("nve3",))
        agent.stop()


def test_whose_markers_are_over_when_its_port_is_gone_is_not_disturbed() -> None:
    """A watcher of lanes that ended here would never open a gate again."""
    lanes = FakeLanes()
    agent = started(lanes)
    assert agent.said().kind is Kind.EXPECTING
    agent.stop()
    lanes.released(("nve3",))
