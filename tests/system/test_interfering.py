"""Moves that interfere, on real parts: leftovers of one move while the next goes on.

The scenario `interfering` at low rates.  Nothing is said about time here: other work on the machine
may stretch a move, but may not lose, duplicate or reorder a packet.  Packets are 5 ms apart, and
the ways 20 ms different: without end markers, some of the VMs that stay overtake their own.
"""

from pathlib import Path
from typing import Any

import pytest

from experiments.measure.results import Result
from experiments.measure.totals import DAMAGE, of_run
from experiments.scenario.schema import Scenario
from tests.helpers.runs import END_MARKER_S, packaged, recorded, times_of

SLOWLY = {"traffic.*.rate_pps": 200, "overlay.end_marker_s": END_MARKER_S}


def variant(name: str, **changes: Any) -> Scenario:
    return packaged("interfering", name, {**SLOWLY, **changes})


def harm(result: Result) -> dict[str, int]:
    """To the packets of the whole run, all flows together."""
    return {what: int(result.totals[what].sum()) for what in DAMAGE}


def moved(name: str, out: Path, **changes: Any) -> Result:
    """A variant's result.  It is valid, nothing is harmed, and no triangle is left (R3.4): of the
    last move that is counted at least, for nothing follows it."""
    outcome, result = recorded(variant(name, **changes), out)
    assert outcome.problems == []
    assert harm(result) == dict.fromkeys(DAMAGE, 0)
    run = of_run(result.totals, result.metrics)
    assert run.via_source_counted > 0
    assert run.packets_via_source_after_convergence == 0
    return result


def outcomes(result: Result) -> list[str]:
    return list(result.metrics.drop_duplicates("move")["outcome"])


@pytest.mark.shows("R3.4", "R3.5", "R4.1.4")
def test_a_vm_that_comes_back_at_once(tmp_path: Path) -> None:
    result = moved("back-at-once", tmp_path / "result")

    assert outcomes(result) == ["completed", "completed"]
    first, second = times_of(result, "move-requested")
    assert times_of(result, "in-flight-ended")[0] > second > first, "the moves do not interfere"


@pytest.mark.shows("R3.4", "R3.5", "R4.1.3", "R4.1.4")
def test_a_vm_that_goes_on_before_old_entries_have_timed_out(tmp_path: Path) -> None:
    patient = {"overlay.lifetime_s": 8, "duration_s": 13}  # a busy machine moves late
    result = moved("chain", tmp_path / "result", **patient)

    assert outcomes(result) == ["completed"] * 3
    assert times_of(result, "move-converged")[0] > times_of(result, "move-requested")[-1]


@pytest.mark.shows("R4.1.4", "R7.0")
def test_ten_vms_at_once(tmp_path: Path) -> None:
    result = moved("ten-at-once", tmp_path / "result")

    assert outcomes(result) == ["completed"] * 10
    assert max(times_of(result, "move-requested")) < min(times_of(result, "move-completed"))


@pytest.mark.shows("R4.1.1", "R4.1.4")
def test_two_vms_that_talk_to_each_other_both_move(tmp_path: Path) -> None:
    result = moved("each-other", tmp_path / "result", duration_s=10)

    assert outcomes(result) == ["completed"] * 6
    assert result.throughput is not None
    last_resumed_ns = times_of(result, "vm-resumed")[-1]
    after = result.throughput[result.throughput["t_ns"] > last_resumed_ns + 1e9]
    assert (after["bits_per_second"] > 0).any(), "their connection lives on"


@pytest.mark.shows("R7.0")
def test_a_vm_that_is_being_moved_is_not_moved_again(tmp_path: Path) -> None:
    result = moved("moved-twice", tmp_path / "result")

    assert outcomes(result) == ["completed", "refused", "completed"]
    assert [event.details["to"] for event in result.events if event.name == "move-accepted"] == [
        "nve2",
        "nve3",
    ]


@pytest.mark.parametrize("name", ["back-at-once", "ten-at-once", "each-other"])
def test_without_end_markers_the_same_moves_reorder(tmp_path: Path, name: str) -> None:
    """Otherwise the others would show nothing about order."""
    outcome, result = recorded(variant(name, **{"overlay.end_marker": False}), tmp_path / "result")

    assert outcome.problems == []
    assert harm(result)["reordered"] > 0


def test_a_refusal_that_does_not_come_is_a_problem(tmp_path: Path) -> None:
    """Nothing refuses a move once the VM has arrived; a scenario file could not even say so."""
    wanted = variant("moved-twice")
    _, _, last = wanted.moves
    unexpected = last.model_copy(update={"expect": "refused", "at_s": 1})
    outcome, _ = recorded(
        wanted.model_copy(update={"moves": [unexpected], "duration_s": 2}), tmp_path / "result"
    )

    assert outcome.problems == ["move 1 of vm1 was not refused"]
