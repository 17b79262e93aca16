"""Nothing lost, nothing twice, nothing overtaken: holding and end markers on real parts.

The underlay is one where overtaking is certain without markers: two sites, 10 ms apart, and the VM
moves from one to the other.  What a correspondent sent by way of the source NVE is still on its way
when the next packets take the direct path.
"""

from pathlib import Path
from typing import Any

import pytest

from experiments.measure.results import Result
from tests.helpers.runs import probe, recorded, scenario

FAR = {"kind": "two-site", "nves_per_site": 2, "link": {"delay_ms": 0.2}, "wan": {"delay_ms": 10}}
MARKED = {"overlay__hold": True, "overlay__end_marker": True}
KEPT = {"overlay__mapping_update": "pull", "overlay__lifetime_s": 2, "overlay__on_expiry": "keep"}
UNHURT = {"lost": 0, "duplicated": 0, "reordered": 0}


def two_sites(**changes: Any) -> Any:
    """vm1 moves to the other site; correspondents on its source, its destination and a third."""
    vms = {"vm1": "nve1", "vm2": "nve1", "vm3": "nve3", "vm4": "nve2", "vm5": "nve4"}
    ends = [("vm2", "ipv4"), ("vm3", "ipv6"), ("vm4", "ipv4"), ("vm5", "ipv6")]
    flows = [probe(*each) for each in ends]
    moves = [{"at_s": 1, "vm": "vm1", "to": "nve3", "pause_ms": 20}]
    fixed = {"topology": FAR, "tenants": [{"vni": 5000, "vms": vms}], "traffic": flows}
    return scenario(**{**fixed, "moves": moves, "duration_s": 6, **changes})


def hurt(result: Result) -> dict[str, int]:
    """What happened to the packets of the whole run, all flows together."""
    return {what: int(result.totals[what].sum()) for what in UNHURT}


def markers(result: Result) -> list[dict[str, Any]]:
    return [dict(each.details) for each in result.events if each.name == "paths-changed"]


@pytest.mark.shows("R4.1.4", "R5.4")
def test_without_markers_packets_on_the_new_path_overtake_those_on_the_old(tmp_path: Path) -> None:
    """The draft's own mechanism, with holding: this is what the markers are for."""
    outcome, result = recorded(two_sites(overlay__hold=True), tmp_path / "result")
    assert outcome.problems == []
    assert hurt(result)["reordered"] > 0
    assert {**hurt(result), "reordered": 0} == UNHURT


@pytest.mark.shows("R3.1", "R3.2", "R4.1.4", "R4.1.7", "R5.4")
@pytest.mark.parametrize("update", [{}, KEPT], ids=["push", "pull"])
def test_with_markers_nothing_is_overtaken(tmp_path: Path, update: dict[str, Any]) -> None:
    outcome, result = recorded(two_sites(**MARKED, **update), tmp_path / "result")
    assert outcome.problems == []
    assert hurt(result) == UNHURT
    assert result.refused == [], "the VM sends by its plug alone, agents what they may"
    told = [nve for each in markers(result) for nve in each["nves"]]
    assert {"nve2", "nve3", "nve4"} <= set(told)
    assert [each["without_marker"] for each in markers(result)] == [[]] * len(markers(result))


def test_with_markers_nothing_that_the_vm_sends_is_overtaken(tmp_path: Path) -> None:
    """What it sends behind nve3 is held there for as long as its last packets from nve1 need, 60 ms
    between the sites, part of which it stands still; else the first would be at vm3, vm5 before
    those.  It runs meanwhile."""
    ends = [("vm2", "ipv4"), ("vm3", "ipv6"), ("vm4", "ipv4"), ("vm5", "ipv4")]
    flows = [probe("vm1", family, to) for to, family in ends]
    moves = [{"at_s": 1, "vm": "vm1", "to": "nve3", "pause_ms": 0}]
    sent = {"traffic": flows, "moves": moves, "topology__wan__delay_ms": 60}
    outcome, result = recorded(two_sites(**MARKED, **sent), tmp_path / "marked")
    assert outcome.problems == []
    assert hurt(result) == UNHURT
    (passed,) = [each for each in result.events if each.name == "last-packets-passed"]
    assert passed.details["nves"] == ["nve2", "nve3", "nve4"]
    (released,) = [each for each in result.events if each.name == "outbound-released"]
    assert released.details["held_ms"] + result.moves["pause_ms"].max() > 60
    assert released.details["packets"] > 0
    assert released.details["overflow"] == 0
    assert result.moves["pause_ms"].max() < released.details["held_ms"]
    not_awaited = two_sites(**MARKED, overlay__await_last_packets=False, **sent)
    _, hurried = recorded(not_awaited, tmp_path / "hurried")
    assert {**hurt(hurried), "reordered": 0} == UNHURT
    assert hurt(hurried)["reordered"] > 0
    assert [each for each in hurried.events if each.name == "outbound-released"] == []


def test_a_move_and_back_with_markers(tmp_path: Path) -> None:
    """Back before the first move's in-flight tunnel has ended; IPv6 underlay."""
    moves = [
        {"at_s": 1, "vm": "vm1", "to": "nve3", "pause_ms": 0},
        {"at_s": 2, "vm": "vm1", "to": "nve1", "pause_ms": 100},
    ]
    topology = {**FAR, "underlay": "ipv6"}
    wanted = two_sites(**MARKED, moves=moves, topology=topology, overlay__idle_s=3, duration_s=6)
    outcome, result = recorded(wanted, tmp_path / "result")
    assert outcome.problems == []
    assert hurt(result) == UNHURT


def test_a_marker_that_cannot_come_costs_order_and_no_packet(tmp_path: Path) -> None:
    """The time-out is shorter than the way of the markers between the sites, in both directions."""
    flows = [probe("vm4", "ipv4"), probe("vm5", "ipv6"), probe("vm1", "ipv4", "vm2")]
    slow = {"overlay__end_marker_s": 0.005, "topology__wan__delay_ms": 200}
    wanted = two_sites(**MARKED, **slow, traffic=flows)
    outcome, result = recorded(wanted, tmp_path / "result")
    assert outcome.problems == []
    (not_awaited,) = [each for each in result.events if each.name == "last-packets-not-awaited"]
    assert "nve3" in not_awaited.details["nves"]
    (changed,) = markers(result)
    assert changed["without_marker"] != []
    assert {**hurt(result), "reordered": 0} == UNHURT


def test_what_waits_is_bounded_in_packets_and_the_rest_is_counted(tmp_path: Path) -> None:
    bounds = {"overlay__hold_packets": 20, "moves__0__pause_ms": 500}
    outcome, result = recorded(two_sites(**MARKED, **bounds), tmp_path / "result")
    assert outcome.problems == []
    (left,) = (each for each in result.events if each.name == "de-associated")
    assert hurt(result)["lost"] == left.details["hold_overflow"] > 0


def test_what_waits_too_long_is_given_up_and_counted(tmp_path: Path) -> None:
    bounds = {"overlay__hold_s": 0.5, "moves__0__pause_ms": 1000}
    outcome, result = recorded(two_sites(**MARKED, **bounds), tmp_path / "result")
    assert outcome.problems == []
    assert [each.name for each in result.events if each.name == "hold-given-up"]
    (left,) = (each for each in result.events if each.name == "de-associated")
    assert hurt(result)["lost"] == left.details["hold_overflow"] > 0
