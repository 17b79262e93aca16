"""An NVE's agent at a port that is a pair of sockets: what it is told, and what it says."""

import socket
from dataclasses import replace
from types import SimpleNamespace
from typing import cast

from nve.hypervisor.reorder_buffer import Released, ReorderBuffer
from nve.ovs.agent import Agent
from nve.ovs.bridge import OvsInstance
from nve.wire.end_marker import COPIES, MarkerKind, Signal, frame, read
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

    def __init__(self, *, there: bool = True) -> None:
        self._there = there

    def expect(self, handover: int, ingress_nves: tuple[str, ...], released: Released) -> bool:
        self.released = released
        return self._there


def started(reorder_buffer: FakeReorderBuffer | None) -> AtAPair:
    nve = SimpleNamespace(
        name="nve2",
        add_internal_port=lambda name, port: None,
        take_in_what_has_come=lambda: None,
    )
    agent = AtAPair(
        cast(OvsInstance, nve), lambda system, at: cast(ReorderBuffer | None, reorder_buffer)
    )
    agent.start()
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


def test_what_a_vm_has_sent_last_is_marked_at_the_word_of_its_hypervisor() -> None:
    agent = started(None)
    agent.said()
    agent.mark_last(ORDER.system, 9)
    wanted = Signal(MarkerKind.LAST, 9, ORDER.system, ("nve2",))
    assert [agent.said() for _ in range(COPIES)] == [
        replace(wanted, copy=copy) for copy in range(COPIES)
    ]
    agent.stop()
