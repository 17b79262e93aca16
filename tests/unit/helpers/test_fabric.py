"""The fabric and the promises asked of it: each is shown a case in which it has to complain."""

from dataclasses import replace

import pytest

from controller.core.dissemination import strategy
from controller.core.refusals import RequestRefused
from nve.messages import Emit, Missed
from nve.pipeline.evaluator import ForwardingLoop, deliveries, evaluate
from nve.pipeline.rules import Action, Output, PipelineTable, Purpose, Rule, Tunnel, match
from tests.helpers import frames, promises
from tests.helpers.fabric import Fabric
from tests.helpers.fake_nve import Add, Remove
from tests.helpers.tenants import BLUE, RED, vm, vteps

VM1, VM2, OTHER = vm("vm1", 1, "nve1"), vm("vm2", 2, "nve2"), vm("other", 1, "nve2", BLUE)
DROP = Rule(PipelineTable.FORWARD, 99, match(), (), Purpose.SPOOFED)


@pytest.fixture
def fabric() -> Fabric:
    fabric = Fabric(vteps(), strategy("push", None))
    for each in (VM1, VM2, OTHER):
        fabric.associate(each)
    fabric.settle()
    return fabric


def misconfigure(fabric: Fabric, nve: str, *rules: Rule) -> None:
    for rule in rules:
        fabric.nves[nve].carry_out(Add(rule))


def to_vm1(*actions: Action) -> Rule:
    """A rule about frames to vm1 that stands above the NVA's."""
    where = match(metadata=RED, eth_dst=VM1.mac)
    return Rule(PipelineTable.FORWARD, 99, where, actions, Purpose.FORWARD, VM1.tenant_system)


# -- promises --------------------------------------------------------------------------------------


def test_a_sound_fabric_keeps_all_promises(fabric: Fabric) -> None:
    assert promises.disagreeing(fabric) == []
    assert promises.unreached(fabric) == []
    assert promises.strayed(fabric, fabric.vms.values()) == []


def test_a_missing_and_an_extra_rule_are_named(fabric: Fabric) -> None:
    misconfigure(fabric, "nve3", DROP)
    lost = next(iter(fabric.nves["nve1"].holds()))
    fabric.nves["nve1"].carry_out(Remove(lost))

    assert promises.disagreeing(fabric) == [f"nve1 misses {lost}", f"nve3 still holds {DROP}"]


def test_a_count_that_is_expected_is_named(fabric: Fabric) -> None:
    assert promises.pending(fabric) == []
    move = fabric.request_move("vm1", "nve3")
    fabric.settle()
    fabric.redirect(move)

    assert promises.pending(fabric) == ["nve1 is to report what it carried for vm1"]


def test_an_nve_that_dies_comes_back_without_a_rule(fabric: Fabric) -> None:
    before = fabric.judge(frames.entering(frames.ipv4(VM1, VM2.mac), 10), "nve1")
    fabric.die("nve1")
    fabric.settle()

    assert fabric.nves["nve1"].holds() == frozenset()
    assert fabric.judge(frames.entering(frames.ipv4(VM1, VM2.mac), 10), "nve1") != before


def test_a_rule_with_another_time_out_is_another_rule(fabric: Fabric) -> None:
    kept = next(iter(fabric.nves["nve1"].holds()))
    misconfigure(fabric, "nve1", replace(kept, hard_s=5))

    assert len(promises.disagreeing(fabric)) == 2


def test_a_vm_that_is_not_reached_is_named(fabric: Fabric) -> None:
    misconfigure(fabric, "nve2", to_vm1())

    assert promises.unreached(fabric) == ["vm2 -> vm1 got to (), not ('nve1', 10)"]


def test_a_frame_in_another_network_is_named(fabric: Fabric) -> None:
    misconfigure(fabric, "nve2", to_vm1(Output(fabric.port("other"))))

    assert promises.strayed(fabric, [VM1]) == ["vm2 -> vm1 at nve2 got to other"]


def test_a_frame_delivered_twice_is_named(fabric: Fabric) -> None:
    there = Tunnel(RED, fabric.nves["nve1"].vtep)
    misconfigure(fabric, "nve2", to_vm1(there, there))

    assert "vm2 -> vm1 at nve2 got to vm1, vm1" in promises.strayed(fabric, [VM1])


def test_a_frame_out_of_a_tunnel_that_strays_is_named(fabric: Fabric) -> None:
    to_other = Rule(
        PipelineTable.FROM_TUNNEL, 99, (), (Output(fabric.port("other")),), Purpose.DELIVER
    )
    misconfigure(fabric, "nve1", to_other)

    assert "a tunnel -> vm1 at nve1 got to other" in promises.strayed(fabric, [VM1])


def test_a_loop_raises(fabric: Fabric) -> None:
    for here, there in (("nve1", "nve2"), ("nve2", "nve1")):
        back = Tunnel(RED, fabric.nves[there].vtep, hairpin=True)
        misconfigure(
            fabric, here, Rule(PipelineTable.FROM_TUNNEL, 99, (), (back,), Purpose.IN_FLIGHT)
        )

    with pytest.raises(ForwardingLoop):
        promises.strayed(fabric, [VM1])


# -- frames ----------------------------------------------------------------------------------------


def test_a_frame_goes_where_the_evaluator_says(fabric: Fabric) -> None:
    misconfigure(fabric, "nve2", to_vm1(Tunnel(RED, fabric.nves["nve1"].vtep), Output(12)))
    frame = frames.entering(frames.ipv4(VM2, VM1.mac), fabric.port("vm2"))
    nves = {name: (node.vtep, node.rules.values()) for name, node in fabric.nves.items()}

    assert fabric.deliveries(frame, "nve2") == deliveries(nves, frame, "nve2")
    assert [nve for nve, _ in fabric.way(frame, "nve2")] == ["nve2", "nve1"]


# -- the control channels --------------------------------------------------------------------------


def test_nothing_moves_by_itself_and_nothing_overtakes(fabric: Fabric) -> None:
    fabric.ask(fabric.authority.nve_connected, "nve1")
    before = list(fabric.nves["nve1"].down)
    assert fabric.under_way() == [("nve1", "down")]

    fabric.lose("nve1", "down")
    assert not fabric.deliver("nve1", "down")
    assert list(fabric.nves["nve1"].down) == before

    assert fabric.deliver("nve1", "down")
    assert list(fabric.nves["nve1"].down) == before[1:]


def test_channels_of_two_nves_are_independent(fabric: Fabric) -> None:
    for nve in ("nve1", "nve2"):
        fabric.ask(fabric.authority.nve_connected, nve)
    fabric.lose("nve1", "down")

    while fabric.nves["nve2"].down:
        assert fabric.deliver("nve2", "down")

    assert ("nve1", "down") in fabric.under_way()


def test_a_broken_connection_loses_messages_and_keeps_rules(fabric: Fabric) -> None:
    rules = fabric.nves["nve1"].holds()
    fabric.ask(fabric.authority.nve_connected, "nve1")
    fabric.disconnect("nve1")

    assert fabric.under_way() == []
    assert fabric.nves["nve1"].holds() == rules
    assert not fabric.authority.desired.is_connected("nve1")


def test_every_change_of_a_rule_can_be_watched(fabric: Fabric) -> None:
    seen: list[Rule] = []
    before = fabric.nves["nve3"].holds()
    fabric.on_change = lambda changed: seen.append(changed)
    fabric.associate(vm("vm3", 3, "nve3"))
    fabric.settle()

    added = fabric.nves["nve3"].holds() - before
    assert added
    assert added <= set(seen)


# -- VMs and the NVA -------------------------------------------------------------------------------


def test_a_miss_comes_to_the_nva_as_the_frame_it_was(fabric: Fabric) -> None:
    unknown = vm("ghost", 99, "nve1")
    fabric.send("vm1", frames.ipv4(VM1, unknown.mac))

    (report,) = fabric.nves["nve1"].up
    assert isinstance(report, Missed)
    assert (report.port, report.destination) == (10, unknown.mac)
    fabric.settle()
    assert fabric.refused() == {"unknown-destination": 1}


def test_an_nve_without_a_connection_says_and_hears_nothing(fabric: Fabric) -> None:
    miss = frames.ipv4(VM1, vm("ghost", 99, "nve1").mac)
    fabric.disconnect("nve1")
    assert fabric.send("vm1", miss).reported
    assert fabric.under_way() == []

    with pytest.raises(AssertionError, match="nobody is there to hear"):
        fabric.ask(fabric.authority.reported, "nve1", Missed(10, VM2.mac, b""))


def test_an_exchange_without_end_is_noticed(
    fabric: Fabric, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody removes an entry, again and again, and the VM goes on sending."""
    monkeypatch.setattr("tests.helpers.fabric.ENDLESS", 100)
    (entry,) = promises.about(fabric, "nve1", VM2)

    class Emitted(list[Emit]):
        def append(self, sent: Emit) -> None:
            fabric.nves["nve1"].carry_out(Remove(entry))
            fabric.send("vm1", frames.ipv4(VM1, VM2.mac))

    fabric.emitted = Emitted()
    fabric.emitted.append(Emit("nve1", Output(fabric.port("vm1")), b"the first"))

    with pytest.raises(AssertionError, match="have not stopped talking"):
        fabric.settle()


def test_a_refusal_reaches_the_test(fabric: Fabric) -> None:
    with pytest.raises(RequestRefused):
        fabric.request_move("vm1", "nve1")


def test_a_whole_move_leads_to_the_other_nve(fabric: Fabric) -> None:
    fabric.move("vm1", "nve3")

    assert fabric.where["vm1"] == "nve3"
    assert promises.unreached(fabric) == []
    assert fabric.has_timeout() == []


def test_a_rule_that_asks_for_what_was_noted_changes_the_verdict(fabric: Fabric) -> None:
    """Here for the frame's network; verdicts of other frames hold."""
    node = fabric.nves["nve1"]
    to_two = frames.entering(frames.ipv4(VM1, VM2.mac), fabric.port("vm1"))
    to_one = frames.entering(frames.ipv4(VM2, VM1.mac), fabric.port("vm2"))
    drop = Rule(PipelineTable.FORWARD, 99, match(metadata=RED, eth_dst=VM2.mac), (), Purpose.MISS)
    seen = []
    for change in (None, Add(drop), Remove(drop)):
        if change:
            node.carry_out(change)
        seen.append(node.judge(to_two))
        assert seen[-1] == evaluate(node.holds(), to_two)
        assert node.judge(to_one) == evaluate(node.holds(), to_one)
    assert [each.dropped for each in seen] == [False, True, False]
