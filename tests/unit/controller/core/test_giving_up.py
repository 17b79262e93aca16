"""Moves that are given up, and what nobody may be left with."""

import pytest

from controller.core.dissemination import strategy
from controller.core.move_fsm import Phase
from controller.core.refusals import RequestRefused
from nve.pipeline.state import AssociationRole
from tests.helpers import promises
from tests.helpers.authority import (
    VM1,
    VM2,
    fabric,
    phase_of,
    pull,
    push,
    redirected,
    rules_of,
)
from tests.helpers.fabric import SECOND_NS, Fabric
from tests.helpers.tenants import vteps


@pytest.mark.parametrize("phase", [Phase.PREPARING, Phase.PREPARED, Phase.REDIRECTED])
@pytest.mark.parametrize("at", [fabric, push])
def test_a_move_that_is_given_up_was_never_asked(at, phase: Phase) -> None:
    giving_up = at()
    pull(giving_up, "vm2", "vm1")
    before = rules_of(giving_up)
    move = giving_up.request_move("vm1", "nve3")
    if phase is not Phase.PREPARING:
        giving_up.settle()
    if phase is Phase.REDIRECTED:
        giving_up.redirect(move)
        giving_up.settle()
    assert phase_of(move) is phase

    giving_up.ask(giving_up.authority.roll_back, move.key)
    giving_up.settle()

    assert phase_of(move) is Phase.ROLLED_BACK
    assert rules_of(giving_up) == before
    assert promises.disagreeing(giving_up) == []


def test_after_arrival_a_move_cannot_be_given_up(pulling: Fabric) -> None:
    move = redirected(pulling)
    pulling.activate(move)

    with pytest.raises(RequestRefused, match="cannot take the event roll-back-asked"):
        pulling.ask(pulling.authority.roll_back, move.key)


@pytest.mark.parametrize(("passed_s", "phase"), [(60, Phase.REDIRECTED), (61, Phase.ROLLED_BACK)])
def test_a_move_over_its_deadline_is_rolled_back(
    pulling: Fabric, passed_s: int, phase: Phase
) -> None:
    move = redirected(pulling)
    pulling.now_ns += passed_s * SECOND_NS
    pulling.ask(pulling.authority.tick)
    pulling.settle()

    assert phase_of(move) is phase
    role = pulling.authority.desired.state("nve1").associations[VM1.tenant_system].role
    assert role is (
        AssociationRole.ACTIVE if phase is Phase.ROLLED_BACK else AssociationRole.REDIRECTED
    )


@pytest.mark.parametrize(("passed_s", "phase"), [(600, Phase.REDIRECTED), (601, Phase.ROLLED_BACK)])
def test_a_move_with_a_long_pause_has_the_deadline_that_was_asked_for(
    pulling: Fabric, passed_s: int, phase: Phase
) -> None:
    move = pulling.request_move("vm1", "nve3", deadline_s=600)
    pulling.settle()
    pulling.redirect(move)
    pulling.settle()
    pulling.now_ns += passed_s * SECOND_NS
    pulling.ask(pulling.authority.tick)

    assert phase_of(move) is phase


def test_after_arrival_the_deadline_is_of_no_concern(pulling: Fabric) -> None:
    move = redirected(pulling)
    pulling.activate(move)
    pulling.now_ns += 1000 * SECOND_NS
    pulling.ask(pulling.authority.tick)

    assert phase_of(move) is Phase.ACTIVATED


@pytest.mark.shows("R3.4")
def test_an_nve_that_its_last_vm_has_left_holds_no_entry_that_could_grow_old() -> None:
    """With push: nobody tells it any more, so a later move would wait for it in vain."""
    pushing = Fabric(vteps(), strategy("push", None))
    for each in (VM1, VM2):
        pushing.associate(each)
    pushing.settle()

    assert pushing.move("vm1", "nve2").phase is Phase.COMPLETED
    assert pushing.move("vm2", "nve3").phase is Phase.COMPLETED
    assert promises.about(pushing, "nve1", VM2) == set()


@pytest.mark.shows("R3.4")
def test_a_move_that_was_given_up_leaves_no_entry_that_could_grow_old() -> None:
    """With push: the destination had learned the network's VMs for a VM that never came."""
    pushing = push()
    move = pushing.request_move("vm1", "nve3")
    pushing.settle()
    assert promises.about(pushing, "nve3", VM2) != set()
    pushing.ask(pushing.authority.roll_back, move.key)
    pushing.settle()

    assert promises.about(pushing, "nve3", VM2) == set()
    assert pushing.move("vm2", "nve1").phase is Phase.COMPLETED
