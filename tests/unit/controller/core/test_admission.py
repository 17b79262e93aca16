"""Room on servers: who takes it, when it is given back, and what is refused for want of it.

nve1 has no limit, nve2 room for one VM and a half, nve3 for one; a VM takes 64 MB.
"""

from collections.abc import Callable

import pytest

from controller.core.dissemination import strategy
from controller.core.move import MoveRequest
from controller.core.move_fsm import GIVE_UP_S, Phase
from controller.core.onboarding import Interface, OnboardingPhase, OnboardingRequest
from controller.core.refusals import RequestRefused
from nve.model import VmSpec
from nve.resources import Capacity, Resources
from tests.helpers import promises
from tests.helpers.authority import state_of
from tests.helpers.fabric import SECOND_NS, Fabric
from tests.helpers.tenants import vm, vteps

WANTED = Resources(memory_mb=64, storage_mb=10)
CAPACITIES = {"nve2": Capacity(memory_mb=96, storage_mb=20), "nve3": Capacity(memory_mb=64)}
VM1, VM2, VM3 = vm("vm1", 1, "nve1"), vm("vm2", 2, "nve1"), vm("vm3", 3, "nve2")


def interface(of: VmSpec) -> Interface:
    return Interface(of.tenant_system, of.addresses)


def request(of: VmSpec, resources: Resources = WANTED, lease_s: float = 30) -> OnboardingRequest:
    return OnboardingRequest(interface(of), resources, of.nve, lease_s)


def on_board(at: Fabric, of: VmSpec, resources: Resources = WANTED) -> None:
    at.vms[of.name] = of
    offer = at.ask(at.authority.offer, of.name, request(of, resources)).offer
    at.ask(at.authority.confirm_offer, of.name, offer, at.port(of.name))
    at.where[of.name] = of.nve


def made() -> Fabric:
    return Fabric(vteps(), strategy("push", None), capacities=CAPACITIES)


@pytest.fixture
def fabric() -> Fabric:
    """vm1 and vm2 are at nve1."""
    at = made()
    on_board(at, VM1)
    on_board(at, VM2)
    at.settle()
    return at


def taken(at: Fabric) -> dict[str, int]:
    """Memory, by server."""
    admission = at.authority.admission
    return {nve: sum(each.memory_mb for _, each in admission.takers(nve)) for nve in at.nves}


def move(at: Fabric, name: str, to: str, *, source: str | None = None, memory_mb: int = 64) -> str:
    """Ask for a move; its key."""
    key = str(len(at.authority.moves) + 1)
    asked = MoveRequest(
        name, to, at.port(name), idle_s=2, source=source, memory_mb=memory_mb, disk_mb=10
    )
    at.ask(at.authority.request_move, key, asked)
    return key


def refused(at: Fabric, complaint: str, ask: Callable[[], object]) -> None:
    """It is, in this sentence, and nothing has changed."""
    before = state_of(at), taken(at), list(at.authority.onboardings)
    with pytest.raises(RequestRefused, match=complaint):
        ask()
    assert (state_of(at), taken(at), list(at.authority.onboardings)) == before


def steps(at: Fabric, key: str) -> list[tuple[Phase, Callable[[], object]]]:
    """How a move gets to each of its phases."""

    def redirect() -> None:
        at.ask(at.authority.redirect, key)
        at.settle()

    return [
        (Phase.PREPARED, at.settle),
        (Phase.REDIRECTED, redirect),
        (Phase.ACTIVATED, lambda: at.ask(at.authority.activate, key)),
        (Phase.CONVERGED, at.settle),
        (Phase.COMPLETED, at.expire_all),
    ]


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


# -- on-boarding -----------------------------------------------------------------------------------


@pytest.mark.shows("R8.2")
def test_a_vm_is_on_boarded_in_three_messages() -> None:
    at = made()
    before = state_of(at)
    offer = at.ask(at.authority.offer, "vm3", request(VM3))
    assert (offer.nve, offer.phase) == ("nve2", OnboardingPhase.OFFERED)
    assert taken(at)["nve2"] == 64
    assert state_of(at) == before, "an offer is nothing but room"

    at.vms["vm3"] = VM3
    in_use = at.ask(at.authority.confirm_offer, "vm3", offer.offer, 10)
    assert in_use.phase is OnboardingPhase.IN_USE
    assert [binding.system for binding in at.authority.directory] == [VM3.tenant_system]
    assert taken(at)["nve2"] == 64
    assert at.events("vm3") == ["vm-offered", "vm-associated", "vm-on-boarded"]
    assert at.ask(at.authority.confirm_offer, "vm3", offer.offer, 10) == in_use, "heard twice"


@pytest.mark.shows("R8.2")
@pytest.mark.parametrize("ticks", [True, False])
def test_an_offer_that_nobody_confirms_lapses(ticks: bool) -> None:
    at = made()
    offer = at.ask(at.authority.offer, "vm3", request(VM3, lease_s=5)).offer
    at.now_ns += 5 * SECOND_NS
    at.ask(at.authority.tick)
    assert taken(at)["nve2"] == 64
    at.now_ns += 1
    if ticks:
        at.ask(at.authority.tick)
        assert taken(at)["nve2"] == 0
        assert at.events("vm3")[-1] == "offer-lapsed"
    refused(
        at,
        f"offer {offer} of vm3 is not open any more: it had to be confirmed within 5 s; ask again",
        lambda: at.ask(at.authority.confirm_offer, "vm3", offer, 10),
    )
    again = at.ask(at.authority.offer, "vm3", request(VM3))
    assert again.offer > offer
    refused(
        at,
        f"vm3 has no offer number {offer}",
        lambda: at.ask(at.authority.confirm_offer, "vm3", offer, 10),
    )


def test_an_offer_is_repeated_and_not_made_twice() -> None:
    at = made()
    first = at.ask(at.authority.offer, "vm3", request(VM3))
    assert at.ask(at.authority.offer, "vm3", request(VM3)) == first
    refused(
        at,
        "vm3 has another offer, number 1, at nve2; confirm that, or wait until it lapses",
        lambda: at.ask(at.authority.offer, "vm3", request(VM3, Resources(cpu=1))),
    )


def test_an_offer_survives_a_restart_with_its_whole_time() -> None:
    at = made()
    offer = at.ask(at.authority.offer, "vm3", request(VM3, lease_s=5)).offer
    at.now_ns += 100 * SECOND_NS
    at.kill()
    at.connect_all()
    at.settle()
    assert taken(at)["nve2"] == 64
    at.vms["vm3"] = VM3
    at.ask(at.authority.confirm_offer, "vm3", offer, 10)
    at.kill()
    at.now_ns += 100 * SECOND_NS
    at.connect_all()
    at.ask(at.authority.tick)
    assert taken(at)["nve2"] == 64
    assert at.ask(at.authority.offer, "vm9", request(vm("vm9", 9, "nve1"))).offer > offer


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"nve": "nve9"}, "no NVE 'nve9' here"),
        ({"resources": Resources(memory_mb=97)}, "nve2 has no room for vm3: 97 MB of memory"),
        (
            {"nve": None, "resources": Resources(memory_mb=97)},
            r"no server has room for vm3, which wants 97 MB of memory; free are: nve2 \(any CPU, "
            r"96 MB of memory, 20 MB of storage, any processes\), nve3",
        ),
        ({"interface": interface(vm("vm3", 1, "nve2"))}, "names and MACs are unique"),
        (
            {"interface": Interface(vm("x", 9, "nve2").tenant_system, VM1.addresses)},
            "vm3 cannot be associated: .* in VNI 5000 belongs to",
        ),
    ],
)
def test_a_request_that_cannot_be_met_changes_nothing(
    changes: dict[str, object], complaint: str
) -> None:
    at = made()
    on_board(at, VM1)
    at.settle()
    at.disconnect("nve1")
    fields = {"interface": interface(VM3), "resources": WANTED, "nve": "nve2", **changes}
    asked = OnboardingRequest(**fields)  # type: ignore[arg-type]
    refused(at, complaint, lambda: at.ask(at.authority.offer, "vm3", asked))


def test_a_vm_goes_where_there_is_room_if_nobody_says_where() -> None:
    at = made()
    at.disconnect("nve1")
    anywhere = OnboardingRequest(interface(VM3), Resources(memory_mb=64))
    assert at.ask(at.authority.offer, "vm3", anywhere).nve == "nve2"
    other = OnboardingRequest(interface(VM1), Resources(memory_mb=64))
    assert at.ask(at.authority.offer, "vm1", other).nve == "nve3"


def test_a_port_that_another_vm_has_is_refused_and_the_offer_stands(fabric: Fabric) -> None:
    offer = fabric.ask(fabric.authority.offer, "vm3", request(vm("vm3", 3, "nve1"))).offer
    refused(
        fabric,
        "port 10 of nve1 belongs to vm1",
        lambda: fabric.ask(fabric.authority.confirm_offer, "vm3", offer, 10),
    )


@pytest.mark.shows("R8.2")
def test_a_vm_is_adjusted_where_it_is() -> None:
    at = made()
    on_board(at, VM3)
    at.settle()
    at.ask(at.authority.adjust, "vm3", Resources(memory_mb=96, storage_mb=10))
    assert taken(at)["nve2"] == 96
    refused(
        at,
        "nve2 has no room for vm3: 97 MB of memory wanted, 96 free",
        lambda: at.ask(at.authority.adjust, "vm3", Resources(memory_mb=97)),
    )
    at.kill()
    assert taken(at)["nve2"] == 96
    at.connect_all()
    at.settle()
    refused(at, "nve3 has no room for vm3: 96 MB", lambda: move(at, "vm3", "nve3"))
    refused(at, "no VM 'vm9'", lambda: at.ask(at.authority.adjust, "vm9", Resources(memory_mb=1)))
    at.associate(vm("vm4", 4, "nve1"))
    refused(
        at,
        "vm4 was not on-boarded: it has no resources to adjust",
        lambda: at.ask(at.authority.adjust, "vm4", Resources(memory_mb=1)),
    )


@pytest.mark.shows("R8.2")
@pytest.mark.parametrize("killed", [False, True])
def test_nothing_is_left_of_a_vm_that_is_off_boarded(fabric: Fabric, killed: bool) -> None:
    """Also after it has moved; its name, its addresses and its port can be used again."""
    for _, step in steps(fabric, move(fabric, "vm1", "nve2")):
        step()
    fabric.ask(fabric.authority.off_board, "vm1")
    fabric.settle()
    if killed:
        fabric.kill()
        fabric.connect_all()
        fabric.settle()
    assert taken(fabric) == {"nve1": 64, "nve2": 0, "nve3": 0}
    assert promises.disagreeing(fabric) == []
    for nve in fabric.nves:
        assert VM1.tenant_system not in fabric.authority.desired.systems(nve)
    rules = [rule for node in fabric.nves.values() for rule in node.holds()]
    assert not [rule for rule in rules if rule.about == VM1.tenant_system]
    refused(fabric, "no VM 'vm1'", lambda: fabric.ask(fabric.authority.off_board, "vm1"))

    newcomer = vm("vm1", 1, "nve3")
    on_board(fabric, newcomer)
    fabric.settle()
    assert promises.disagreeing(fabric) == []
    assert promises.unreached(fabric) == []


@pytest.mark.parametrize("done", range(5))
def test_a_vm_that_is_being_moved_is_neither_adjusted_nor_off_boarded(
    fabric: Fabric, done: int
) -> None:
    key = move(fabric, "vm1", "nve2")
    for _, step in steps(fabric, key)[:done]:
        step()
    complaint = "vm1 is being moved; wait until its move is complete"
    authority = fabric.authority
    refused(fabric, complaint, lambda: fabric.ask(authority.adjust, "vm1", WANTED))
    refused(fabric, complaint, lambda: fabric.ask(authority.off_board, "vm1"))


# -- standbys --------------------------------------------------------------------------------------

MIRRORED = WANTED
"""In memory: a warm one."""
FILES = Resources(storage_mb=74)
"""A cold one."""


def keep_room(at: Fabric, name: str, nve: str, room: Resources = MIRRORED) -> None:
    at.ask(at.authority.keep_room_for_standby, name, nve, room)


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
