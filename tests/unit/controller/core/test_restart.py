"""The NVA is killed and goes on, NVEs are cut off: in every phase of a move, before every event.

A kill drops everything that is in memory and on its way; what comes after it is rebuilt from the
lines that the NVA has written down.  NVEs go on forwarding meanwhile.
"""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.core.dissemination import strategy
from controller.core.move import Move
from controller.core.move_fsm import AFTER_RESTART, BEFORE_ACTIVATION, FINISHED, GIVE_UP_S, Phase
from controller.core.refusals import RequestRefused
from nve.pipeline.rules import Rule
from nve.pipeline.state import AssociationRole
from tests.helpers import frames, promises
from tests.helpers.examples import examples, some_of
from tests.helpers.fabric import SECOND_NS, Fabric
from tests.helpers.tenants import vm, vteps

PULL, PUSH = ("pull", 2), ("push", None)
BOTH = pytest.mark.parametrize("dissemination", [PULL, PUSH], ids=["pull", "push"])
VMS = [vm("vm1", 1, "nve1"), vm("vm2", 2, "nve2"), vm("vm3", 3, "nve1"), vm("vm4", 4, "nve4")]
VM1 = VMS[0]
WAYS = {"there": ["nve3"], "back": ["nve2", "nve1"], "round": ["nve2", "nve3", "nve1"]}
WAY = pytest.mark.parametrize(
    "way",
    [
        pytest.param(way, id=name, marks=() if name == "there" else pytest.mark.thorough)
        for name, way in WAYS.items()
    ],
)
NVE = pytest.mark.parametrize(
    "nve",
    [
        pytest.param(name, marks=() if name == "nve3" else pytest.mark.thorough)
        for name in ("nve1", "nve2", "nve3", "nve4")
    ],
)
HARMED = pytest.mark.parametrize(
    ("dissemination", "way"),
    [
        pytest.param(PULL, WAYS["there"], id="there-pull"),
        pytest.param(PUSH, WAYS["back"], id="back-push", marks=pytest.mark.thorough),
        pytest.param(PULL, WAYS["round"], id="round-pull", marks=pytest.mark.thorough),
    ],
)
"""Ways to do harm on.  Either dissemination with any harm in any order: `test_convergence.py`."""
picks = st.integers(min_value=0, max_value=10**6)
Act = Callable[[Fabric], object]


def fabric(dissemination: tuple[str, int | None] = PUSH, *, end_markers: bool = False) -> Fabric:
    """Four NVEs, and every VM has talked to every other."""
    made = Fabric(vteps(4), strategy(*dissemination), end_markers=end_markers)
    for each in VMS:
        made.associate(each)
    made.settle()
    talk(made)
    return made


def talk(at: Fabric) -> None:
    for sender in VMS:
        for target in VMS:
            if sender != target:
                at.send(sender.name, frames.ipv4(sender, target.mac))
    at.settle()


def restart(at: Fabric) -> None:
    at.kill()
    at.connect_all()
    at.settle()


def youngest(at: Fabric) -> Move:
    """Asked for anew: after a restart there are others."""
    return at.authority.moves[-1]


def state_of(at: Fabric) -> object:
    """All that outlives the NVA."""
    whole = at.authority.durable.whole()
    return (
        whole.vms,
        sorted(whole.bindings, key=repr),
        sorted(whole.places, key=repr),
        [(move.key, move.phase, move.placed, move.outdated) for move in whole.moves],
        {nve: at.authority.desired.rules(nve) for nve in at.nves},
    )


def steps(way: list[str]) -> list[Act]:
    """A way as single steps, so that harm can come before any of them."""

    def ask(to: str) -> Act:
        return lambda at: at.request_move("vm1", to)

    def one_message(at: Fabric) -> None:
        if ways := at.under_way():
            at.deliver(*ways[0])

    found: list[Act] = []
    for to in way:
        found += [ask(to), one_message, Fabric.settle]
        found += [lambda at: at.redirect(youngest(at)), one_message, Fabric.settle]
        found += [lambda at: at.activate(youngest(at)), one_message, Fabric.settle]
    return found


LEG = len(steps(["nve3"]))
"""The steps of a move.  Harm is tried in the last move of a way only, with so many steps left: the
moves before it are those of shorter ways."""


def assert_in_the_end_all_is_well(at: Fabric) -> None:
    """Every move is completed or rolled back, every rule is right, every VM is reached."""
    at.on_change = lambda changed: None
    at.connect_all()
    at.settle()
    at.expire_all()
    for move in at.authority.moves:
        if move.phase in BEFORE_ACTIVATION:
            at.ask(at.authority.roll_back, move.key)
            at.settle()
    at.expire_all()
    assert {move.phase for move in at.authority.moves} <= FINISHED
    assert promises.disagreeing(at) == []
    assert promises.pending(at) == []
    assert promises.unreached(at) == []
    assert promises.strayed(at, at.vms.values()) == []
    assert _active(at) == {at.where["vm1"]}


def _active(at: Fabric) -> set[str]:
    states = {nve: at.authority.desired.state(nve).associations for nve in at.nves}
    places = {nve: found.get(VM1.tenant_system) for nve, found in states.items()}
    return {nve for nve, place in places.items() if place and place.role is AssociationRole.ACTIVE}


# -- what is written down --------------------------------------------------------------------------


@BOTH
@WAY
def test_what_is_rebuilt_is_what_was_there_after_every_step(
    dissemination: tuple[str, int | None], way: list[str]
) -> None:
    moving = fabric(dissemination)
    for step in [*steps(way), Fabric.expire_all]:
        step(moving)
        before = state_of(moving)
        other = Fabric(vteps(4), strategy(*dissemination))  # of which a kill leaves nothing
        other.vms, other.journal = moving.vms, list(moving.journal)
        other.kill()
        pending = [
            m for m in moving.authority.moves if m.phase in (Phase.ACTIVATED, Phase.CONVERGED)
        ]
        if len(pending) < 2:  # else a tunnel whose count was owed has ended, which is progress
            assert state_of(other) == before


def test_the_lines_are_no_longer_than_what_has_changed() -> None:
    """Ten thousand moves must not need ten thousand times the state."""
    moving = fabric()
    moving.journal.clear()
    for number in range(20):
        moving.move("vm1", ["nve3", "nve1"][number % 2])
    assert len(b"".join(moving.journal)) < 20 * 20_000


# -- the NVA is killed -----------------------------------------------------------------------------


def test_every_phase_has_a_declared_outcome() -> None:
    assert set(AFTER_RESTART) == set(Phase)


@HARMED
@pytest.mark.parametrize(
    ("connected_before", "end_markers"),
    some_of([("next step", True), ("next step", False), ("later", False)], every=2),
)
@pytest.mark.parametrize("left", some_of(range(LEG + 1), every=2))
def test_the_nva_is_killed_before_any_step(
    dissemination: tuple[str, int | None],
    way: list[str],
    connected_before: str,
    end_markers: bool,
    left: int,
) -> None:
    """No frame is dropped meanwhile by a rule that was changed for it, none goes astray."""
    moving = fabric(dissemination, end_markers=end_markers)
    moving.on_change = _watching(moving)
    for number, step in enumerate(steps(way)):
        if number == len(steps(way)) - left:
            moving.kill()
            if connected_before == "next step":
                moving.connect_all()
                moving.settle()
        try:
            step(moving)
        except RequestRefused:
            assert connected_before == "later"
            moving.connect_all()
            moving.settle()
            step(moving)
    if not left:
        restart(moving)
    assert_in_the_end_all_is_well(moving)
    assert moving.where["vm1"] == way[-1]
    assert {move.phase for move in moving.authority.moves} == {Phase.COMPLETED}


def _watching(at: Fabric) -> Callable[[Rule], None]:
    def check(changed: Rule) -> None:
        if changed.about == VM1.tenant_system:
            assert promises.misplaced(at, VM1) == []

    return check


@BOTH
@pytest.mark.parametrize("nobody_asks", some_of([True, False], every=2))
def test_a_move_that_nobody_goes_on_with_is_rolled_back_at_a_new_deadline(
    dissemination: tuple[str, int | None], nobody_asks: bool
) -> None:
    """The old one may have passed while nobody could have been heard."""
    for moment in range(1, 7):
        moving = fabric(dissemination)
        for step in steps(["nve3"])[:moment]:
            step(moving)
        moving.now_ns += 1000 * SECOND_NS
        restart(moving)
        moving.ask(moving.authority.tick)
        assert youngest(moving).phase in BEFORE_ACTIVATION
        if nobody_asks:
            moving.now_ns += 61 * SECOND_NS
            moving.ask(moving.authority.tick)
            assert youngest(moving).phase is Phase.ROLLED_BACK
        assert_in_the_end_all_is_well(moving)
        assert moving.where["vm1"] == "nve1"


@BOTH
def test_time_outs_that_came_while_nobody_listened(dissemination: tuple[str, int | None]) -> None:
    """In-flight rules and entries have ended at the switches, and no report of it was heard."""
    for moment in range(7, 10):
        moving = fabric(dissemination)
        for step in steps(["nve3"])[:moment]:
            step(moving)
        moving.kill()
        for nve, rule in moving.has_timeout():
            moving.expire(nve, rule)
        moving.connect_all()
        moving.settle()
        assert promises.disagreeing(moving) == []
        binding = moving.authority.directory.find(VM1.tenant_system)
        assert binding is not None
        assert moving.authority._entries.outdated(binding) == frozenset()
        assert_in_the_end_all_is_well(moving)
        assert youngest(moving).phase is Phase.COMPLETED


@pytest.mark.shows("R3.5")
def test_a_restart_does_not_touch_rules_that_are_right() -> None:
    """What other VMs' frames need is neither removed nor replaced by something else."""
    moving = fabric()
    for step in steps(["nve3"])[:6]:
        step(moving)
    before = {name: node.holds() for name, node in moving.nves.items()}
    seen: list[Rule] = []
    moving.on_change = seen.append
    restart(moving)

    assert {name: node.holds() for name, node in moving.nves.items()} == before
    assert set(seen) <= {rule for rules in before.values() for rule in rules}


@BOTH
def test_a_move_that_was_rolled_back_gives_its_place_back_after_a_restart(
    dissemination: tuple[str, int | None],
) -> None:
    moving = fabric(dissemination)
    for step in steps(["nve3"])[:6]:
        step(moving)
    moving.ask(moving.authority.roll_back, "1")
    assert youngest(moving).placed
    restart(moving)

    assert not youngest(moving).placed
    assert VM1.tenant_system not in moving.authority.desired.state("nve3").associations
    assert_in_the_end_all_is_well(moving)


@examples(10)
@given(order=st.lists(picks, max_size=60), moment=st.integers(0, 400))
def test_the_nva_is_killed_at_any_message(order: list[int], moment: int) -> None:
    """Also twice, and while it is starting again; the orchestrator repeats itself until heard."""
    moving = fabric(PULL)
    moving.on_change = _watching(moving)
    turns = iter(order)
    left = [moment, moment // 3]

    def deliver() -> None:
        while ways := moving.under_way():
            moving.deliver(*ways[next(turns, 0) % len(ways)])
            if left and left[-1] == 0:
                left.pop()
                moving.kill()
                moving.connect_all()
            elif left:
                left[-1] -= 1

    for to in WAYS["back"]:
        moving.request_move("vm1", to)
        deliver()
        moving.redirect(youngest(moving))
        deliver()
        moving.activate(youngest(moving))
        deliver()
    assert_in_the_end_all_is_well(moving)


# -- an NVE is cut off -----------------------------------------------------------------------------


@HARMED
@NVE
@pytest.mark.parametrize("left", some_of(range(1, LEG + 1), every=2))
def test_an_nve_is_cut_off_for_a_while_before_any_step(
    dissemination: tuple[str, int | None], way: list[str], nve: str, left: int
) -> None:
    """Ten seconds in any phase; a request that needs it is refused, and made again later."""
    moving = fabric(dissemination)
    moving.on_change = _watching(moving)
    moment = len(steps(way)) - left
    for number, step in enumerate(steps(way)):
        if number == moment:
            moving.disconnect(nve)
        if number == moment + 2:
            moving.now_ns += 10 * SECOND_NS
            moving.ask(moving.authority.tick)
            moving.connect_all()
            moving.settle()
        try:
            step(moving)
        except RequestRefused:
            moving.connect_all()
            moving.settle()
            step(moving)
    assert_in_the_end_all_is_well(moving)
    assert moving.where["vm1"] == way[-1]


@BOTH
@NVE
@pytest.mark.parametrize("gone", some_of([Fabric.die, Fabric.disconnect], every=2))
def test_an_nve_that_never_comes_back_keeps_no_move_for_ever(
    dissemination: tuple[str, int | None], nve: str, gone: Callable[[Fabric, str], None]
) -> None:
    """The trace names it; when it does come back, it is told what holds by then."""
    for moment in range(6, 10):
        moving = fabric(dissemination)
        for number, step in enumerate(steps(["nve3"])):
            if number == moment:
                gone(moving, nve)
            step(moving)
        if moment == 9:
            gone(moving, nve)
        for passed_s in (1, GIVE_UP_S):
            moving.now_ns += int(passed_s * SECOND_NS)
            moving.ask(moving.authority.tick)
        moving.now_ns += SECOND_NS
        moving.ask(moving.authority.tick)
        others = [place for place in moving.has_timeout() if place[0] != nve]
        for name, rule in sorted(others, key=lambda place: place[1].table, reverse=True):
            moving.expire(name, rule)  # entries first: packets in flight end behind the last
            moving.settle()
        assert youngest(moving).phase is Phase.COMPLETED
        given_up = [line.details for line in moving.trace if line.event == "nve-given-up"]
        assert given_up in ([], [{"move": "1", "nve": nve}])
        assert given_up or nve != "nve1"
        assert_in_the_end_all_is_well(moving)


def test_after_a_restart_an_nve_that_is_not_there_is_given_up_as_well() -> None:
    moving = fabric()
    for step in steps(["nve3"]):
        step(moving)
    moving.kill()
    for name in ("nve2", "nve3", "nve4"):
        moving.connect(name)
    moving.settle()
    assert youngest(moving).phase in (Phase.ACTIVATED, Phase.CONVERGED)
    for _ in range(3):
        moving.now_ns += 40 * SECOND_NS
        moving.ask(moving.authority.tick)
        moving.settle()

    assert youngest(moving).phase is Phase.COMPLETED
    assert_in_the_end_all_is_well(moving)
