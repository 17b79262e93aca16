"""What callers ask for in vain: it is refused, and nothing has changed."""

from dataclasses import replace

import pytest

from controller.core.authority import Authority
from controller.core.dissemination import strategy
from controller.core.move import Move, MoveRequest, move_key
from controller.core.move_fsm import Phase
from controller.core.refusals import RequestRefused
from tests.helpers import promises
from tests.helpers.authority import (
    VM1,
    VM2,
    redirected,
    state_of,
)
from tests.helpers.fabric import Fabric
from tests.helpers.tenants import vm, vteps

ASSOCIATIONS = {
    "unknown NVE": (vm("vm9", 9, "nve9"), 40, "no NVE 'nve9' here; there are nve1, nve2, nve3"),
    "reserved port": (vm("vm9", 9, "nve1"), 1, "port 1 cannot be a VM's; VM ports are 10 to 32511"),
    "no port at all": (vm("vm9", 9, "nve1"), 32512, "port 32512 cannot be a VM's; VM ports are"),
    "port taken": (vm("vm9", 9, "nve1"), 10, "port 10 of nve1 belongs to vm1"),
    "associated": (VM1, 40, "vm1 is associated already; to bring it elsewhere, ask for a move"),
    "name taken": (vm("vm1", 9, "nve1"), 40, "names and MACs are unique"),
    "MAC taken": (vm("vm9", 1, "nve1"), 40, "names and MACs are unique"),
    "IP taken": (replace(vm("vm9", 9, "nve1"), ipv4=VM2.ipv4), 40, "192.168.0.2 in VNI 5000"),
}


@pytest.mark.parametrize(("newcomer", "port", "complaint"), ASSOCIATIONS.values(), ids=ASSOCIATIONS)
def test_an_association_that_cannot_be_is_refused_and_changes_nothing(
    pulling: Fabric, newcomer, port: int, complaint: str
) -> None:
    before = state_of(pulling)

    with pytest.raises(RequestRefused, match=complaint):
        pulling.ask(
            pulling.authority.associate,
            newcomer.name,
            newcomer.tenant_system,
            newcomer.addresses,
            newcomer.nve,
            port,
        )

    assert state_of(pulling) == before


GOOD = MoveRequest("vm1", "nve3", 10, idle_s=2)
REQUESTS = {
    "unknown VM": (replace(GOOD, vm="vm9"), "no VM 'vm9' here; there are vm1, vm2"),
    "unknown NVE": (replace(GOOD, to="nve9"), "no NVE 'nve9' here"),
    "there already": (replace(GOOD, to="nve1"), "vm1 is at nve1 already; name another NVE"),
    "no end": (replace(GOOD, idle_s=0), "say either idle_s or timer_s"),
    "two ends": (replace(GOOD, timer_s=5), "say either idle_s or timer_s"),
    "port taken": (replace(GOOD, to="nve2", port=11), "port 11 of nve2 belongs to vm2"),
    "reserved port": (replace(GOOD, port=9), "port 9 cannot be a VM's"),
}


@pytest.mark.parametrize(("request_", "complaint"), REQUESTS.values(), ids=REQUESTS)
def test_a_move_that_cannot_be_is_refused_and_changes_nothing(
    pulling: Fabric, request_: MoveRequest, complaint: str
) -> None:
    before = state_of(pulling)

    with pytest.raises(RequestRefused, match=complaint):
        pulling.ask(pulling.authority.request_move, "a-move", request_)

    assert state_of(pulling) == before


def test_a_second_move_of_a_vm_waits_for_the_first(pulling: Fabric) -> None:
    redirected(pulling)

    with pytest.raises(
        RequestRefused, match=r"still being moved to nve3 \(redirected\); wait until"
    ):
        pulling.request_move("vm1", "nve2")


@pytest.mark.parametrize("nve", ["nve1", "nve3"])
def test_a_move_needs_both_of_its_nves(pulling: Fabric, nve: str) -> None:
    pulling.disconnect(nve)

    with pytest.raises(RequestRefused, match=f"{nve} is not connected to the NVA"):
        pulling.request_move("vm1", "nve3")


def test_a_move_is_told_to_go_on_in_order(pulling: Fabric) -> None:
    move = pulling.request_move("vm1", "nve3")
    before = state_of(pulling)

    for out_of_turn in (pulling.redirect, pulling.activate):
        with pytest.raises(
            RequestRefused, match="move 1 of vm1: a move that is preparing cannot take"
        ):
            out_of_turn(move)
    with pytest.raises(RequestRefused, match="there is no move '2'"):
        pulling.ask(pulling.authority.redirect, "2")

    assert state_of(pulling) == before


def test_a_move_that_is_asked_for_again_is_the_same_move(pulling: Fabric) -> None:
    """Also when it is over; another one under its key is refused."""

    def ask(request_: MoveRequest = GOOD) -> Move:
        return pulling.ask(pulling.authority.request_move, "a-move", request_)

    move = ask()
    for go_on in (pulling.redirect, pulling.activate, lambda _: pulling.expire_all()):
        before = state_of(pulling)
        assert ask() is move
        with pytest.raises(
            RequestRefused, match="move a-move is another one: of vm1 to nve3; take"
        ):
            ask(replace(GOOD, idle_s=3))
        assert state_of(pulling) == before
        pulling.settle()
        go_on(move)
        pulling.settle()
    assert ask().phase is Phase.COMPLETED


@pytest.mark.parametrize("text", ["1", "vm1-to-nve3", "A.b_c-9", "x" * 64])
def test_a_key_is_a_word(text: str) -> None:
    assert move_key(text) == text


@pytest.mark.parametrize("text", ["", "-x", "a b", "a/b", "a\n", "\u00e4", "\u0661", "x" * 65])
def test_what_is_no_word_is_no_key(text: str) -> None:
    with pytest.raises(ValueError, match="is no key for a move; take 1 to 64"):
        move_key(text)


def test_only_a_place_that_a_vm_has_left_is_dissociated(pulling: Fabric) -> None:
    for vm_name, nve, complaint in (
        ("vm9", "nve1", "no VM 'vm9' here"),
        ("vm1", "nve9", "no NVE 'nve9' here"),
        ("vm1", "nve2", "vm1 has no port at nve2"),
        ("vm1", "nve1", "vm1 is active at nve1; move it away first"),
    ):
        with pytest.raises(RequestRefused, match=complaint):
            pulling.ask(pulling.authority.de_associate, vm_name, nve)


def test_a_vm_that_may_come_back_keeps_its_place(pulling: Fabric) -> None:
    """A move that is redirected can still be rolled back: the source's port is needed."""
    move = redirected(pulling)

    with pytest.raises(RequestRefused, match="may still come back to nve1"):
        pulling.ask(pulling.authority.de_associate, "vm1", "nve1")

    pulling.ask(pulling.authority.roll_back, move.key)
    pulling.settle()
    assert promises.unreached(pulling) == []


def test_an_nve_of_somebody_else_is_refused() -> None:
    authority = Authority(vteps(), strategy("push", None))

    with pytest.raises(RequestRefused, match="no NVE 'nve9' here; there are nve1, nve2, nve3"):
        authority.nve_connected("nve9", 0)
