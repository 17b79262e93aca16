"""The desired state: what NVEs should hold, what they were told, what they have confirmed."""

from collections.abc import Iterable

import pytest

from controller.core.desired_state import DesiredState
from nve.messages import Tell
from nve.model import VmSpec
from nve.pipeline.compiler import compile_nve
from nve.pipeline.rules import Purpose, Rule
from nve.pipeline.state import Association, AssociationRole, Redirect, RemoteEntry
from tests.helpers.tenants import BLUE, RED, vm, vteps

VM1, VM2 = vm("vm1", 1, "nve1"), vm("vm2", 2, "nve2")
ENTRY = RemoteEntry(vteps()["nve2"], lifetime_s=3)


@pytest.fixture
def desired() -> DesiredState:
    """All NVEs connected and in agreement, no VM anywhere."""
    desired = DesiredState(vteps())
    for nve in desired:
        desired.confirmed(nve, desired.connected(nve).token)
    return desired


def association(
    of: VmSpec, port: int = 10, role: AssociationRole = AssociationRole.ACTIVE
) -> Association:
    return Association(of.tenant_system, of.addresses, port, role)


def applied(held: Iterable[Rule], tells: list[Tell], nve: str) -> frozenset[Rule]:
    """What an NVE holds after these Tells, by a switch's understanding of them."""
    rules = {rule.key: rule for rule in held}
    for tell in tells:
        if tell.nve == nve:
            rules |= {rule.key: rule for rule in tell.change.added}
            for rule in tell.change.removed:
                del rules[rule.key]
    return frozenset(rules.values())


def test_an_nve_that_connects_gets_everything(desired: DesiredState) -> None:
    desired.disconnected("nve1")
    desired.associate("nve1", association(VM1))
    desired.set_remote("nve1", VM2.tenant_system, ENTRY)

    assert desired.settle() == []
    assert not desired.is_connected("nve1")
    reconciled = desired.connected("nve1")
    assert reconciled.rules == compile_nve(desired.state("nve1")) == desired.rules("nve1")
    assert desired.settle() == []


def test_only_nves_whose_rules_differ_are_told(desired: DesiredState) -> None:
    desired.associate("nve1", association(VM1))

    assert [tell.nve for tell in desired.settle()] == ["nve1"]
    desired.associate("nve1", association(VM1))
    assert desired.settle() == []


@pytest.mark.shows("R3.5")
def test_tells_add_up_to_the_compiled_state(desired: DesiredState) -> None:
    """What was told, piece by piece, is what follows from the whole."""
    held = desired.rules("nve1")
    desired.associate("nve1", association(VM1))
    desired.set_members(RED, ["nve1", "nve2"], ["nve1"], {})
    held = applied(held, desired.settle(), "nve1")
    assert held == desired.rules("nve1")

    desired.set_remote("nve1", VM2.tenant_system, ENTRY)
    desired.associate("nve1", association(VM1, role=AssociationRole.REDIRECTED))
    desired.set_redirect("nve1", VM1.tenant_system, Redirect(vteps()["nve3"], idle_s=2))
    held = applied(held, desired.settle(), "nve1")
    assert held == desired.rules("nve1")

    desired.de_associate("nve1", VM1.tenant_system)
    desired.set_remote("nve1", VM2.tenant_system, None)
    desired.set_redirect("nve1", VM1.tenant_system, None)
    held = applied(held, desired.settle(), "nve1")
    assert held == desired.rules("nve1")


def test_a_port_that_changes_hands_in_one_step_keeps_its_rules(desired: DesiredState) -> None:
    """The new owner's rules have the key of the old owner's: they replace, nobody removes them."""
    held = desired.rules("nve1")
    desired.associate("nve1", association(VM1, port=10))
    held = applied(held, desired.settle(), "nve1")

    desired.de_associate("nve1", VM1.tenant_system)
    desired.associate("nve1", association(VM2, port=10))

    assert applied(held, desired.settle(), "nve1") == desired.rules("nve1")


def test_later_tables_are_told_first(desired: DesiredState) -> None:
    """A new VM's first frame finds the rules of the tables that it is sent to."""
    desired.associate("nve1", association(VM1))
    (tell,) = desired.settle()

    tables = [rule.table for rule in tell.change.added]
    assert tables == sorted(tables, reverse=True)


def test_a_way_for_end_markers_is_something_to_know_about_a_vm(desired: DesiredState) -> None:
    """Also where nothing else is known of it any more."""
    desired.set_marker("nve3", VM1.tenant_system, vteps()["nve1"])
    assert desired.take_changed()[-1] == ("nve3", VM1.tenant_system)
    assert desired.systems("nve3") == {VM1.tenant_system}
    (rule,) = (each for each in desired.connected("nve3").rules if each.about == VM1.tenant_system)
    assert rule.purpose is Purpose.END_MARKER


def test_confirming_a_token_confirms_all_earlier_ones(desired: DesiredState) -> None:
    desired.associate("nve1", association(VM1))
    (first,) = desired.settle()
    desired.associate("nve1", association(VM2, port=11))
    (second,) = desired.settle()

    assert desired.pending(desired) == {"nve1": second.token}
    assert first.token in desired.confirmed("nve1", first.token)
    assert desired.pending(desired) == {"nve1": second.token}
    assert desired.is_confirmed("nve1", first.token)
    assert list(desired.confirmed("nve1", second.token)) == [second.token]
    assert list(desired.confirmed("nve1", first.token)) == []
    assert desired.pending(desired) == {}


def test_a_rule_that_has_ended_is_found_once(desired: DesiredState) -> None:
    desired.set_remote("nve1", VM2.tenant_system, ENTRY)
    (tell,) = desired.settle()
    (rule,) = tell.change.added
    desired.confirmed("nve1", tell.token)

    assert desired.ended("nve2", rule.cookie) is None
    assert desired.ended("nve1", rule.cookie) == rule
    assert desired.ended("nve1", rule.cookie) is None


def test_the_end_of_a_rule_that_was_told_again_since_is_that_of_the_one_before(
    desired: DesiredState,
) -> None:
    desired.set_remote("nve1", VM2.tenant_system, ENTRY)
    (tell,) = desired.settle()
    (rule,) = tell.change.added
    desired.confirmed("nve1", tell.token)
    desired.tell_again("nve1", VM2.tenant_system)
    (again,) = desired.settle()

    assert desired.ended("nve1", rule.cookie) is None
    desired.confirmed("nve1", again.token)
    assert desired.ended("nve1", rule.cookie) == rule


def test_only_the_entry_is_told_again(desired: DesiredState) -> None:
    """The rule for packets in flight beside it would begin its life anew."""
    desired.associate("nve1", association(VM1))
    desired.set_remote("nve1", VM2.tenant_system, ENTRY)
    desired.set_redirect("nve1", VM2.tenant_system, Redirect(vteps()["nve2"], idle_s=2))
    desired.settle()
    desired.tell_again("nve1", VM2.tenant_system)
    (tell,) = desired.settle()
    assert {rule.purpose for rule in tell.change.added} == {Purpose.FORWARD}
    assert tell.change.removed == ()


def test_a_rule_that_has_ended_need_not_be_removed(desired: DesiredState) -> None:
    desired.set_remote("nve1", VM2.tenant_system, ENTRY)
    (tell,) = desired.settle()
    desired.confirmed("nve1", tell.token)
    desired.ended("nve1", tell.change.added[0].cookie)
    desired.set_remote("nve1", VM2.tenant_system, None)

    assert desired.settle() == []


def test_a_report_about_a_withdrawn_rule_is_nothing(desired: DesiredState) -> None:
    """The time-out and the withdrawal have crossed each other."""
    desired.set_remote("nve1", VM2.tenant_system, ENTRY)
    (tell,) = desired.settle()
    desired.set_remote("nve1", VM2.tenant_system, None)
    desired.settle()

    assert desired.ended("nve1", tell.change.added[0].cookie) is None


def test_groups_go_to_the_other_members(desired: DesiredState) -> None:
    for nve in ("nve1", "nve2"):
        desired.associate(nve, association(VM1))
    desired.set_members(RED, ["nve1", "nve2"], ["nve1"], {})
    desired.set_members(BLUE, ["nve3"], ["nve3"], {})

    assert desired.state("nve1").members[RED] == {vteps()["nve2"]}
    assert desired.state("nve3").members[RED] == {vteps()["nve1"], vteps()["nve2"]}
    assert desired.present(RED) == {"nve1", "nve2"}
    assert desired.present(BLUE) == frozenset()


@pytest.mark.shows("R9.1")
def test_a_last_vm_takes_its_network_with_it(desired: DesiredState) -> None:
    """Without a VM of the network, an NVE admits no tunnel frame of it."""
    before = desired.rules("nve1")
    desired.associate("nve1", association(VM1))
    assert Purpose.MISS in {rule.purpose for rule in desired.rules("nve1")}
    desired.de_associate("nve1", VM1.tenant_system)

    assert desired.rules("nve1") == before


def test_every_nve_has_all_others_as_peers(desired: DesiredState) -> None:
    for name, own in vteps().items():
        assert desired.state(name).vtep == own
        assert desired.state(name).peers == set(vteps().values()) - {own}


def test_an_unknown_nve_is_the_callers_mistake(desired: DesiredState) -> None:
    with pytest.raises(KeyError):
        desired.associate("nve9", association(VM1))
