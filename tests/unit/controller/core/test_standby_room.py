"""Room for standbys (R7.2, R7.3): who takes it, and what is left of it when a VM comes to its own.

Servers and VMs are those of `tests.helpers.room`.
"""

import pytest

from controller.core.dissemination import strategy
from controller.core.move import MoveRequest
from nve.resources import Capacity, Resources
from tests.helpers.fabric import Fabric
from tests.helpers.room import (
    CAPACITIES,
    VM1,
    VM2,
    VM3,
    WANTED,
    move,
    on_board,
    refused,
    steps,
    taken,
    two_vms,
)
from tests.helpers.tenants import vm, vteps

MIRRORED = WANTED
"""In memory: a warm one."""
FILES = Resources(storage_mb=74)
"""A cold one."""


def keep_room(at: Fabric, name: str, nve: str, room: Resources = MIRRORED) -> None:
    at.ask(at.authority.keep_room_for_standby, name, nve, room)


@pytest.fixture
def fabric() -> Fabric:
    return two_vms()


def roomy() -> Fabric:
    """vm1 and vm2 are at nve1, and nve2 has 160 MB of memory and 170 MB of storage."""
    capacities = {**CAPACITIES, "nve2": Capacity(memory_mb=160, storage_mb=170)}
    at = Fabric(vteps(), strategy("push", None), capacities=capacities)
    on_board(at, VM1)
    on_board(at, VM2)
    at.settle()
    return at


@pytest.mark.shows("R7.3", "R8.2")
@pytest.mark.parametrize("killed", [False, True])
def test_a_standby_has_room_until_it_is_given_up(fabric: Fabric, killed: bool) -> None:
    keep_room(fabric, "vm1", "nve2")
    keep_room(fabric, "vm1", "nve2")  # the same again
    if killed:
        fabric.kill()
        fabric.connect_all()
        fabric.settle()
    assert taken(fabric) == {"nve1": 128, "nve2": 64, "nve3": 0}
    no_room = "nve2 has no room for vm2: 64 MB of memory wanted, 32 free"
    refused(fabric, no_room, lambda: move(fabric, "vm2", "nve2"))
    refused(fabric, "nve2 has no room for vm3", lambda: on_board(fabric, VM3))
    refused(
        fabric,
        "nve2 has no room for the standby of vm2: 64 MB of memory wanted, 32 free; make room",
        lambda: keep_room(fabric, "vm2", "nve2"),
    )
    fabric.ask(fabric.authority.give_up_standby, "vm1")
    fabric.ask(fabric.authority.give_up_standby, "vm1")
    assert taken(fabric) == {"nve1": 128, "nve2": 0, "nve3": 0}
    keep_room(fabric, "vm2", "nve2")


@pytest.mark.shows("R7.3")
def test_a_vm_that_comes_to_its_warm_standby_takes_room_there_once(fabric: Fabric) -> None:
    """nve2 has not room for two; before, during and after the move it is one."""
    keep_room(fabric, "vm1", "nve2")
    for _, step in steps(fabric, move(fabric, "vm1", "nve2")):
        assert taken(fabric) == {"nve1": 128, "nve2": 64, "nve3": 0}
        step()
    assert taken(fabric) == {"nve1": 64, "nve2": 64, "nve3": 0}
    fabric.ask(fabric.authority.give_up_standby, "vm1")
    keep_room(fabric, "vm1", "nve1")
    assert taken(fabric) == {"nve1": 128, "nve2": 64, "nve3": 0}


@pytest.mark.shows("R7.3")
def test_a_move_to_the_standby_that_is_undone_leaves_the_standby_its_room(fabric: Fabric) -> None:
    keep_room(fabric, "vm1", "nve2")
    fabric.ask(fabric.authority.roll_back, move(fabric, "vm1", "nve2"))
    fabric.settle()
    assert taken(fabric) == {"nve1": 128, "nve2": 64, "nve3": 0}


def storage(at: Fabric) -> int:
    return sum(each.storage_mb for _, each in at.authority.admission.takers("nve2"))


@pytest.mark.shows("R7.2")
def test_the_files_of_a_cold_standby_stay_beside_a_vm_that_comes_there() -> None:
    at = roomy()
    keep_room(at, "vm1", "nve2", FILES)
    assert (taken(at)["nve2"], storage(at)) == (0, 74)
    keep_room(at, "vm2", "nve2", Resources(storage_mb=90))
    refused(
        at,
        "nve2 has no room for vm1: 84 MB of storage wanted, 80 free",
        lambda: move(at, "vm1", "nve2"),
    )
    at.ask(at.authority.give_up_standby, "vm2")
    move(at, "vm1", "nve2")
    assert (taken(at)["nve2"], storage(at)) == (64, 84)


@pytest.mark.shows("R7.2", "R7.3")
@pytest.mark.parametrize("room", [MIRRORED, FILES], ids=["warm", "cold"])
def test_a_standby_that_takes_over_needs_what_it_had_and_its_memory(room: Resources) -> None:
    at = roomy()
    keep_room(at, "vm1", "nve2", room)
    other = 97 if room is FILES else 96
    keep_room(at, "vm2", "nve2", Resources(memory_mb=other))
    key = MoveRequest("vm1", "nve2", at.port("vm1"), idle_s=2, mode="take-over")
    if room is FILES:
        complaint = "nve2 has no room for vm1: 64 MB of memory wanted, 63 free"
        refused(at, complaint, lambda: at.ask(at.authority.request_move, "1", key))
        return
    at.ask(at.authority.request_move, "1", key)
    assert taken(at)["nve2"] == 160


@pytest.mark.parametrize(
    ("name", "nve", "complaint"),
    [
        ("vm1", "nve9", "no NVE 'nve9' here"),
        ("vm9", "nve2", "no VM 'vm9' here"),
        ("vm1", "nve1", "vm1 is at nve1 itself; name another NVE"),
        ("vm2", "nve3", "vm2 has a standby at nve2 already; give that up first"),
        ("vm4", "nve2", "vm4 was not on-boarded: no room is kept for its standby"),
    ],
)
def test_a_standby_that_cannot_be_changes_nothing(
    fabric: Fabric, name: str, nve: str, complaint: str
) -> None:
    fabric.associate(vm("vm4", 4, "nve1"))
    keep_room(fabric, "vm2", "nve2")
    fabric.settle()
    refused(fabric, complaint, lambda: keep_room(fabric, name, nve))
