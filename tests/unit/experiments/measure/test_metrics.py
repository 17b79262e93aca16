"""What a move did, from packets and events made by hand."""

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.measure import metrics
from experiments.measure.attribution import FlowEndpoints, place_of, settled_ns
from experiments.measure.metrics import table
from experiments.measure.trace import TraceEvent, moves_of
from tests.helpers.packets import MS, START_NS, packets

HOMES = {"vm1": "nve1", "vm2": "nve3", "vm3": "nve2"}
TO, FROM, REFERENCE = "vm2>vm1/ipv4", "vm1>vm2/ipv4", "vm2>vm3/ipv4"


def event(at_ms, name, subject="vm1", **details):
    return TraceEvent(START_NS + round(at_ms * MS), "nva", name, subject, details)


def a_move(at_ms, number=1, source="nve1", destination="nve2", vm="vm1"):
    """Requested at `at_ms`, paused 2 ms later for 10 ms; nve3 pulls 20 ms after the resume."""
    return [
        event(at_ms, "move-requested", vm, move=number, **{"from": source, "to": destination}),
        event(at_ms + 2, "vm-paused", vm, move=number),
        event(at_ms + 12, "vm-resumed", vm, move=number),
        event(at_ms + 32, "entry-pulled", vm, move=number, nve="nve3"),
        event(at_ms + 33, "move-converged", vm, move=number),
        event(
            at_ms + 40, "in-flight-ended", vm, move=number, packets=7, bytes=700, lifetime_ms=38.0
        ),
        event(
            at_ms + 50, "move-completed", vm, move=number, packets_via_source_after_convergence=0
        ),
    ]


def lossy(count, lost, delay_ms=1.0):
    return [None if seq in lost else delay_ms for seq in range(count)]


def row(frame, move, flow):
    [found] = frame[(frame["move"] == move) & (frame["flow"] == flow)].to_dict("records")
    return found


def test_a_flow_to_the_vm_that_loses_its_pause_and_its_stale_time():
    measured = table(packets(lossy(200, range(102, 132))), a_move(100), HOMES)
    felt = row(measured, 1, TO)
    assert (felt["role"], felt["correspondent_nve"]) == ("to", "nve3")
    assert (felt["sent"], felt["lost"], felt["duplicated"], felt["reordered"]) == (100, 30, 0, 0)
    assert felt["loss_derived_ms"] == pytest.approx(30)
    assert felt["blackout_ms"] == pytest.approx(30)
    assert felt["recovery_ms"] == pytest.approx(20), "133 - 112 - the interval"
    assert felt["stale_ms"] == pytest.approx(20)
    assert felt["sender_gap_ms"] == 0


def test_what_the_move_itself_took():
    felt = row(table(packets(lossy(200, [])), a_move(100), HOMES), 1, TO)
    assert felt["pause_ms"] == pytest.approx(10)
    assert felt["request_to_completion_ms"] == pytest.approx(50)
    assert felt["convergence_ms"] == pytest.approx(21)
    assert (felt["tunnelled_packets"], felt["tunnelled_bytes"]) == (7, 700)
    assert felt["in_flight_lifetime_ms"] == pytest.approx(38)
    assert felt["packets_via_source_after_convergence"] == 0
    assert felt["outcome"] == "completed"


def test_what_the_transfer_of_state_took():
    story = [
        *a_move(100),
        event(101, "transfer-connected", move=1, transfer="pre-copy", state_bytes=4096),
        event(104, "transfer-rounds-ended", move=1, why="forced", iterations=3, sent_bytes=9000),
        event(107, "transfer-finished", move=1, final_bytes=50, final_ms=2.5, transfer_bytes=9050),
        event(130, "state-verified", move=1, equal=True, memory="aa"),
    ]
    felt = row(table(packets(lossy(200, [])), story, HOMES), 1, TO)
    assert (felt["transfer"], felt["transfer_end"]) == ("pre-copy", "forced")
    assert (felt["transfer_iterations"], felt["transfer_bytes"]) == (3, 9050)
    assert (felt["transfer_final_bytes"], felt["transfer_final_ms"]) == (50, 2.5)
    assert felt["transfer_total_ms"] == pytest.approx(11)
    assert felt["state_bytes"] == 4096
    assert felt["state_equal"]
    without = row(table(packets(lossy(200, [])), a_move(100), HOMES), 1, TO)
    assert pd.isna(without["transfer_total_ms"])
    assert without["state_equal"] is None


def test_phases_of_delay():
    delays = [1.0] * 100 + [3.0] * 33 + [2.0] * 67
    felt = row(table(packets(delays), a_move(100), HOMES), 1, TO)
    assert felt["delay_before_p50_ms"] == pytest.approx(1)
    assert felt["delay_during_p50_ms"] == pytest.approx(3)
    assert felt["delay_after_max_ms"] == pytest.approx(2)


def test_a_flow_from_the_vm_has_nothing_to_recover_from_but_its_own_delay():
    """The VM sends nothing while it is paused, and its first packet after that is in time."""
    sent = packets([1.0] * 200, flow=FROM)
    sent = sent[(sent["seq"] < 102) | (sent["seq"] >= 112)]
    felt = row(table(sent, a_move(100), HOMES), 1, FROM)
    assert (felt["role"], felt["lost"], felt["recovery_ms"]) == ("from", 0, 0)
    assert felt["sender_gap_ms"] == pytest.approx(10)
    assert felt["stale_ms"] is None


def test_a_flow_that_no_move_touches_is_a_reference_for_every_move():
    run = pd.concat([packets([1.0] * 400), packets([1.0] * 400, flow=REFERENCE)])
    events = a_move(100) + a_move(200, 2, "nve2", "nve1")
    measured = table(run, events, HOMES)
    assert row(measured, 1, REFERENCE)["role"] == "reference"
    assert pd.isna(row(measured, 1, REFERENCE)["recovery_ms"])
    assert row(measured, 2, REFERENCE)["sent"] == 200
    assert len(measured) == 4


def test_a_move_of_another_vm_does_not_take_over_a_flows_losses():
    """vm3 moves while vm1 does; what is lost on the way to vm1 stays vm1's move's."""
    events = a_move(100) + a_move(105, 2, "nve2", "nve1", vm="vm3")
    measured = table(packets(lossy(200, range(102, 132))), events, HOMES)
    assert measured["flow"].fillna("").tolist() == [TO, ""]  # no flow feels the other move
    assert row(measured, 1, TO)["lost"] == 30


def test_a_correspondents_place_follows_its_own_moves():
    moves = moves_of(a_move(0, 1, "nve3", "nve1", vm="vm2") + a_move(100, 2))
    assert place_of("vm2", moves[0], moves, HOMES) == "nve3"
    assert place_of("vm2", moves[1], moves, HOMES) == "nve1"
    assert place_of("vm9", moves[1], moves, HOMES) is None


def test_a_packet_later_than_the_waiting_time_is_lost():
    delays = [1.0] * 110 + [500.0] + [1.0] * 89
    felt = row(table(packets(delays), a_move(100), HOMES, waiting_time_s=0.4), 1, TO)
    assert (felt["lost"], felt["late"]) == (1, 1)


def test_no_packets_no_moves():
    assert list(table(packets([]), [], HOMES).columns) == metrics.COLUMNS
    unfelt = table(packets([]), a_move(100), HOMES)
    assert unfelt[["move", "sent"]].to_numpy().tolist() == [[1, 0]]
    assert unfelt["flow"].isna().all()
    assert table(packets([1.0] * 10), [], HOMES).empty


def test_everything_lost_after_the_request():
    felt = row(table(packets(lossy(200, range(100, 200))), a_move(100), HOMES), 1, TO)
    assert felt["lost"] == 100
    assert felt["recovery_ms"] is None
    assert felt["delay_during_p50_ms"] is None
    assert felt["blackout_ms"] == pytest.approx(98, abs=1), "a lower bound: to the last sent"


def test_a_move_that_failed_before_anything_happened():
    events = [
        event(100, "move-requested", move=1, **{"from": "nve1", "to": "nve2"}),
        event(101, "move-failed", move=1),
    ]
    felt = row(table(packets([1.0] * 200), events, HOMES), 1, TO)
    assert felt["outcome"] == "failed"
    assert (felt["pause_ms"], felt["recovery_ms"], felt["tunnelled_packets"]) == (None, None, None)


@pytest.mark.parametrize(
    ("flow", "vm", "role", "correspondent"),
    [
        ("vm3>vm1/ipv4", "vm1", "to", "vm3"),
        ("vm1>vm3/ipv6", "vm1", "from", "vm3"),
        ("vm2>vm3/ipv6#2", "vm1", "reference", "vm2"),
    ],
)
def test_roles(flow, vm, role, correspondent):
    ends = FlowEndpoints.of(flow)
    assert ends.role_in_move_of(vm) == role
    assert ends.correspondent_of(vm) == correspondent
    assert ends.family in ("ipv4", "ipv6")


@given(
    lost=st.sets(st.integers(0, 299)),
    requests=st.lists(st.integers(0, 320), min_size=1, max_size=4, unique=True),
)
def test_every_lost_packet_after_the_first_request_is_counted_exactly_once(lost, requests):
    events = [
        event(at_ms, "move-requested", move=number)
        for number, at_ms in enumerate(sorted(requests), start=1)
    ]
    measured = table(packets(lossy(300, lost)), events, HOMES)
    expected = {seq for seq in lost if seq >= min(requests)}
    assert measured["lost"].sum() == len(expected)
    assert measured["sent"].sum() == max(0, 300 - min(requests))


def test_what_an_nve_pulls_before_the_move_is_recorded_does_not_end_its_staleness():
    events = [
        *a_move(100),
        event(105, "entry-pulled", move=1, nve="nve3"),
        event(114, "mapping-updated", move=1),
    ]
    felt = row(table(packets([1.0] * 200), events, HOMES), 1, TO)
    assert felt["stale_ms"] == pytest.approx(20)


def test_an_nve_that_is_told_is_not_stale_after_that():
    events = [*a_move(100), event(117, "mapping-confirmed", move=1, nves=["nve1", "nve3"])]
    felt = row(table(packets([1.0] * 200), events, HOMES), 1, TO)
    assert felt["stale_ms"] == pytest.approx(5)


def learned(at_ms, nve, at):
    return event(at_ms, "entry-learned", nve=nve, at=at)


def test_an_nve_that_learns_the_new_place_is_stale_until_then():
    """Also where it has heard the announcement before the guest runs; and what it learns of the old
    place does not count."""
    quiet = [each for each in a_move(100) if each.name not in ("entry-pulled", "move-converged")]
    later = [*quiet, learned(105, "nve3", "nve1"), learned(117, "nve3", "nve2")]
    felt = row(table(packets([1.0] * 200), later, HOMES), 1, TO)
    assert felt["stale_ms"] == pytest.approx(5)

    before = [*quiet, learned(111.9, "nve3", "nve2"), event(111.95, "move-converged", move=1)]
    felt = row(table(packets([1.0] * 200), before, HOMES), 1, TO)
    assert (felt["stale_ms"], felt["convergence_ms"]) == (0, 0)


def test_an_nve_that_has_forgotten_the_old_place_is_not_stale():
    quiet = [each for each in a_move(100) if each.name not in ("entry-pulled", "move-converged")]
    felt = row(
        table(packets([1.0] * 200), [*quiet, event(142, "entry-forgotten", nve="nve3")], HOMES),
        1,
        TO,
    )
    assert felt["stale_ms"] == pytest.approx(30)
    assert pd.isna(felt["convergence_ms"])


def test_entries_that_are_pulled_again_later_do_not_prolong_the_move():
    events = [*a_move(100), event(190, "entry-pulled", nve="nve3")]
    [move] = moves_of(events)
    assert settled_ns(move) == START_NS + 133 * MS


def test_without_a_word_on_convergence_the_last_step_settles_a_move():
    events = [each for each in a_move(100) if each.name != "move-converged"]
    [move] = moves_of(events)
    assert settled_ns(move) == START_NS + 132 * MS


def test_what_the_source_nve_drops_is_not_tunnelled():
    events = [
        *a_move(100),
        event(110, "in-flight-before-arrival", move=1, packets=2, bytes=200),
        event(141, "in-flight-ended", move=1, packets=5, bytes=500, purpose="departed"),
    ]
    events = [each for each in events if each.details.get("packets") != 7]
    felt = row(table(packets([1.0] * 200), events, HOMES), 1, TO)
    assert (felt["tunnelled_packets"], felt["dropped_at_source_packets"]) == (0, 7)
