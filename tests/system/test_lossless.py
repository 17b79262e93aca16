"""The scenario `lossless` as it comes with vmmlab, with six of its moves.

The rates are low, but packets are less apart than their ways differ: what may overtake, does.  Six
moves are each pause in both directions and every announcement, one of them lost on its way.  Other
work on the machine may stretch a move, but may not lose, duplicate or reorder a packet.
"""

from pathlib import Path
from typing import Any

import pytest

from experiments.measure.results import Result
from experiments.measure.totals import DAMAGE
from tests.helpers.runs import END_MARKER_S, packaged, recorded

MOVES = 6
SHORT = {"moves.0.series": MOVES, "duration_s": 11, "overlay.end_marker_s": END_MARKER_S}
TO_VM_PPS = 400
"""Its ways differ by 4 ms."""
FROM_VM_PPS = 1000
"""By 1.5 ms."""


def carried_out(variant: str, out: Path, rate_pps: int = TO_VM_PPS) -> Result:
    """A variant's result: it is valid, and every move was completed."""
    wanted = packaged("lossless", variant, {**SHORT, "traffic.*.rate_pps": rate_pps})
    outcome, result = recorded(wanted, out)
    assert outcome.problems == []
    assert list(result.metrics.drop_duplicates("move")["outcome"]) == ["completed"] * MOVES
    return result


def harm(result: Result) -> dict[str, int]:
    """To the packets of the whole run, all flows together."""
    return {what: int(result.totals[what].sum()) for what in DAMAGE}


def details_of(result: Result, event: str) -> list[dict[str, Any]]:
    return [dict(each.details) for each in result.events if each.name == event]


@pytest.mark.shows("R3.1", "R3.2", "R4.1.3", "R4.1.4", "R5.4", "R7.0")
@pytest.mark.parametrize("variant", ["push", "pull"])
def test_nothing_is_harmed_whatever_the_announcement_does(tmp_path: Path, variant: str) -> None:
    result = carried_out(variant, tmp_path / "result")

    assert harm(result) == dict.fromkeys(DAMAGE, 0)
    changed = details_of(result, "paths-changed")
    assert len(changed) >= MOVES, "with pull, once for each NVE that had to ask"
    assert [each for each in changed if each["without_marker"]] == []
    assert len(details_of(result, "announcement-lost")) == 1


@pytest.mark.shows("R3.1", "R3.2", "R7.0")
def test_nothing_that_the_vm_sends_is_harmed(tmp_path: Path) -> None:
    result = carried_out("from-vm1", tmp_path / "result", FROM_VM_PPS)

    assert harm(result) == dict.fromkeys(DAMAGE, 0)
    assert details_of(result, "last-packets-not-awaited") == []
    passed = details_of(result, "last-packets-passed")
    there, back = ["nve2", "nve3"], ["nve1", "nve3"]
    assert [each["nves"] for each in passed] == [there, back] * (MOVES // 2)


@pytest.mark.shows("R4.1.4")
def test_the_drafts_plain_behaviour_loses_and_reorders_there(tmp_path: Path) -> None:
    """Otherwise the others would show nothing."""
    harmed = harm(carried_out("plain", tmp_path / "result"))

    assert harmed["lost"] > 0
    assert harmed["reordered"] > 0
