"""Frames to a group reach each VM of their network once, at every instant of moves."""

from collections import Counter

import pytest

from controller.core.dissemination import strategy
from controller.core.move import Move
from nve.model import BROADCAST, FIRST_COPY_VNI
from nve.pipeline.rules import PipelineTable, Rule, lane_port
from tests.helpers import frames
from tests.helpers.examples import some_of
from tests.helpers.fabric import Fabric
from tests.helpers.tenants import BLUE, RED, vm, vteps

VMS = [
    *(vm("vm1", 1, "nve1"), vm("vm2", 2, "nve1"), vm("vm3", 3, "nve2"), vm("vm4", 4, "nve3")),
    vm("vm5", 5, "nve2"),
    vm("blue", 1, "nve2", BLUE),
]


def fabric(update: str, *, keep: bool = False, end_markers: bool = False) -> Fabric:
    lifetime_s = 2 if update == "pull" else None
    how = strategy(update, lifetime_s, keeps_expired=keep)
    made = Fabric(vteps(), how, end_markers=end_markers)
    for each in VMS:
        made.associate(each)
    made.settle()
    return made


WAYS_TO_TELL = ["push", "pull", "pull-keep", "push-markers", "pull-markers"]


@pytest.fixture(params=some_of(WAYS_TO_TELL, every=2))
def watched(request: pytest.FixtureRequest) -> Fabric:
    """Looked at after each rule that changes anywhere."""
    update, _, how = request.param.partition("-")
    markers = how == "markers"
    made = fabric(update, keep=bool(how) and update == "pull", end_markers=markers)
    made.on_change = lambda rule: look(made, rule)
    return made


def look(at: Fabric, changed: Rule | None = None) -> None:
    for sender in VMS:
        frame = frames.entering(frames.ipv4(sender, BROADCAST), at.port(sender.name))
        got = Counter(owner(at, port) for _, port in at.deliveries(frame, at.where[sender.name]))
        wanted = Counter(each.name for each in VMS if each.vni == sender.vni and each != sender)
        got.pop(sender.name, None)
        assert got == wanted, f"{sender.name} reaches {got}, after {changed}"


def owner(at: Fabric, port: int) -> str:
    return next(name for name in at.vms if port in (at.port(name), lane_port(at.port(name))))


def moved(at: Fabric, vm_name: str, to: str) -> Move:
    """Step by step; what is on its way is delivered one message at a time."""
    move = at.request_move(vm_name, to)
    at.settle()
    at.redirect(move)
    at.settle()
    at.activate(move)
    at.settle()
    return move


def expire(at: Fabric) -> None:
    """The time-outs that there are come, and are dealt with."""
    for nve, rule in at.has_timeout():
        if rule in at.nves[nve].holds():
            at.expire(nve, rule)
            at.settle()


@pytest.mark.shows("R4.1.4", "R4.1.8", "R5.4")
def test_a_frame_to_a_group_comes_once_to_each_throughout_moves(watched: Fabric) -> None:
    """On, on again, home; others move meanwhile, and time-outs come where they come."""
    sender = watched.vms["vm4"]
    for each in ("vm1", "vm2"):
        watched.send("vm4", frames.ipv4(sender, watched.vms[each].mac))
    watched.settle()
    for vm_name, to in (("vm1", "nve2"), ("vm1", "nve3"), ("vm2", "nve3"), ("vm1", "nve1")):
        moved(watched, vm_name, to)
    expire(watched)
    moved(watched, "vm3", "nve1")
    expire(watched)
    look(watched)


def test_a_move_that_is_given_up_changes_nothing(watched: Fabric) -> None:
    before = of_groups(watched)
    move = watched.request_move("vm1", "nve2")
    watched.settle()
    watched.redirect(move)
    watched.settle()
    assert of_groups(watched) != before
    watched.ask(watched.authority.roll_back, move.key)
    watched.settle()

    assert of_groups(watched) == before


def of_groups(at: Fabric) -> dict[str, set[Rule]]:
    """Which rules have to do with frames to groups, at each NVE."""
    tables = {PipelineTable.FLOOD, PipelineTable.FLOOD_LOCAL, PipelineTable.FROM_TUNNEL}
    return {
        name: {rule for rule in node.holds() if rule.table in tables}
        for name, node in at.nves.items()
    }


def test_another_process_of_the_nva_sends_them_the_same_ways(watched: Fabric) -> None:
    moved(watched, "vm1", "nve2")
    expire(watched)
    before = watched.authority.desired.rules("nve3")
    watched.kill()
    watched.connect_all()
    watched.settle()

    assert watched.authority.desired.rules("nve3") == before


@pytest.mark.shows("R9.1")
def test_a_copy_is_for_one_vm_and_comes_from_an_nve(watched: Fabric) -> None:
    """The VNIs of copies are nobody's network."""
    frame = frames.ipv4(VMS[3], BROADCAST)
    bindings = {binding.system: binding for binding in watched.authority.directory}
    copies = {each.name: bindings[each.tenant_system].copy_vni for each in VMS}
    assert len(set(copies.values())) == len(VMS)
    assert min(copies.values()) > FIRST_COPY_VNI > max(RED, BLUE)
    vm1, nve3 = copies["vm1"], vteps()["nve3"]
    known = frames.encapsulated(frame, vm1, nve3)
    assert watched.judge(known, "nve1").ports == (watched.port("vm1"),)
    assert watched.judge({**known, "tun_ipv4_src": "10.9.9.9"}, "nve1").dropped
    assert watched.judge({**known, "eth_dst": VMS[0].mac}, "nve1").dropped
    assert watched.judge(known, "nve2").dropped
