"""On-boarding: request, offer and confirmation; adjusting a VM, and off-boarding it.

Servers and VMs are those of `tests.helpers.room`.
"""

import pytest

from controller.core.onboarding import Interface, OnboardingPhase, OnboardingRequest
from nve.resources import Resources
from tests.helpers import promises
from tests.helpers.authority import state_of
from tests.helpers.fabric import SECOND_NS, Fabric
from tests.helpers.room import (
    VM1,
    VM3,
    WANTED,
    interface,
    made,
    move,
    on_board,
    refused,
    request,
    steps,
    taken,
    two_vms,
)
from tests.helpers.tenants import vm


@pytest.fixture
def fabric() -> Fabric:
    return two_vms()


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
