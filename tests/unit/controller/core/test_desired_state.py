"""The book: what NVEs should hold, what they were told, what they have confirmed."""

from collections.abc import Iterable

import pytest

from controller.core.desired_state import Book
from nve.messages import Tell
from nve.model import VmSpec
from nve.pipeline.compiler import compile_nve
from nve.pipeline.rules import Purpose, Rule
from nve.pipeline.state import Attachment, Redirect, RemoteEntry, Role
from tests.helpers.tenants import BLUE, RED, vm, vteps

VM1, VM2 = vm("vm1", 1, "nve1"), vm("vm2", 2, "nve2")
ENTRY = RemoteEntry(vteps()["nve2"], lifetime_s=3)


@pytest.fixture
def book() -> Book:
    """All NVEs connected and in agreement, no VM anywhere."""
    book = Book(vteps())
    for nve in book:
        book.confirmed(nve, book.connected(nve).token)
    return book


def attachment(of: VmSpec, port: int = 10, role: Role = Role.ACTIVE) -> Attachment:
    return Attachment(of.tenant_system, of.addresses, port, role)


def applied(held: Iterable[Rule], tells: list[Tell], nve: str) -> frozenset[Rule]:
    """What an NVE holds after these Tells, by a switch's understanding of them."""
    rules = {rule.key: rule for rule in held}
    for tell in tells:
        if tell.nve == nve:
            rules |= {rule.key: rule for rule in tell.change.added}
            for rule in tell.change.removed:
                del rules[rule.key]
    return frozenset(rules.values())


def test_an_nve_that_connects_gets_everything(book: Book) -> None:
    book.disconnected("nve1")
    book.attach("nve1", attachment(VM1))
    book.set_remote("nve1", VM2.tenant_system, ENTRY)

    assert book.settle() == []
    assert not book.is_connected("nve1")
    reconciled = book.connected("nve1")
    assert reconciled.rules == compile_nve(book.state("nve1")) == book.rules("nve1")
    assert book.settle() == []


def test_only_nves_whose_rules_differ_are_told(book: Book) -> None:
    book.attach("nve1", attachment(VM1))

    assert [tell.nve for tell in book.settle()] == ["nve1"]
    book.attach("nve1", attachment(VM1))
    assert book.settle() == []


@pytest.mark.shows("R3.5")
def test_tells_add_up_to_the_compiled_state(book: Book) -> None:
    """What was told, piece by piece, is what follows from the whole."""
    held = book.rules("nve1")
    book.attach("nve1", attachment(VM1))
    book.set_members(RED, ["nve1", "nve2"])
    held = applied(held, book.settle(), "nve1")
    assert held == book.rules("nve1")

    book.set_remote("nve1", VM2.tenant_system, ENTRY)
    book.attach("nve1", attachment(VM1, role=Role.DEPARTING))
    book.set_redirect("nve1", VM1.tenant_system, Redirect(vteps()["nve3"], idle_s=2))
    held = applied(held, book.settle(), "nve1")
    assert held == book.rules("nve1")

    book.detach("nve1", VM1.tenant_system)
    book.set_remote("nve1", VM2.tenant_system, None)
    book.set_redirect("nve1", VM1.tenant_system, None)
    held = applied(held, book.settle(), "nve1")
    assert held == book.rules("nve1")


def test_a_port_that_changes_hands_in_one_step_keeps_its_rules(book: Book) -> None:
    """The new owner's rules have the key of the old owner's: they replace, nobody removes them."""
    held = book.rules("nve1")
    book.attach("nve1", attachment(VM1, port=10))
    held = applied(held, book.settle(), "nve1")

    book.detach("nve1", VM1.tenant_system)
    book.attach("nve1", attachment(VM2, port=10))

    assert applied(held, book.settle(), "nve1") == book.rules("nve1")


def test_later_tables_are_told_first(book: Book) -> None:
    """A new VM's first frame finds the rules of the tables that it is sent to."""
    book.attach("nve1", attachment(VM1))
    (tell,) = book.settle()

    tables = [rule.table for rule in tell.change.added]
    assert tables == sorted(tables, reverse=True)


def test_a_way_for_end_markers_is_something_to_know_about_a_vm(book: Book) -> None:
    """Also where nothing else is known of it any more."""
    book.set_marker("nve3", VM1.tenant_system, vteps()["nve1"])
    assert book.take_changed()[-1] == ("nve3", VM1.tenant_system)
    assert book.systems("nve3") == {VM1.tenant_system}
    (rule,) = (each for each in book.connected("nve3").rules if each.about == VM1.tenant_system)
    assert rule.purpose is Purpose.END_MARKER


def test_confirming_a_token_confirms_all_earlier_ones(book: Book) -> None:
    book.attach("nve1", attachment(VM1))
    (first,) = book.settle()
    book.attach("nve1", attachment(VM2, port=11))
    (second,) = book.settle()

    assert book.pending(book) == {"nve1": second.token}
    assert first.token in book.confirmed("nve1", first.token)
    assert book.pending(book) == {"nve1": second.token}
    assert book.is_confirmed("nve1", first.token)
    assert list(book.confirmed("nve1", second.token)) == [second.token]
    assert list(book.confirmed("nve1", first.token)) == []
    assert book.pending(book) == {}


def test_a_rule_that_has_ended_is_found_once(book: Book) -> None:
    book.set_remote("nve1", VM2.tenant_system, ENTRY)
    (tell,) = book.settle()
    (rule,) = tell.change.added
    book.confirmed("nve1", tell.token)

    assert book.ended("nve2", rule.cookie) is None
    assert book.ended("nve1", rule.cookie) == rule
    assert book.ended("nve1", rule.cookie) is None


def test_the_end_of_a_rule_that_was_told_again_since_is_that_of_the_one_before(book: Book) -> None:
    book.set_remote("nve1", VM2.tenant_system, ENTRY)
    (tell,) = book.settle()
    (rule,) = tell.change.added
    book.confirmed("nve1", tell.token)
    book.tell_again("nve1", VM2.tenant_system)
    (again,) = book.settle()

    assert book.ended("nve1", rule.cookie) is None
    book.confirmed("nve1", again.token)
    assert book.ended("nve1", rule.cookie) == rule


def test_only_the_entry_is_told_again(book: Book) -> None:
    """The rule for packets in flight beside it would begin its life anew."""
    book.attach("nve1", attachment(VM1))
    book.set_remote("nve1", VM2.tenant_system, ENTRY)
    book.set_redirect("nve1", VM2.tenant_system, Redirect(vteps()["nve2"], idle_s=2))
    book.settle()
    book.tell_again("nve1", VM2.tenant_system)
    (tell,) = book.settle()
    assert {rule.purpose for rule in tell.change.added} == {Purpose.FORWARD}
    assert tell.change.removed == ()


def test_a_rule_that_has_ended_need_not_be_removed(book: Book) -> None:
    book.set_remote("nve1", VM2.tenant_system, ENTRY)
    (tell,) = book.settle()
    book.confirmed("nve1", tell.token)
    book.ended("nve1", tell.change.added[0].cookie)
    book.set_remote("nve1", VM2.tenant_system, None)

    assert book.settle() == []


def test_a_report_about_a_withdrawn_rule_is_nothing(book: Book) -> None:
    """The time-out and the withdrawal have crossed each other."""
    book.set_remote("nve1", VM2.tenant_system, ENTRY)
    (tell,) = book.settle()
    book.set_remote("nve1", VM2.tenant_system, None)
    book.settle()

    assert book.ended("nve1", tell.change.added[0].cookie) is None


def test_groups_go_to_the_other_members(book: Book) -> None:
    for nve in ("nve1", "nve2"):
        book.attach(nve, attachment(VM1))
    book.set_members(RED, ["nve1", "nve2"])
    book.set_members(BLUE, ["nve3"])

    assert book.state("nve1").members[RED] == {vteps()["nve2"]}
    assert book.state("nve3").members[RED] == {vteps()["nve1"], vteps()["nve2"]}
    assert book.present(RED) == {"nve1", "nve2"}
    assert book.present(BLUE) == frozenset()


@pytest.mark.shows("R9.1")
def test_a_last_vm_takes_its_network_with_it(book: Book) -> None:
    """Without a VM of the network, an NVE admits no tunnel frame of it."""
    before = book.rules("nve1")
    book.attach("nve1", attachment(VM1))
    assert Purpose.MISS in {rule.purpose for rule in book.rules("nve1")}
    book.detach("nve1", VM1.tenant_system)

    assert book.rules("nve1") == before


def test_every_nve_has_all_others_as_peers(book: Book) -> None:
    for name, own in vteps().items():
        assert book.state(name).vtep == own
        assert book.state(name).peers == set(vteps().values()) - {own}


def test_an_unknown_nve_is_the_callers_mistake(book: Book) -> None:
    with pytest.raises(KeyError):
        book.attach("nve9", attachment(VM1))
