"""The NVA and its NVEs agree in the end, and keep their promises on the way.

Hypothesis plays the orchestrator, the clock and the network: it moves VMs, lets announcements and
misses happen, lets rules time out, breaks connections, kills the NVA, and delivers the messages of
different NVEs in any order.  After every single change of a rule at an NVE the promises that hold
at every instant are checked; at the end everything is delivered and the rest is checked.
"""

import contextlib

import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from controller.core.dissemination import strategy
from controller.core.move import InFlight, Move
from controller.core.move_fsm import FINISHED, Phase
from controller.core.refusals import RequestRefused
from nve.pipeline.evaluator import PacketVerdict
from nve.pipeline.rules import Purpose, Rule
from tests.helpers import frames, promises
from tests.helpers.examples import examples
from tests.helpers.fabric import SECOND_NS, Fabric
from tests.helpers.tenants import BLUE, RED, vm, vteps

SETTINGS = examples(25, stateful_step_count=50, suppress_health_check=[HealthCheck.too_slow])
VMS = [vm("vm1", 1, "nve1"), vm("vm2", 2, "nve2"), vm("other1", 1, "nve2", BLUE)]
PULL, PUSH = ("pull", 2), ("push", None)
names = st.sampled_from([each.name for each in VMS])
nves = st.sampled_from(list(vteps()))
picks = st.integers(min_value=0, max_value=10**6)


# A failure takes its time: hypothesis looks for a shorter way to it.
pytestmark = pytest.mark.timeout(400)


class Mobility(RuleBasedStateMachine):
    """See above; subclasses choose how NVEs learn where a VM is."""

    dissemination: tuple[str, int | None]

    def __init__(self) -> None:
        super().__init__()
        self.fabric = Fabric(vteps(), strategy(*self.dissemination))
        self.fabric.on_change = self.check
        for each in VMS:
            self.fabric.associate(each)

    def check(self, changed: Rule) -> None:
        fabric = self.fabric
        touched = [each for each in fabric.vms.values() if each.tenant_system == changed.about]
        assert promises.strayed(fabric, touched) == []
        assert [each for target in touched for each in promises.misplaced(fabric, target)] == []

    def all_connected(self) -> bool:
        return all(node.connected for node in self.fabric.nves.values())

    def move_of(self, name: str) -> Move | None:
        """The youngest of a VM; older ones have arrived."""
        moves = [each for each in self.fabric.authority.moves if each.request.vm == name]
        return next((each for each in moves[-1:] if each.phase not in FINISHED), None)

    # -- the orchestrator ---------------------------------------------------------------------

    @rule(name=names, to=nves, in_flight=st.sampled_from(["tunnel", "drop"]))
    def request(self, name: str, to: str, in_flight: InFlight) -> None:
        with contextlib.suppress(RequestRefused):
            self.fabric.request_move(name, to, in_flight)

    @precondition(lambda self: self.all_connected())
    @rule(name=names, to=nves)
    def move_at_once(self, name: str, to: str) -> None:
        """A whole move, on the heels of another or not."""
        self.fabric.settle()
        with contextlib.suppress(RequestRefused):
            self.fabric.move(name, to)

    @rule(name=names)
    def redirect(self, name: str) -> None:
        move = self.move_of(name)
        if move:
            with contextlib.suppress(RequestRefused):
                self.fabric.redirect(move)

    @rule(name=names, announced=st.booleans())
    def activate(self, name: str, announced: bool) -> None:
        """The VM starts at the destination; its announcement or the orchestrator is first."""
        move = self.move_of(name)
        if move is None or move.phase is not Phase.REDIRECTED:
            return
        if announced:
            self.fabric.where[name] = move.destination
            vm = self.fabric.vms[name]
            self.fabric.send(name, frames.arp(vm, vm.ipv4))
        else:
            self.fabric.activate(move)

    @rule(name=names)
    def roll_back(self, name: str) -> None:
        """Only a VM that has not started at the destination can be given back."""
        move = self.move_of(name)
        if move and self.fabric.where[name] == move.source:
            with contextlib.suppress(RequestRefused):
                self.fabric.ask(self.fabric.authority.roll_back, move.key)

    @rule(name=names)
    def de_associate(self, name: str) -> None:
        """The source forgets the VM, perhaps too early."""
        for move in self.fabric.authority.moves:
            if move.request.vm == name:
                with contextlib.suppress(RequestRefused):
                    self.fabric.ask(self.fabric.authority.de_associate, name, move.source)

    @rule()
    def forget(self) -> None:
        self.fabric.ask(self.fabric.authority.forget_entries)

    # -- VMs, time, the network ---------------------------------------------------------------

    @rule(sender=names, to=names)
    def talk(self, sender: str, to: str) -> None:
        vms = self.fabric.vms
        self.fabric.send(sender, frames.ipv4(vms[sender], vms[to].mac))

    @rule(pick=picks)
    def time_out(self, pick: int) -> None:
        found = self.fabric.has_timeout()
        if found:
            self.fabric.expire(*found[pick % len(found)])

    @rule(seconds=st.integers(1, 40))
    def tick(self, seconds: int) -> None:
        """Time passes; a VM that runs at its destination has said so before its deadline."""
        for move in self.fabric.authority.moves:
            begun = self.fabric.where[move.request.vm] == move.destination
            if begun and move.phase is Phase.REDIRECTED:
                self.fabric.activate(move)
        self.fabric.now_ns += seconds * SECOND_NS
        self.fabric.ask(self.fabric.authority.tick)

    @rule(choices=st.lists(picks, min_size=1, max_size=30))
    def deliver(self, choices: list[int]) -> None:
        for choice in choices:
            ways = self.fabric.under_way()
            if ways:
                self.fabric.deliver(*ways[choice % len(ways)])

    @rule(pick=picks)
    def lose(self, pick: int) -> None:
        ways = self.fabric.under_way()
        if ways:
            self.fabric.lose(*ways[pick % len(ways)])

    @rule()
    def deliver_everything(self) -> None:
        self.fabric.settle()

    @precondition(lambda self: self.all_connected())
    @rule(nve=nves)
    def disconnect(self, nve: str) -> None:
        self.fabric.disconnect(nve)

    @precondition(lambda self: not self.all_connected())
    @rule()
    def reconnect(self) -> None:
        for name, node in self.fabric.nves.items():
            if not node.connected:
                self.fabric.connect(name)

    @rule()
    def kill(self) -> None:
        """The NVA goes on from what it has written down, as soon as NVEs connect again."""
        self.fabric.kill()

    @invariant()
    def settled(self) -> None:
        assert promises.unsettled(self.fabric) == []

    # -- in the end ---------------------------------------------------------------------------

    def teardown(self) -> None:
        fabric = self.fabric
        for name, node in fabric.nves.items():
            if not node.connected:
                fabric.connect(name)
        fabric.settle()
        for move in [each for each in fabric.authority.moves if each.phase not in FINISHED]:
            self.finish(move)
        assert promises.disagreeing(fabric) == []
        fabric.expire_all()
        assert [each.phase for each in fabric.authority.moves if each.phase not in FINISHED] == []
        assert promises.disagreeing(fabric) == []
        assert promises.unreached(fabric) == []
        assert promises.strayed(fabric, fabric.vms.values()) == []

    def finish(self, move: Move) -> None:
        """Roll back what has not arrived yet; leave the rest to time-outs."""
        fabric = self.fabric
        if move.phase is Phase.REDIRECTED and fabric.where[move.request.vm] == move.destination:
            fabric.activate(move)
        with contextlib.suppress(RequestRefused):
            fabric.ask(fabric.authority.roll_back, move.key)
        fabric.settle()


class Pulling(Mobility):
    dissemination = PULL


class Pushing(Mobility):
    dissemination = PUSH


TestPulling, TestPushing = Pulling.TestCase, Pushing.TestCase
TestPulling.settings = TestPushing.settings = SETTINGS


@pytest.mark.shows("R4.1.4")
@pytest.mark.parametrize("dissemination", [PULL, PUSH], ids=["pull", "push"])
@examples(20)
@given(order=st.lists(picks, max_size=80))
def test_no_instant_of_a_move_drops_a_frame(
    dissemination: tuple[str, int | None], order: list[int]
) -> None:
    """While two VMs move, every frame reaches the VM's old or new place, or asks."""
    fabric = Fabric(vteps(), strategy(*dissemination))
    for each in [*VMS[:2], vm("vm3", 3, "nve1")]:
        fabric.associate(each)
    fabric.settle()
    for sender, target in (("vm2", "vm1"), ("vm1", "vm2"), ("vm2", "vm3")):
        fabric.send(sender, frames.ipv4(fabric.vms[sender], fabric.vms[target].mac))
    fabric.settle()
    fabric.on_change = lambda changed: _check_nothing_is_dropped(fabric)
    turns = iter(order)

    def settle_in_any_order() -> None:
        while ways := fabric.under_way():
            fabric.deliver(*ways[next(turns, 0) % len(ways)])

    moves = [fabric.request_move("vm1", "nve3"), fabric.request_move("vm2", "nve1")]
    settle_in_any_order()
    for step in (fabric.redirect, fabric.activate):
        for move in moves:
            step(move)
        settle_in_any_order()
    fabric.on_change = lambda changed: None
    fabric.expire_all()
    assert [move.phase for move in moves] == [Phase.COMPLETED, Phase.COMPLETED]


def _check_nothing_is_dropped(fabric: Fabric) -> None:
    for target in fabric.vms.values():
        for sender in fabric.vms.values():
            frame = frames.entering(frames.ipv4(sender, target.mac), fabric.port(sender.name))
            way = promises.reasons(fabric, frame, fabric.where[sender.name])
            if sender != target:
                assert not _dropped(way), f"{sender.name} -> {target.name}: {way[-1].last}"


def _dropped(way: list[PacketVerdict]) -> bool:
    return way[-1].dropped


@pytest.mark.shows("R3.4", "R3.5")
@pytest.mark.parametrize("dissemination", [PULL, PUSH], ids=["pull", "push"])
def test_nothing_is_left_of_a_completed_move_at_the_source(
    dissemination: tuple[str, int | None],
) -> None:
    """Only the entry that the strategy wants, and nothing that forwards for the VM."""
    fabric = Fabric(vteps(), strategy(*dissemination))
    for each in [*VMS, vm("stays", 3, "nve1")]:
        fabric.associate(each)
    fabric.settle()

    fabric.move("vm1", "nve2")

    left = promises.about(fabric, "nve1", VMS[0])
    pushed = {Purpose.FORWARD} if dissemination is PUSH else set()
    assert {each.purpose for each in left} == pushed
    from_tunnel = frames.encapsulated(
        frames.ipv4(VMS[1], VMS[0].mac), RED, fabric.nves["nve2"].vtep
    )
    assert fabric.judge(from_tunnel, "nve1").dropped
