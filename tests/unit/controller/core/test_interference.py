"""Moves that interfere: back at once, on and on, many VMs together, VMs that talk to each other.

Each test plays moves one on the heels of the other, without a single time-out, and looks at every
change of a rule: no frame is dropped, none goes in a circle, none comes to a place that is not the
VM's.  Then all time-outs come, and nothing is left.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.core.dissemination import strategy
from controller.core.move import InFlight, Move
from controller.core.move_fsm import Phase
from controller.core.refusals import RequestRefused
from nve.messages import RuleEnded
from nve.model import VmSpec
from nve.pipeline.rules import Purpose, Rule
from nve.pipeline.state import AssociationRole
from tests.helpers import frames, promises
from tests.helpers.examples import examples
from tests.helpers.fabric import Fabric
from tests.helpers.tenants import RED, vm, vteps

PULL, PUSH = ("pull", 2), ("push", None)
BOTH = pytest.mark.parametrize("dissemination", [PULL, PUSH], ids=["pull", "push"])
VM1, VM2 = vm("vm1", 1, "nve1"), vm("vm2", 2, "nve4")
SYSTEM = VM1.tenant_system
WAYS = {
    "back": ["nve2", "nve1"],
    "on": ["nve2", "nve3"],
    "round": ["nve2", "nve3", "nve1"],
    "on-and-back": ["nve2", "nve3", "nve2"],
    "to-and-fro": ["nve2", "nve1", "nve2", "nve1"],
    "eight": ["nve2", "nve3", "nve1", "nve3", "nve2", "nve1"],
}
ALSO_QUICKLY = {("back", "pull"), ("on", "push"), ("round", "pull")}
WAY_TOLD = pytest.mark.parametrize(
    ("way", "dissemination"),
    [
        pytest.param(
            *(way, told),
            id=f"{name}-{told[0]}",
            marks=() if (name, told[0]) in ALSO_QUICKLY else pytest.mark.thorough,
        )
        for name, way in WAYS.items()
        for told in (PULL, PUSH)
    ],
)
picks = st.integers(min_value=0, max_value=10**6)
Settle = Callable[[], None]


def fabric(dissemination: tuple[str, int | None], *vms: VmSpec) -> Fabric:
    """Four NVEs; vm3 stays beside vm1, and vm4 and vm5 where it may go to; all know of all."""
    staying = [vm(f"vm{number}", number, f"nve{number - 2}") for number in (3, 4, 5)]
    made = Fabric(vteps(4), strategy(*dissemination))
    for each in vms or [VM1, VM2, *staying]:
        made.associate(each)
    made.settle()
    talk(made)
    return made


def talk(at: Fabric) -> None:
    for sender in at.vms.values():
        for target in at.vms.values():
            if sender != target:
                at.send(sender.name, frames.ipv4(sender, target.mac))
    at.settle()


def watch(at: Fabric, *, nothing_dropped: bool = True) -> None:
    def check(changed: Rule) -> None:
        for target in [each for each in at.vms.values() if each.tenant_system == changed.about]:
            assert promises.misplaced(at, target) == []
            assert not nothing_dropped or promises.dropped(at, target) == []

    at.on_change = check


def in_any_order(at: Fabric, order: Sequence[int]) -> Settle:
    turns = iter(order)

    def settle() -> None:
        while ways := at.under_way():
            at.deliver(*ways[next(turns, 0) % len(ways)])

    return settle


def travel(
    at: Fabric, ways: Mapping[str, Sequence[str]], settle: Settle, how: InFlight = "tunnel"
) -> list[Move]:
    """Several VMs go their ways at the same time; each move begins when the last has arrived."""
    made: list[Move] = []
    for leg in range(max(map(len, ways.values()))):
        moves = [at.request_move(name, way[leg], how) for name, way in ways.items() if way[leg:]]
        for step in (at.redirect, at.activate):
            settle()
            for move in moves:
                step(move)
        made += moves
    settle()
    return made


def assert_nothing_is_left(at: Fabric, moves: Sequence[Move]) -> None:
    """R3.4, R3.5: every place that was left is given back, too."""
    at.on_change = lambda changed: None
    at.expire_all()
    assert {move.phase for move in moves} == {Phase.COMPLETED}
    for each in at.vms.values():
        for nve in _left(at, each):
            at.ask(at.authority.de_associate, each.name, nve)
    at.settle()
    assert promises.disagreeing(at) == []
    assert promises.pending(at) == []
    assert promises.unreached(at) == []
    assert promises.strayed(at, at.vms.values()) == []
    for each in at.vms.values():
        states = {nve: at.authority.desired.state(nve) for nve in at.nves}
        system = each.tenant_system
        assert [nve for nve in states if system in states[nve].redirects] == []
        assert [nve for nve in states if system in states[nve].associations] == [
            at.where[each.name]
        ]
    assert not list(at.authority._moves.unfinished())


def _left(at: Fabric, of: VmSpec) -> Iterator[str]:
    for nve in at.nves:
        association = at.authority.desired.state(nve).associations.get(of.tenant_system)
        if association and association.role is AssociationRole.REDIRECTED:
            yield nve


# -- one VM ----------------------------------------------------------------------------------------


@pytest.mark.shows("R4.1.4")
@WAY_TOLD
@examples(3)
@given(order=st.lists(picks, max_size=200))
def test_no_instant_of_a_way_drops_or_misplaces_a_frame(
    dissemination: tuple[str, int | None], way: list[str], order: list[int]
) -> None:
    """Every frame reaches the VM's old or new place, or asks; NVEs may be slow."""
    moving = fabric(dissemination)
    watch(moving)
    moves = travel(moving, {"vm1": way}, in_any_order(moving, order))

    assert_nothing_is_left(moving, moves)
    assert moving.where["vm1"] == way[-1]


@WAY_TOLD
def test_where_packets_in_flight_are_dropped_none_goes_astray(
    dissemination: tuple[str, int | None], way: list[str]
) -> None:
    moving = fabric(dissemination)
    watch(moving, nothing_dropped=False)
    moves = travel(moving, {"vm1": way}, moving.settle, "drop")

    assert_nothing_is_left(moving, moves)


@WAY_TOLD
def test_time_outs_may_come_between_two_moves(
    dissemination: tuple[str, int | None], way: list[str]
) -> None:
    for moment in range(len(way)):
        moving = fabric(dissemination)
        watch(moving, nothing_dropped=False)
        moves = travel(moving, {"vm1": way[:moment]}, moving.settle) if moment else []
        moving.expire_all()
        moves += travel(moving, {"vm1": way[moment:]}, moving.settle)
        assert_nothing_is_left(moving, moves)


@pytest.mark.shows("R4.1.4")
def test_a_stale_frame_follows_the_vm_back_in_order() -> None:
    """A knows the NVE that the VM is coming back from, and sends what others bring on."""
    moving = fabric(PULL)
    travel(moving, {"vm1": ["nve2"]}, moving.settle)
    back = moving.request_move("vm1", "nve1")
    moving.settle()
    frame = frames.encapsulated(frames.ipv4(VM2, VM1.mac), RED, vteps(4)["nve4"])
    place = moving.port("vm1")

    def tunnels_of_the_way() -> list[tuple[object, ...]]:
        return [verdict.tunnels for verdict in promises.reasons(moving, frame, "nve1")]

    there, here = ((RED, vteps()["nve2"]),), ((RED, vteps()["nve1"]),)
    assert tunnels_of_the_way() == [there, ()]
    assert moving.deliveries(frame, "nve1") == (("nve2", place),)
    moving.redirect(back)
    moving.settle()
    assert tunnels_of_the_way() == [there, here, ()]
    assert moving.deliveries(frame, "nve1") == (("nve1", place),)
    moving.activate(back)
    moving.settle()
    assert tunnels_of_the_way() == [()]
    assert moving.deliveries(frame, "nve1") == (("nve1", place),)


@pytest.mark.shows("R3.5")
@BOTH
def test_a_vm_that_comes_back_ends_the_tunnel_that_led_away(
    dissemination: tuple[str, int | None],
) -> None:
    """What the tunnel has carried is known, and counted for the first move only."""
    moving = fabric(dissemination)
    first, _ = travel(moving, {"vm1": ["nve2", "nve1"]}, moving.settle)

    (ended,) = (line for line in moving.trace if line.event == "in-flight-ended")
    assert ended.details == {
        "move": "1", "nve": "nve1", "why": "superseded", "purpose": "in-flight",
        "packets": 7, "bytes": 700, "lifetime_ms": 1.0,
    }  # fmt: skip
    before = [line for line in moving.trace if line.event == "in-flight-before-arrival"]
    assert [line.details["move"] for line in before] == ["1"]
    assert first.phase is Phase.COMPLETED


@pytest.mark.shows("R3.4")
def test_an_entry_that_names_where_the_vm_has_come_back_to_is_right_again() -> None:
    """It keeps no move waiting, and lives on."""
    moving = fabric(PULL)
    (entry,) = promises.about(moving, "nve4", VM1)
    first, second = travel(moving, {"vm1": ["nve2", "nve1"]}, moving.settle)

    assert promises.about(moving, "nve4", VM1) == {entry}
    assert first.outdated == second.outdated == frozenset()


def test_a_move_does_not_wait_for_entries_that_a_later_one_has_made_old() -> None:
    """Else a VM that moves on and on would never have a move completed."""
    moving = fabric(PULL)
    (first,) = travel(moving, {"vm1": ["nve2"]}, moving.settle)
    moving.expire_all()
    assert first.phase is Phase.COMPLETED
    talk(moving)
    second, third = travel(moving, {"vm1": ["nve3", "nve1"]}, moving.settle)
    assert "nve4" in second.outdated
    moving.ask(moving.authority.forget_entries)
    moving.settle()
    talk(moving)
    (fourth,) = travel(moving, {"vm1": ["nve4"]}, moving.settle)

    assert "nve3" in fourth.outdated
    assert second.outdated == third.outdated == frozenset()
    assert second.phase is third.phase is Phase.CONVERGED


def test_a_superseded_tunnel_whose_count_is_lost_has_ended_all_the_same() -> None:
    for disconnected_at in ("before", "after", "carried out"):
        moving = fabric(PUSH)
        travel(moving, {"vm1": ["nve2"]}, moving.settle)
        back = moving.request_move("vm1", "nve1")
        moving.settle()
        moving.redirect(back)
        moving.settle()
        if disconnected_at == "before":
            moving.disconnect("nve1")
        moving.activate(back)
        while disconnected_at == "carried out" and moving.nves["nve1"].down:
            moving.deliver("nve1", "down")
        if disconnected_at != "before":
            moving.disconnect("nve1")

        (ended,) = (line for line in moving.trace if line.event == "in-flight-ended")
        assert (ended.details["why"], ended.details["packets"]) == ("superseded", 0)
        moving.connect("nve1")
        moving.settle()
        assert_nothing_is_left(moving, moving.authority.moves)


def test_a_tunnel_that_ended_while_the_vm_was_coming_back_ended_by_itself() -> None:
    """The report and the arrival have crossed each other."""
    moving = fabric(PUSH)
    (first,) = travel(moving, {"vm1": ["nve2"]}, moving.settle)
    back = moving.request_move("vm1", "nve1")
    moving.settle()
    moving.redirect(back)
    moving.settle()
    (ending,) = (rule for nve, rule in moving.has_timeout() if nve == "nve1")
    moving.expire("nve1", ending)
    moving.activate(back)
    moving.settle()

    assert first.phase is Phase.COMPLETED
    assert_nothing_is_left(moving, moving.authority.moves)


@pytest.mark.shows("R4.1.2")
@pytest.mark.parametrize("frame", [frames.arp(VM1, VM1.ipv4), frames.advertisement(VM1)])
def test_an_announcement_belongs_to_the_youngest_move(frame) -> None:
    """One that is repeated at an earlier destination says nothing new."""
    moving = fabric(PUSH)
    travel(moving, {"vm1": ["nve2"]}, moving.settle)
    back = moving.request_move("vm1", "nve1")
    moving.settle()
    moving.redirect(back)
    moving.settle()

    moving.send_from("nve2", moving.port("vm1"), frame)
    moving.settle()
    assert [move.phase for move in moving.authority.moves][-1] is Phase.REDIRECTED
    moving.send_from("nve1", moving.port("vm1"), frame)
    moving.where["vm1"] = "nve1"
    moving.settle()

    assert moving.refused() == {}
    assert_nothing_is_left(moving, moving.authority.moves)


def test_a_move_can_be_activated_again_after_the_next_has_begun() -> None:
    moving = fabric(PUSH)
    (first,) = travel(moving, {"vm1": ["nve2"]}, moving.settle)
    moving.request_move("vm1", "nve3")
    moving.ask(moving.authority.activate, first.key)

    assert moving.where["vm1"] == "nve2"
    assert {each.nve for each in moving.authority.directory if each.system == SYSTEM} == {"nve2"}


@pytest.mark.parametrize("phase", [Phase.PREPARING, Phase.PREPARED, Phase.REDIRECTED])
@BOTH
@examples(3)
@given(order=st.lists(picks, max_size=60))
def test_a_move_back_that_is_given_up_leaves_the_first_as_it_was(
    dissemination: tuple[str, int | None], phase: Phase, order: list[int]
) -> None:
    """No frame goes in a circle while the NVEs learn of it one after the other."""
    moving = fabric(dissemination)
    settle = in_any_order(moving, order)
    travel(moving, {"vm1": ["nve2"]}, settle)
    watch(moving)
    back = moving.request_move("vm1", "nve1")
    if phase is not Phase.PREPARING:
        settle()
    if phase is Phase.REDIRECTED:
        moving.redirect(back)
        settle()
    assert back.phase is phase
    moving.ask(moving.authority.roll_back, back.key)
    settle()

    assert not back.placed
    again = travel(moving, {"vm1": ["nve1"]}, settle)
    assert_nothing_is_left(moving, [moving.authority.moves[0], *again])


def test_a_place_that_is_being_given_up_can_be_taken_again_at_once() -> None:
    moving = fabric(PUSH)
    back = moving.request_move("vm1", "nve2")
    moving.settle()
    moving.redirect(back)
    moving.settle()
    watch(moving)
    moving.ask(moving.authority.roll_back, back.key)
    again = travel(moving, {"vm1": ["nve2"]}, moving.settle)

    assert back.phase is Phase.ROLLED_BACK
    assert_nothing_is_left(moving, again)


def test_a_place_that_is_in_use_again_is_not_given_back() -> None:
    """What an orchestrator that is late with the first move's release is told."""
    moving = fabric(PUSH)
    travel(moving, {"vm1": ["nve2"]}, moving.settle)
    back = moving.request_move("vm1", "nve1")
    moving.settle()
    with pytest.raises(
        RequestRefused, match="vm1 has a place at nve1 for a move; roll that move back"
    ):
        moving.ask(moving.authority.de_associate, "vm1", "nve1")
    moving.redirect(back)
    moving.settle()
    moving.activate(back)
    with pytest.raises(RequestRefused, match="vm1 is active at nve1; move it away first"):
        moving.ask(moving.authority.de_associate, "vm1", "nve1")


# -- several VMs -----------------------------------------------------------------------------------


@BOTH
@examples(3)
@given(order=st.lists(picks, max_size=300))
def test_two_vms_that_talk_to_each_other_both_move(
    dissemination: tuple[str, int | None], order: list[int]
) -> None:
    """They change places, and change back at once."""
    moving = fabric(dissemination)
    watch(moving)
    ways = {"vm1": ["nve4", "nve1", "nve4"], "vm2": ["nve1", "nve4", "nve3"]}
    moves = travel(moving, ways, in_any_order(moving, order))

    assert_nothing_is_left(moving, moves)


@pytest.mark.thorough
@BOTH
@examples(3)
@given(order=st.lists(picks, max_size=300))
def test_ten_vms_move_at_once(dissemination: tuple[str, int | None], order: list[int]) -> None:
    names = list(vteps(4))
    vms = [vm(f"vm{n}", n, names[n % 4]) for n in range(1, 11)]
    moving = fabric(dissemination, *vms)
    ways = {
        f"vm{n}": [names[(n + step) % 4] for step in ((1, 0), (1, 2), (2,))[n % 3]]
        for n in range(1, 11)
    }
    moves = travel(moving, ways, in_any_order(moving, order))

    assert len(moves) == 17
    assert_nothing_is_left(moving, moves)


def test_a_report_of_the_first_tunnel_is_not_taken_for_the_second() -> None:
    """A VM that leaves an NVE twice has rules with one cookie there twice."""
    moving = fabric(PUSH)
    first, _, third = travel(moving, {"vm1": ["nve2", "nve1", "nve2"]}, moving.settle)
    late = next(rule for nve, rule in moving.has_timeout() if nve == "nve1").cookie
    moving.ask(moving.authority.reported, "nve1", RuleEnded(late, "told", 1, 100, 1.0))

    assert first.phase is Phase.COMPLETED
    assert third.phase is Phase.CONVERGED


def test_what_is_owed_is_asked_for_in_the_order_of_moves() -> None:
    moving = fabric(PUSH)
    travel(moving, {"vm1": ["nve2", "nve1", "nve2", "nve1"]}, moving.settle)
    counted = [line for line in moving.trace if line.event == "in-flight-before-arrival"]
    ended = [line for line in moving.trace if line.event == "in-flight-ended"]

    assert [line.details["move"] for line in counted] == ["1", "2", "3"]
    assert [line.details["move"] for line in ended] == ["1", "2", "3"]
    assert {line.details["why"] for line in ended} == {"superseded"}
    assert {line.details["purpose"] for line in ended} == {Purpose.IN_FLIGHT}
