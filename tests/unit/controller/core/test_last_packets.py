"""What a VM sent last has arrived before what it sends elsewhere goes out.

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

NUMBER = 7


def passing(made: Fabric, move: Move, number: int = NUMBER) -> LastPacketWait:
    found = made.ask(made.authority.last_packets, move.key, number)
    assert isinstance(found, LastPacketWait)
    return found


def at_nve3(made: Fabric, copies: range, number: int = NUMBER) -> None:
    """Copies of a marker come to nve3."""
    for copy in copies:
        marker = Signal(MarkerKind.LAST, number, SYSTEM, ("nve1",), copy)
        made.ask(made.authority.reported, "nve3", Signalled(VXLAN_PORT, marker))


def test_a_marker_comes_to_every_nve_with_vms_of_the_network() -> None:
    made = fabric()
    made.associate(vm("other", 1, "nve4", BLUE))
    waiting = passing(made, departed(made))
    assert waiting.missing == {"nve2", "nve3"}
    made.mark_last("nve1", SYSTEM, NUMBER)
    made.settle()
    assert waiting.missing == set()
    assert passed(made) == [{"nves": ["nve2", "nve3"]}]


def test_it_may_have_come_before_anybody_asks() -> None:
    made = fabric()
    move = departed(made)
    at_nve3(made, range(NEEDED - 1))
    assert passed(made) == []
    waiting = passing(made, move)
    assert waiting.missing == {"nve2", "nve3"}
    made.mark_last("nve1", SYSTEM, NUMBER)
    made.settle()
    assert passing(made, move).missing == set()
    assert passed(made)[0] == {"nves": ["nve2", "nve3"]}


def test_one_copy_of_a_marker_is_not_enough() -> None:
    made = fabric()
    waiting = passing(made, departed(made))
    at_nve3(made, range(NEEDED - 1))
    assert waiting.missing == {"nve2", "nve3"}
    at_nve3(made, range(NEEDED - 1))
    assert waiting.missing == {"nve2", "nve3"}, "the same copies again say nothing new"
    at_nve3(made, range(NEEDED - 1, NEEDED))
    assert waiting.missing == {"nve2"}


def test_markers_of_an_earlier_move_do_not_count() -> None:
    made = fabric()
    waiting = passing(made, departed(made))
    at_nve3(made, range(COPIES), NUMBER - 1)
    assert waiting.missing == {"nve2", "nve3"}
    at_nve3(made, range(COPIES))
    assert waiting.missing == {"nve2"}


def test_a_vm_that_nobody_knows_is_not_remembered() -> None:
    made = fabric()
    move = departed(made)
    stranger = replace(SYSTEM, mac=vm("stranger", 99, "nve1").mac)
    marker = Signal(MarkerKind.LAST, NUMBER, stranger, ("nve1",))
    made.ask(made.authority.reported, "nve3", Signalled(VXLAN_PORT, marker))
    assert passing(made, move).missing == {"nve2", "nve3"}


def test_an_nve_out_of_reach_is_not_waited_for() -> None:
    made = fabric()
    move = departed(made)
    made.disconnect("nve3")
    waiting = passing(made, move)
    assert waiting.missing == {"nve2"}
    made.mark_last("nve1", SYSTEM, NUMBER)
    made.settle()
    assert waiting.missing == set()


def test_the_source_may_be_out_of_reach_of_the_nva() -> None:
    made = fabric()
    move = departed(made)
    made.disconnect("nve1")
    waiting = passing(made, move)
    made.mark_last("nve1", SYSTEM, NUMBER)
    made.settle()
    assert waiting.missing == set()


def test_where_nobody_else_is_there_is_nothing_to_wait_for() -> None:
    made = Fabric(vteps(), strategy("push", None), end_markers=True)
    made.associate(vm("vm1", 1, "nve1"))
    made.settle()
    assert passing(made, departed(made)).missing == set()


def test_a_vm_that_runs_at_the_source_has_no_last_packets_there() -> None:
    made = fabric()
    move = made.request_move("vm1", "nve2")
    made.settle()
    with pytest.raises(RequestRefused, match="is prepared: its VM is at nve1"):
        passing(made, move)


def test_it_may_have_been_heard_at_its_destination_already() -> None:
    made = fabric()
    move = departed(made)
    made.activate(move)
    made.settle()
    waiting = passing(made, move)
    assert waiting.missing == {"nve2", "nve3"}
    made.mark_last("nve1", SYSTEM, NUMBER)
    made.settle()
    assert waiting.missing == set()


def test_a_destination_without_another_vm_of_the_network_is_not_waited_for() -> None:
    """The source NVE sends nothing there that is not for the VM itself."""
    made = fabric()
    move = departed(made, "nve4")
    made.mark_last("nve1", SYSTEM, NUMBER)
    made.activate(move)
    made.settle()
    assert passing(made, move).missing == set()
    assert passed(made) == [{"nves": ["nve2", "nve3"]}]


@pytest.mark.parametrize(
    ("kind", "port"),
    [(MarkerKind.LAST, AGENT_PORT), (MarkerKind.RELEASED, VXLAN_PORT), (MarkerKind.LAST, 11)],
)
def test_a_signal_by_the_wrong_port_is_counted_and_has_no_effect(
    kind: MarkerKind, port: int
) -> None:
    made = fabric()
    waiting = passing(made, departed(made))
    marker = Signal(kind, NUMBER, SYSTEM, ("nve1",))
    for copy in range(COPIES):
        made.ask(made.authority.reported, "nve3", Signalled(port, replace(marker, copy=copy)))
    assert waiting.missing == {"nve2", "nve3"}
    assert made.refused() == {"malformed": COPIES}


def passed(made: Fabric) -> list[dict[str, object]]:
    return [dict(line.details) for line in made.trace if line.event == "last-packets-passed"]
