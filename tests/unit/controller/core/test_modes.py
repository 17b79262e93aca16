"""Cold moves and take-overs: a VM that does not run at its source is nowhere until it arrives."""

from collections.abc import Callable
from functools import partial
from typing import get_args

import pytest

from controller.core.move import Move
from controller.core.move_fsm import Phase
from controller.core.refusals import RequestRefused
from nve.model import MoveMode
from nve.pipeline.rules import Purpose
from nve.pipeline.state import AssociationRole
from tests.helpers import frames, promises
from tests.helpers.authority import (
    VM1,
    VM2,
    VM3,
    fabric,
    phase_of,
    pull,
    push,
    rules_of,
    state_of,
)
from tests.helpers.fabric import Fabric


def suspended(at: Fabric, mode: MoveMode = "cold") -> Move:
    """vm1 is on its way from nve1 to nve3, and runs nowhere."""
    move = at.request_move("vm1", "nve3", mode=mode)
    at.settle()
    at.redirect(move)
    at.settle()
    assert phase_of(move) is Phase.REDIRECTED
    return move


def arrived(at: Fabric, mode: MoveMode = "cold") -> Move:
    move = suspended(at, mode)
    at.activate(move)
    at.settle()
    return move


def died(at: Fabric, nve: str = "nve1") -> None:
    """An NVE is out of reach, and has no rules any more."""
    at.disconnect(nve)
    at.nves[nve].rules.clear()


def to_vm1(at: Fabric) -> tuple[tuple[str, int], ...]:
    """Where vm2, behind nve2, reaches it."""
    frame = frames.entering(frames.ipv4(VM2, VM1.mac), at.port("vm2"))
    return at.deliveries(frame, "nve2")


@pytest.mark.shows("R7.1")
@pytest.mark.parametrize("make", [fabric, push])
def test_a_suspended_vm_gets_nothing_and_says_nothing(make) -> None:
    at = make()
    pull(at, "vm2", "vm1")
    frame = frames.entering(frames.ipv4(VM2, VM1.mac), at.port("vm2"))
    assert to_vm1(at) == (("nve1", at.port("vm1")),)

    suspended(at)

    way = promises.reasons(at, frame, "nve2")
    assert to_vm1(at) == ()
    assert way[-1].last is not None
    assert way[-1].last.purpose is Purpose.DEPARTED
    neighbour = frames.entering(frames.ipv4(VM3, VM1.mac), at.port("vm3"))
    assert at.deliveries(neighbour, "nve1") == ()
    for sent in (frames.ipv4(VM1, VM2.mac), frames.ipv6(VM1, VM2.mac)):
        verdict = at.send_from("nve1", at.port("vm1"), sent)
        assert verdict.dropped
        assert verdict.last is not None
        assert verdict.last.purpose is Purpose.FENCED


@pytest.mark.shows("R7.1")
def test_old_entries_lead_nowhere_until_they_time_out_and_nves_pull(pulling: Fabric) -> None:
    pull(pulling, "vm2", "vm1")

    move = arrived(pulling)

    assert to_vm1(pulling) == ()
    assert move.outdated == {"nve2"}
    (entry,) = (
        rule
        for rule in pulling.nves["nve2"].rules.values()
        if rule.about == VM1.tenant_system and rule.purpose is Purpose.FORWARD
    )
    pulling.expire("nve2", entry)
    pulling.settle()
    assert phase_of(move) is Phase.CONVERGED
    pull(pulling, "vm2", "vm1")
    assert to_vm1(pulling) == (("nve3", pulling.port("vm1")),)


@pytest.mark.shows("R7.1")
def test_where_entries_are_pushed_the_new_ones_are_there_with_the_vm() -> None:
    at = push()
    move = arrived(at)

    assert to_vm1(at) == (("nve3", at.port("vm1")),)
    assert move.phase is Phase.CONVERGED


def test_a_cold_move_that_is_given_up_leaves_everything_as_it_was() -> None:
    at = push()
    before = rules_of(at)
    move = suspended(at)
    at.ask(at.authority.roll_back, move.key)
    at.settle()

    assert rules_of(at) == before
    assert to_vm1(at) == (("nve1", at.port("vm1")),)


# -- a standby takes over --------------------------------------------------------------------------


def test_a_standby_takes_over_from_an_nve_that_is_gone() -> None:
    at = push()
    died(at)

    move = arrived(at, "take-over")

    assert to_vm1(at) == (("nve3", at.port("vm1")),)
    assert move.phase is Phase.COMPLETED


@pytest.mark.parametrize("steps_before", range(4))
def test_a_take_over_does_not_wait_for_a_source_that_goes_meanwhile(steps_before: int) -> None:
    """Whoever decides may know of it before the NVA does, and the NVE may confirm nothing more."""
    at = push()
    move = at.request_move("vm1", "nve3", mode="take-over")
    steps: list[Callable[[], None]] = [
        at.settle,
        partial(at.redirect, move),
        partial(at.activate, move),
    ]
    for number, step in enumerate(steps):
        if number == steps_before:
            died(at)
            at.settle()
        step()
        if number < steps_before:
            at.settle()
    if steps_before == len(steps):
        died(at)
    at.settle()

    assert phase_of(move) is Phase.COMPLETED
    assert to_vm1(at) == (("nve3", at.port("vm1")),)


@pytest.mark.parametrize("activated", [False, True])
def test_a_primary_that_comes_back_is_fenced_before_it_can_answer(*, activated: bool) -> None:
    """Rule by rule, as its NVE is told them: at no instant does a frame of it get anywhere."""
    at = push()
    died(at)
    move = at.request_move("vm1", "nve3", mode="take-over")
    at.settle()
    at.redirect(move)
    at.settle()
    if activated:
        at.activate(move)
        at.settle()
    at.connect("nve1")
    while at.under_way():
        at.deliver(*at.under_way()[0])
        for sent in (frames.ipv4(VM1, VM2.mac), frames.arp(VM1, VM1.ipv4)):
            assert at.send_from("nve1", at.port("vm1"), sent).dropped

    verdict = at.send_from("nve1", at.port("vm1"), frames.ipv4(VM1, VM2.mac))
    assert verdict.last is not None
    assert verdict.last.purpose is Purpose.FENCED
    association = at.authority.desired.state("nve1").associations[VM1.tenant_system]
    assert association.role is AssociationRole.SUSPENDED


def test_its_old_place_can_be_taken_away_or_come_back_to() -> None:
    at = push()
    died(at)
    arrived(at, "take-over")
    at.connect("nve1")
    at.settle()

    back = at.request_move("vm1", "nve1")
    at.settle()
    at.redirect(back)
    at.settle()
    at.activate(back)
    at.settle()
    assert to_vm1(at) == (("nve1", at.port("vm1")),)


@pytest.mark.parametrize("mode", get_args(MoveMode))
def test_only_a_take_over_leaves_an_nve_that_is_gone(mode: MoveMode) -> None:
    at = push()
    died(at)
    before = state_of(at)
    if mode == "take-over":
        at.request_move("vm1", "nve3", mode=mode)
        return
    with pytest.raises(RequestRefused, match="nve1 is not connected"):
        at.request_move("vm1", "nve3", mode=mode)
    assert state_of(at) == before


def test_nobody_takes_over_behind_an_nve_that_is_gone() -> None:
    at = push()
    died(at, "nve3")
    with pytest.raises(RequestRefused, match="nve3 is not connected"):
        at.request_move("vm1", "nve3", mode="take-over")


# -- a standby takes over from a server that runs, and that nobody reaches -------------------------


@pytest.mark.shows("R7.3")
def test_whose_server_runs_is_not_taken_over_from_while_its_nve_is_out_of_reach() -> None:
    """It may still forward what the primary sends."""
    at = push()
    at.disconnect("nve1")
    before = state_of(at)
    with pytest.raises(RequestRefused, match="nve1 is not connected"):
        at.request_move("vm1", "nve3", mode="take-over", source_runs=True)
    assert state_of(at) == before


@pytest.mark.shows("R7.3")
@pytest.mark.parametrize("when", ["prepared", "told and unheard", "confirmed"])
def test_a_take_over_from_a_server_that_runs_waits_until_the_port_is_suspended(when: str) -> None:
    """The control network is cut as well, before its NVE has confirmed, or after that."""
    at = push()
    move = at.request_move("vm1", "nve3", mode="take-over", source_runs=True)
    at.settle()
    if when == "prepared":
        at.disconnect("nve1")
    at.redirect(move)
    if when == "told and unheard":
        at.disconnect("nve1")
    at.settle()
    if when == "confirmed":
        at.disconnect("nve1")
    at.settle()
    fenced = at.send_from("nve1", at.port("vm1"), frames.ipv4(VM1, VM2.mac)).dropped
    assert phase_of(move) is (Phase.REDIRECTED if fenced else Phase.REDIRECTING)
    assert fenced == (when == "confirmed")

    if not fenced:
        at.connect("nve1")
        at.settle()
        assert phase_of(move) is Phase.REDIRECTED
        assert at.send_from("nve1", at.port("vm1"), frames.ipv4(VM1, VM2.mac)).dropped
    at.activate(move)
    at.settle()
    if fenced:
        at.connect("nve1")
        at.settle()
    assert to_vm1(at) == (("nve3", at.port("vm1")),)
    assert at.send_from("nve1", at.port("vm1"), frames.ipv4(VM1, VM2.mac)).dropped
