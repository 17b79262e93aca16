"""Room on servers: what a move takes, when it gives it back, and what is refused for want of it.

Servers and VMs are those of `tests.helpers.room`.
"""

import pytest

from controller.core.move_fsm import GIVE_UP_S, Phase
from tests.helpers import promises
from tests.helpers.fabric import SECOND_NS, Fabric
from tests.helpers.room import made, move, on_board, refused, steps, taken, two_vms
from tests.helpers.tenants import vm


@pytest.fixture
def fabric() -> Fabric:
    return two_vms()


@pytest.mark.shows("R6.1")
@pytest.mark.parametrize("killed", [False, True])
def test_a_vm_has_room_at_both_ends_until_its_move_is_completed(
    fabric: Fabric, killed: bool
) -> None:
    """Whether the NVA is killed after each step or not."""
    assert taken(fabric) == {"nve1": 128, "nve2": 0, "nve3": 0}
    key = move(fabric, "vm1", "nve2")
    for phase, step in steps(fabric, key):
        assert taken(fabric) == {"nve1": 128, "nve2": 64, "nve3": 0}
        if killed:
            fabric.kill()
            assert taken(fabric) == {"nve1": 128, "nve2": 64, "nve3": 0}
            fabric.connect_all()
            fabric.settle()
        step()
        assert fabric.authority.move(key).phase is phase
    assert taken(fabric) == {"nve1": 64, "nve2": 64, "nve3": 0}


@pytest.mark.shows("R6.1")
@pytest.mark.parametrize("killed", [False, True])
@pytest.mark.parametrize("done", range(3))
@pytest.mark.parametrize("ending", ["rolled back", "timed out"])
def test_a_move_that_is_undone_gives_its_room_back(
    fabric: Fabric, done: int, ending: str, killed: bool
) -> None:
    key = move(fabric, "vm1", "nve2")
    for _, step in steps(fabric, key)[:done]:
        step()
    if ending == "rolled back":
        fabric.ask(fabric.authority.roll_back, key)
    else:
        fabric.now_ns += 61 * SECOND_NS
        fabric.ask(fabric.authority.tick)
    if killed:
        fabric.kill()
        fabric.connect_all()
    assert taken(fabric) == {"nve1": 128, "nve2": 0, "nve3": 0}
    fabric.settle()
    assert taken(fabric) == {"nve1": 128, "nve2": 0, "nve3": 0}
    assert promises.disagreeing(fabric) == []


def test_a_move_that_its_source_never_confirms_gives_its_room_back(fabric: Fabric) -> None:
    """The source's server is gone: the move ends without it (GIVE_UP_S)."""
    key = move(fabric, "vm1", "nve2")
    for _, step in steps(fabric, key)[:3]:
        step()
    fabric.die("nve1")
    fabric.settle()
    for _ in range(2):
        fabric.ask(fabric.authority.tick)
        fabric.now_ns += int(GIVE_UP_S + 1) * SECOND_NS
    fabric.settle()
    assert fabric.authority.move(key).phase is Phase.COMPLETED
    assert taken(fabric) == {"nve1": 64, "nve2": 64, "nve3": 0}


@pytest.mark.shows("R6.1")
def test_a_move_whose_destination_has_no_room_is_refused(fabric: Fabric) -> None:
    move(fabric, "vm1", "nve2")
    refused(
        fabric,
        r"nve2 has no room for vm2: 64 MB of memory wanted, 32 free; make room there, or name",
        lambda: move(fabric, "vm2", "nve2"),
    )
    fabric.ask(fabric.authority.roll_back, "1")
    move(fabric, "vm2", "nve2")


def test_a_move_is_from_where_the_vm_is_and_of_what_it_has(fabric: Fabric) -> None:
    refused(
        fabric,
        "vm1 is at nve1, not at nve2; ask for a move from there",
        lambda: move(fabric, "vm1", "nve3", source="nve2"),
    )
    refused(
        fabric,
        "vm1 has 64 MB of memory, 10 MB of storage, and the move is of 65 MB of "
        "memory, 10 MB of storage; adjust it first",
        lambda: move(fabric, "vm1", "nve3", memory_mb=65),
    )
    move(fabric, "vm1", "nve3", source="nve1")


def test_a_vm_goes_back_to_the_room_that_it_still_has(fabric: Fabric) -> None:
    """Full servers, and both moves under way: what it has there is not taken by somebody else."""
    at = made()
    on_board(at, vm("vm3", 3, "nve3"))
    at.settle()
    for _, step in steps(at, move(at, "vm3", "nve2"))[:4]:
        step()
    assert taken(at) == {"nve1": 0, "nve2": 64, "nve3": 64}
    refused(at, "nve3 has no room for vm1", lambda: on_board(at, vm("vm1", 1, "nve3")))
    move(at, "vm3", "nve3")
    assert taken(at) == {"nve1": 0, "nve2": 64, "nve3": 64}


def test_a_vm_that_was_not_on_boarded_takes_room_while_it_moves(fabric: Fabric) -> None:
    fabric.associate(vm("vm4", 4, "nve1"))
    fabric.settle()
    assert taken(fabric)["nve1"] == 128
    refused(fabric, "nve3 has no room for vm4", lambda: move(fabric, "vm4", "nve3", memory_mb=65))
    key = move(fabric, "vm4", "nve3")
    refused(fabric, "nve3 has no room for vm1", lambda: move(fabric, "vm1", "nve3"))
    for _, step in steps(fabric, key):
        step()
    assert taken(fabric)["nve3"] == 0
