"""Changing paths without a packet overtaking another: who is told what, in which order."""

import pytest

from controller.core.move_fsm import GIVE_UP_S, Phase
from nve.pipeline.rules import Purpose, lane_port
from nve.wire.end_marker import MarkerKind, Signal
from tests.helpers import frames
from tests.helpers.fabric import SECOND_NS
from tests.helpers.frames import entering
from tests.helpers.handovers import (
    MARKER,
    SYSTEM,
    VM1,
    VM2,
    VM3,
    departed,
    entry,
    expire,
    fabric,
    orders,
    with_entries,
)
from tests.helpers.tenants import vm, vteps


@pytest.mark.shows("R4.1.4", "R5.4")
def test_at_the_arrival_every_nve_whose_path_changes_is_an_edge() -> None:
    made = fabric()
    move = departed(made)
    assert orders(made) == [("nve1", MarkerKind.FOLLOW, ("nve2", "nve3"))]
    made.activate(move)
    made.settle()
    assert orders(made)[1:] == [
        ("nve2", MarkerKind.EXPECT_MARKERS, ("nve2", "nve3")),
        ("nve2", MarkerKind.SEND_MARKER, ()),
        ("nve3", MarkerKind.SEND_MARKER, ()),
    ]


def test_an_edge_holds_its_new_entry_before_it_is_told_to_send_its_marker() -> None:
    made = fabric()
    move = departed(made)
    before = entry(made, "nve3")
    made.activate(move)
    while not [nve for nve, _ in made.orders if nve == "nve3"]:
        made.deliver("nve3", "down")
    after = entry(made, "nve3")
    assert before
    assert after
    assert before.actions != after.actions


@pytest.mark.parametrize("ingress_nve", ["nve2", "nve3"])
def test_a_marker_takes_the_old_path_into_the_lane(ingress_nve: str) -> None:
    made = fabric()
    move = departed(made)
    made.activate(move)
    for nve in made.nves:  # all is delivered, nothing is answered
        while made.nves[nve].down:
            made.deliver(nve, "down")
    lane = ("nve2", lane_port(made.port("vm1")))
    assert made.deliveries(MARKER, ingress_nve) == (lane,)


def test_packets_in_flight_come_by_the_lane_and_others_by_the_plug() -> None:
    made = fabric()
    move = departed(made)
    port = made.port("vm1")
    packet = frames.ipv4(VM3, VM1.mac)
    from_vm3 = entering(packet, made.port("vm3"))
    assert made.deliveries(from_vm3, "nve3") == (("nve2", lane_port(port)),)
    made.activate(move)
    made.settle()
    from_vm2 = entering(frames.ipv4(VM2, VM1.mac), made.port("vm2"))
    assert made.deliveries(from_vm3, "nve3") == (("nve2", port),)
    assert made.deliveries(from_vm2, "nve2") == (("nve2", port),)


def test_the_rules_for_markers_go_when_they_have_come() -> None:
    made = fabric()
    move = departed(made)
    made.activate(move)
    made.settle()
    assert not [
        rule
        for node in made.nves.values()
        for rule in node.holds()
        if rule.purpose is Purpose.END_MARKER and rule.about
    ]
    assert "paths-changed" in made.events()


def test_the_next_move_is_not_prepared_before_the_paths_have_changed() -> None:
    made = fabric()
    move = departed(made)
    made.activate(move)
    while not made.expecting:
        made.deliver("nve2", "down")
    again = made.request_move("vm1", "nve3")
    while made.nves["nve1"].down or made.nves["nve2"].down:
        for nve in ("nve1", "nve2"):
            while made.nves[nve].down:
                made.deliver(nve, "down")
            while made.nves[nve].up:
                made.deliver(nve, "up")
    assert str(again.phase) == Phase.PREPARING
    made.settle()
    assert str(again.phase) == Phase.PREPARED


def test_a_marker_that_does_not_come_ends_with_the_time_out_and_is_named() -> None:
    made = fabric()
    made.disconnect("nve3")
    move = departed(made)
    made.activate(move)
    made.settle()
    ((nve, _), expected) = next(iter(made.expecting.items()))
    made.release(nve, expected, missing=("nve3",))
    made.settle()
    (ended,) = [line for line in made.trace if line.event == "paths-changed"]
    assert ended.details["without_marker"] == ["nve3"]


def test_an_nve_that_was_out_of_reach_gets_its_order_when_it_is_back() -> None:
    made = fabric()
    made.disconnect("nve3")
    move = departed(made)
    made.activate(move)
    made.settle()
    assert "nve3" not in [nve for nve, _ in made.orders]
    made.connect("nve3")
    made.settle()
    assert ("nve3", MarkerKind.SEND_MARKER, ()) in orders(made)
    assert not made.expecting


def test_an_expired_entry_is_used_on_until_the_destination_holds() -> None:
    made = with_entries(fabric("pull", keep=True))
    move = departed(made)
    made.activate(move)
    made.settle()
    assert [nve for nve, kind, _ in orders(made) if kind is MarkerKind.SEND_MARKER] == ["nve2"]
    made.orders.clear()
    old = expire(made, "nve3")
    kept = entry(made, "nve3")
    assert kept
    assert kept.actions == old.actions
    assert not kept.hard_s
    made.deliver("nve3", "up")
    assert not made.nves["nve3"].down
    made.settle()
    assert orders(made) == [
        ("nve2", MarkerKind.EXPECT_MARKERS, ("nve3",)),
        ("nve3", MarkerKind.SEND_MARKER, ()),
    ]
    new = entry(made, "nve3")
    assert new
    assert new.actions != old.actions


def test_an_expired_entry_that_leads_nowhere_any_more_is_replaced_at_once() -> None:
    """The tunnel from there has ended, by its timer: no marker could come, and nothing that it
    could order."""
    made = with_entries(fabric("pull", keep=True))
    made.activate(departed(made, timer_s=1))
    made.settle()
    made.orders.clear()
    (ending,) = (rule for _, rule in made.has_timeout() if rule.purpose is Purpose.IN_FLIGHT)
    made.expire("nve1", ending)
    made.settle()
    old = expire(made, "nve3")
    made.settle()
    new = entry(made, "nve3")
    assert new
    assert new.actions != old.actions
    assert new.hard_s
    assert made.orders == []


def test_a_move_has_not_converged_before_the_edge_has_confirmed_its_new_entry() -> None:
    made = with_entries(fabric("pull", keep=True))
    move = departed(made)
    made.activate(move)
    made.settle()
    old = expire(made, "nve3")
    made.deliver("nve3", "up")
    while not made.nves["nve3"].down:
        made.deliver("nve2", "down" if made.nves["nve2"].down else "up")
    kept = entry(made, "nve3")
    assert kept
    assert kept.actions == old.actions
    assert str(move.phase) == Phase.ACTIVATED
    made.settle()
    assert str(move.phase) == Phase.CONVERGED


def test_an_entry_that_is_still_right_is_confirmed() -> None:
    made = with_entries(fabric("pull", keep=True))
    old = expire(made, "nve3")
    made.settle()
    assert entry(made, "nve3") == old
    assert made.orders == []


@pytest.mark.parametrize(("to", "changes"), [("nve4", True), ("nve1", False)])
def test_an_old_entry_that_expires_during_a_move_changes_at_the_arrival(
    to: str, changes: bool
) -> None:
    """nve3 still believes nve1, which is right again if the VM comes back there."""
    made = with_entries(fabric("pull", keep=True))
    made.activate(departed(made))
    made.settle()
    move = departed(made, to)
    old = expire(made, "nve3")
    made.settle()
    kept = entry(made, "nve3")
    assert kept
    assert kept.actions == old.actions
    made.orders.clear()
    made.activate(move)
    made.settle()
    new = entry(made, "nve3")
    assert new
    assert new.hard_s
    assert (new.actions != old.actions) is changes
    assert (("nve3", MarkerKind.SEND_MARKER, ()) in orders(made)) is changes


def test_without_end_markers_nobody_is_ordered_anything() -> None:
    made = fabric(end_markers=False)
    made.move("vm1", "nve2")
    assert made.orders == []
    from_vm3 = entering(frames.ipv4(VM3, VM1.mac), made.port("vm3"))
    assert made.deliveries(from_vm3, "nve3") == (("nve2", made.port("vm1")),)


def test_what_an_agent_says_about_an_earlier_handover_comes_too_late() -> None:
    made = fabric()
    move = departed(made)
    made.activate(move)
    made.settle()
    lines = len(made.trace)
    late = Signal(MarkerKind.RELEASED, 1, SYSTEM)
    made.say("nve2", late)
    made.settle()
    assert len(made.trace) == lines


@pytest.mark.parametrize("expected", [False, True], ids=["not-expecting", "expecting"])
def test_a_destination_that_stays_out_of_reach_is_waited_for_no_longer(*, expected: bool) -> None:
    """It died when a kept entry was to change: before or after it had said that it holds."""
    made = with_entries(fabric("pull", keep=True))
    move = departed(made)
    made.activate(move)
    made.settle()
    old = entry(made, "nve3")
    assert old
    made.expire("nve3", old)
    made.deliver("nve3", "up")
    if expected:
        made.deliver("nve2", "down")
        made.deliver("nve2", "up")
    made.die("nve2")
    made.settle()
    made.ask(made.authority.tick)
    made.now_ns += int((GIVE_UP_S + 1) * SECOND_NS)
    made.ask(made.authority.tick)
    made.settle()
    (in_flight,) = [rule for nve, rule in made.has_timeout() if rule.purpose is Purpose.IN_FLIGHT]
    made.expire("nve1", in_flight)
    made.settle()
    assert move.phase is Phase.COMPLETED
    new = entry(made, "nve3")
    assert new is None or new.actions != old.actions
    (ended,) = [line for line in made.trace if line.event == "paths-changed"][1:]
    assert ended.details == {"nves": ["nve3"], "without_marker": ["nve3"]}
    assert ended.subject == "vm1"


# -- packets from the VM ---------------------------------------------------------------------------


@pytest.mark.parametrize("keep", [False, True], ids=["forget", "keep"])
def test_with_pull_the_vm_need_not_ask_again_at_its_new_place(keep: bool) -> None:
    """What its NVE knew, and who was beside it there, the next one knows before it comes."""
    made = fabric("pull", keep=keep)
    beside = vm("vm4", 4, "nve1")
    made.associate(beside)
    made.send("vm1", frames.ipv4(VM1, VM3.mac))
    made.settle()
    assert VM2.tenant_system not in made.authority.desired.state("nve1").remotes  # never asked for
    departed(made, to="nve4")
    remotes = made.authority.desired.state("nve4").remotes

    assert {system: entry.vtep for system, entry in remotes.items()} == {
        VM3.tenant_system: vteps(4)["nve3"],
        beside.tenant_system: vteps(4)["nve1"],
    }
    assert {entry.lifetime_s for entry in remotes.values()} == {2}


def test_who_is_at_its_new_place_is_no_entry_there() -> None:
    made = fabric("pull")
    made.send("vm1", frames.ipv4(VM1, VM2.mac))
    made.settle()
    departed(made, to="nve2")

    assert VM2.tenant_system not in made.authority.desired.state("nve2").remotes


def test_the_drafts_own_pull_has_the_vm_ask_again() -> None:
    made = fabric("pull", end_markers=False)
    made.send("vm1", frames.ipv4(VM1, VM3.mac))
    made.settle()
    departed(made, to="nve4")

    assert made.authority.desired.state("nve4").remotes == {}
