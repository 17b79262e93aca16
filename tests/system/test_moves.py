"""Hot moves on real parts: what the trace says happened, and what the packets felt."""

from pathlib import Path

import pytest

from experiments.measure.results import Result
from experiments.measure.trace import TraceEvent
from tests.helpers.runs import FLOW_RATE_PPS, probe, recorded, scenario, times_of

THIRD = "vm4>vm1/ipv4"


def lost_of(result: Result) -> dict[str, int]:
    return dict(zip(result.moves["flow"], result.moves["lost"], strict=True))


@pytest.mark.shows(
    "R3.4", "R3.5", "R4.1.2", "R4.1.3", "R4.1.4", "R4.1.6", "R5.1", "R5.2", "R5.5", "R7.0"
)
def test_a_hot_move_with_push_goes_through_its_phases_in_order(tmp_path: Path) -> None:
    wanted = scenario(overlay__mapping_update="push", overlay__hold=True)
    outcome, result = recorded(wanted, tmp_path / "result")

    assert outcome.problems == []
    story = [event.name for event in result.events if event.subject == "vm1"]
    expected = [
        "vm-associated",
        "move-requested",
        "pre-associated",
        "move-accepted",
        "move-prepared",
        "move-redirecting",
        "move-redirected",
        "vm-paused",
        "nic-flipped",
        "announced",
        "vm-resumed",
        "mapping-updated",
        "move-converged",
        "in-flight-ended",
        "move-completed",
        "de-associated",
    ]
    assert [event for event in story if event in expected] == expected
    (mapped,) = (event for event in result.events if event.name == "mapping-updated")
    assert mapped.details["nve"] == "nve2"
    assert {e.details["form"] for e in result.events if e.name == "announcement-received"} == {
        "garp",
        "na",
    }
    (row, *_) = result.moves.to_dict("records")
    assert row["outcome"] == "completed"
    assert row["tunnelled_packets"] > 0
    assert row["packets_via_source_after_convergence"] == 0


@pytest.mark.shows("R3.5", "R5.5")
@pytest.mark.parametrize("stop", ["idle", "timer"])
def test_tunnelling_stops_when_nothing_comes_or_by_a_timer(tmp_path: Path, stop: str) -> None:
    changes = {"overlay__stop": stop, f"overlay__{stop}_s": 1}
    wanted = scenario(overlay__mapping_update="push", overlay__hold=True, **changes)
    outcome, result = recorded(wanted, tmp_path / "result")

    assert outcome.problems == []
    assert [e.details["why"] for e in result.events if e.name == "in-flight-ended"] == [stop]
    assert set(lost_of(result).values()) == {0}
    (row, *_) = result.moves.to_dict("records")
    assert row["in_flight_lifetime_ms"] >= 1000


def ended_and_converged(stop: str, stop_s: int, out: Path) -> tuple[TraceEvent, int]:
    """How forwarding ended, and when nve3, which asks late, had sent its last packet to nve1."""
    pull = {"mapping_update": "pull", "lifetime_s": 3, "hold": True}
    overlay = {**pull, "stop": stop, f"{stop}_s": stop_s}
    outcome, result = recorded(scenario(overlay=overlay, duration_s=8), out)
    assert outcome.problems == []
    (ended,) = (event for event in result.events if event.name == "in-flight-ended")
    assert ended.details["why"] == stop
    assert ended.details["lifetime_ms"] >= 1000 * stop_s
    return ended, times_of(result, "move-converged")[0]


@pytest.mark.shows("R3.5", "R5.5")
def test_a_timer_ends_tunnelling_though_packets_still_come(tmp_path: Path) -> None:
    ended, converged_ns = ended_and_converged("timer", 1, tmp_path / "result")

    assert ended.t_ns < converged_ns
    assert ended.details["packets"] > 0


@pytest.mark.shows("R3.5", "R5.5")
def test_idle_ends_tunnelling_when_no_packet_has_come_for_a_while(tmp_path: Path) -> None:
    ended, converged_ns = ended_and_converged("idle", 2, tmp_path / "result")

    heard_late_s = 0.5  # that nve3 had to ask: a busy NVA writes it down some time after
    assert ended.t_ns - converged_ns >= (2 - heard_late_s) * 1e9


@pytest.mark.shows("R4.1.4", "R5.5")
@pytest.mark.parametrize("stop", ["idle", "timer"])
def test_who_sends_rarely_is_forwarded_for_as_long_as_its_old_entry_lives(
    tmp_path: Path, stop: str
) -> None:
    """It is silent for longer than idle_s between two packets; what a timer costs is said."""
    pull = {"mapping_update": "pull", "lifetime_s": 6, "hold": True}
    flow = {**probe("vm4", "ipv4"), "rate_pps": 0.6}
    overlay = {**pull, "stop": stop, f"{stop}_s": 1}
    wanted = scenario(overlay=overlay, traffic=[flow], duration_s=10)
    outcome, result = recorded(wanted, tmp_path / "result")

    assert outcome.problems == []
    lost = int(result.totals["lost"].sum())
    called = {row["what"]: int(row["packets"]) for row in result.refused}
    assert called == ({"no-longer-forwarded": lost} if lost else {})
    assert bool(lost) == (stop == "timer")


@pytest.mark.shows("R3.1", "R3.2", "R4.1.4", "R5.4")
def test_holding_loses_nothing(tmp_path: Path) -> None:
    """Packets that reach the destination before the VM runs wait there, also for half a second."""
    changes = {"overlay__hold": True, "moves__0__pause_ms": 500}
    outcome, result = recorded(scenario(**changes), tmp_path / "result")

    assert outcome.problems == []
    assert set(lost_of(result).values()) == {0}
    assert set(result.moves["duplicated"]) == {0}


@pytest.mark.shows("R3.4", "R4.1.3", "R4.1.4", "T2")
def test_without_tunnelling_the_loss_is_as_long_as_the_old_entry_lives(tmp_path: Path) -> None:
    """What the draft's MUST is for, told by the run's own trace."""
    pull = {"overlay__mapping_update": "pull", "overlay__lifetime_s": 2, "duration_s": 5}
    moves = [{"at_s": 2.4, "vm": "vm1", "to": "nve2", "pause_ms": 20}]
    lost = {}
    stale_s = 0.0
    for in_flight in ("drop", "tunnel"):
        wanted = scenario(overlay__in_flight=in_flight, moves=moves, **pull)
        outcome, result = recorded(wanted, tmp_path / in_flight)
        assert outcome.problems == []
        assert set(result.moves["packets_via_source_after_convergence"]) == {0}
        lost[in_flight] = lost_of(result)[THIRD]
        if in_flight == "drop":
            redirected_ns = times_of(result, "move-redirected")[0]
            pulled_ns = min(
                event.t_ns
                for event in result.events
                if event.name == "entry-pulled"
                and event.details["nve"] == "nve3"
                and event.t_ns > redirected_ns
            )
            stale_s = (pulled_ns - redirected_ns) / 1e9
    assert lost["drop"] == pytest.approx(stale_s * FLOW_RATE_PPS, rel=0.1)
    assert lost["tunnel"] < lost["drop"] / 2


@pytest.mark.shows("R4.1.1")
def test_tcp_lives_on_through_a_move_and_back(tmp_path: Path) -> None:
    """The connection that was opened before the moves carries data after them."""
    bulk = {"kind": "tcp-bulk", "from": "vm4", "to": "vm1", "rate_mbit": 5}
    moves = [
        {"at_s": 1, "vm": "vm1", "to": "nve2", "pause_ms": 50},
        {"at_s": 4, "vm": "vm1", "to": "nve1", "pause_ms": 50},
    ]
    wanted = scenario(traffic=[bulk], moves=moves, duration_s=7)
    outcome, result = recorded(wanted, tmp_path / "result")

    assert outcome.problems == []
    assert result.throughput is not None
    last_resumed_ns = times_of(result, "vm-resumed")[-1]
    after = result.throughput[result.throughput["t_ns"] > last_resumed_ns + 1e9]
    assert (after["bits_per_second"] > 0).any()


@pytest.mark.shows("R4.1.8")
def test_two_tenants_with_the_same_addresses_do_not_mix(tmp_path: Path) -> None:
    """The second tenant's VMs have the same MACs and IPs, and do not move."""
    tenants = [
        {"vni": 5000, "vms": {"vm1": "nve1", "vm4": "nve3"}},
        {"vni": 6000, "vms": {"red1": "nve1", "red4": "nve3"}},
    ]
    traffic = [
        {"kind": "udp-probe", "from": "vm4", "to": "vm1", "rate_pps": FLOW_RATE_PPS},
        {"kind": "udp-probe", "from": "red4", "to": "red1", "rate_pps": FLOW_RATE_PPS},
    ]
    wanted = scenario(tenants=tenants, traffic=traffic, overlay__hold=True)
    outcome, result = recorded(wanted, tmp_path / "result")

    # A packet that came to the other tenant would be one that no sender of that VM had sent to it.
    assert outcome.problems == []
    packets = result.packets
    assert packets["received_ns"].notna().all()
    assert (packets["copies"] == 1).all()


@pytest.mark.shows("R4.1.7", "R5.3")
@pytest.mark.parametrize("topology", ["star", "leaf-spine", "two-site"])
def test_a_move_in_every_topology(tmp_path: Path, topology: str) -> None:
    """In leaf-spine and two-site, source and destination are in different subnets."""
    settings = {"topology": {"kind": topology}, "overlay__hold": True, "duration_s": 3}
    outcome, result = recorded(scenario(**settings), tmp_path / "result")

    assert outcome.problems == []
    assert set(lost_of(result).values()) == {0}


@pytest.mark.shows("R4.1.4", "R5.3")
def test_over_an_ipv6_underlay(tmp_path: Path) -> None:
    settings = {"topology__underlay": "ipv6", "overlay__hold": True, "duration_s": 3}
    outcome, result = recorded(scenario(**settings), tmp_path / "result")

    assert outcome.problems == []
    assert result.manifest["tenant_mtu"] == 1430
    assert set(lost_of(result).values()) == {0}


def test_two_runs_with_one_seed_tell_the_same_story(tmp_path: Path) -> None:
    stories = []
    for number in range(2):
        _, result = recorded(scenario(duration_s=2), tmp_path / str(number))
        stories.append(story_of(result))
    assert stories[0] == stories[1]


def story_of(result: Result) -> list[tuple[str, str, str]]:
    """The move's events in order, by source: two processes that act at the same time may differ in
    which of them is first, by microseconds, but each tells the same story."""
    told = [(e.source, e.name, e.subject) for e in result.events if "move" in e.details]
    return sorted(told, key=lambda line: line[0])


@pytest.mark.shows("T1", "T6")
@pytest.mark.ryu
def test_the_same_application_moves_a_vm_under_ryu(tmp_path: Path) -> None:
    """Ryu 4.34 itself, in its own virtual environment."""
    wanted = scenario(overlay__hold=True, overlay__framework="ryu")
    outcome, result = recorded(wanted, tmp_path / "result")

    assert outcome.problems == []
    assert result.manifest["framework"] == "ryu 4.34"
    assert set(lost_of(result).values()) == {0}
    assert set(result.moves["outcome"]) == {"completed"}
