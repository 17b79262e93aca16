"""What a VM sent last has arrived before it goes on elsewhere.

vm1 moves from nve1 to nve2; vm2 is at the destination, vm3 at a third NVE, and nve4 has no VM of
this network.
"""

from dataclasses import replace

import pytest

from controller.core.authority import RequestRefused
from controller.core.dissemination import strategy
from controller.core.last_packets import LastPacketWait
from controller.core.move import Move
from nve.messages import Signalled
from nve.pipeline.rules import AGENT_PORT, VXLAN_PORT
from nve.wire.end_marker import COPIES, NEEDED, MarkerKind, Signal
from tests.helpers.fabric import Fabric
from tests.helpers.handovers import SYSTEM, departed, fabric
from tests.helpers.tenants import BLUE, vm, vteps


def passing(made: Fabric, move: Move) -> LastPacketWait:
    found = made.ask(made.authority.last_packets, move.key)
    assert isinstance(found, LastPacketWait)
    return found


def at_nve3(made: Fabric, waiting: LastPacketWait, copies: range) -> None:
    """Copies of a marker come to nve3."""
    for copy in copies:
        marker = Signal(MarkerKind.LAST, waiting.number, SYSTEM, ("nve1",), copy)
        made.ask(made.authority.reported, "nve3", Signalled(VXLAN_PORT, marker))


def test_a_marker_comes_to_every_nve_with_vms_of_the_network() -> None:
    made = fabric()
    made.associate(vm("other", 1, "nve4", BLUE))
    waiting = passing(made, departed(made))
    assert waiting.missing == {"nve2", "nve3"}
    made.settle()
    assert [(nve, order.kind) for nve, order in made.orders] == [("nve1", MarkerKind.SEND_LAST)]
    assert waiting.missing == set()
    assert set(waiting.seen) == {"nve2", "nve3"}
    (passed,) = [line for line in made.trace if line.event == "last-packets-passed"]
    assert passed.details == {"nves": ["nve2", "nve3"]}


def test_one_copy_of_a_marker_is_not_enough() -> None:
    made = fabric()
    waiting = passing(made, departed(made))
    at_nve3(made, waiting, range(NEEDED - 1))
    assert "nve3" in waiting.missing
    at_nve3(made, waiting, range(NEEDED - 1))
    assert "nve3" in waiting.missing, "the same copies again say nothing new"
    at_nve3(made, waiting, range(NEEDED - 1, NEEDED))
    assert "nve3" not in waiting.missing


def test_markers_of_an_earlier_question_do_not_count() -> None:
    made = fabric()
    move = departed(made)
    earlier, waiting = passing(made, move), passing(made, move)
    at_nve3(made, earlier, range(COPIES))
    assert "nve3" in waiting.missing
    made.settle()
    assert waiting.missing == set()


def test_an_nve_out_of_reach_is_not_waited_for() -> None:
    made = fabric()
    move = departed(made)
    made.disconnect("nve3")
    waiting = passing(made, move)
    made.settle()
    assert waiting.missing == set()
    assert set(waiting.seen) == {"nve2"}


def test_where_the_source_is_out_of_reach_nobody_waits() -> None:
    made = fabric()
    move = departed(made)
    made.disconnect("nve1")
    with pytest.raises(RequestRefused, match="nve1, which has to send a marker, is not connected"):
        passing(made, move)


def test_where_nobody_else_is_there_is_nothing_to_wait_for() -> None:
    made = Fabric(vteps(), strategy("push", None), end_markers=True)
    made.associate(vm("vm1", 1, "nve1"))
    made.settle()
    assert passing(made, departed(made)).missing == set()


def test_it_is_asked_again_after_a_restart_of_the_nva() -> None:
    made = fabric()
    move = departed(made)
    before = passing(made, move)
    made.kill()
    made.connect_all()
    made.settle()
    waiting = passing(made, move)
    assert waiting.number > before.number
    made.settle()
    assert waiting.missing == set()


@pytest.mark.parametrize("when", ["prepared", "activated"])
def test_a_vm_that_runs_has_no_last_packets(when: str) -> None:
    made = fabric()
    if when == "prepared":
        move = made.request_move("vm1", "nve2")
    else:
        move = departed(made)
        made.activate(move)
    made.settle()
    with pytest.raises(RequestRefused, match="its VM runs"):
        made.ask(made.authority.last_packets, move.key)


@pytest.mark.parametrize(
    ("kind", "port"),
    [(MarkerKind.LAST, AGENT_PORT), (MarkerKind.RELEASED, VXLAN_PORT), (MarkerKind.LAST, 11)],
)
def test_a_signal_by_the_wrong_port_is_counted_and_has_no_effect(
    kind: MarkerKind, port: int
) -> None:
    made = fabric()
    waiting = passing(made, departed(made))
    marker = Signal(kind, waiting.number, SYSTEM, ("nve1",))
    for copy in range(COPIES):
        made.ask(made.authority.reported, "nve3", Signalled(port, replace(marker, copy=copy)))
    assert waiting.missing == {"nve2", "nve3"}
    assert made.refused() == {"malformed": COPIES}
