"""What a scenario may say about failures, and that each of them has its outcome."""

from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError

from experiments import overlays
from experiments.overlays.nvo3 import FAULTS, NVA_DIES
from experiments.scenario.failures import (
    OF_ONE_NVE,
    ONLY_OF_TRANSFERS,
    SAYS,
    WITHOUT_STATE,
    Failure,
    FailureKind,
    Moment,
    contradictions,
    outcomes_with,
    transfer_outcomes_with,
)

NVES = ("nve1", "nve2", "nve3")
OVERLAY = overlays.get("nvo3")
ALL_OUTCOMES = outcomes_with(FAULTS)
REMAINING = "there are nve-dies, server-full, underlay-lossy, underlay-partition"
GOOD: dict[str, dict[str, Any]] = {
    FailureKind.NVE_DIES: {"nve": "source"},
    NVA_DIES: {"for_s": 3},
    FailureKind.CONTROL_CUT: {"nve": "nve2", "for_s": 10},
    FailureKind.CONTROL_SLOW: {"for_s": 3, "delay_ms": 100},
    FailureKind.CONTROL_LOSSY: {"for_s": 3, "loss_pct": 10},
    FailureKind.UNDERLAY_PARTITION: {"nve": "destination", "for_s": 1},
    FailureKind.UNDERLAY_LOSSY: {"nve": "source", "for_s": 1, "loss_pct": 90},
    FailureKind.SERVER_FULL: {"nve": "destination", "for_s": 1},
}


def failure(kind: str, **changes: Any) -> Failure:
    content = {"kind": kind, "during": "prepared", **GOOD[kind], **changes}
    return Failure.model_validate(
        {key: value for key, value in content.items() if value is not None}
    )


@pytest.mark.parametrize("kind", GOOD)
def test_each_kind_can_be_said_and_read_again(kind: str) -> None:
    said = failure(kind)

    assert Failure.model_validate(said.model_dump(mode="json")) == said


@pytest.mark.parametrize(
    ("kind", "changes", "remedy"),
    [
        (FailureKind.NVE_DIES, {"during": None}, "either during: a moment of a move, or at_s"),
        (FailureKind.NVE_DIES, {"at_s": 1}, "either during: a moment of a move, or at_s"),
        (FailureKind.NVE_DIES, {"nve": None}, "say which NVE it concerns"),
        (FailureKind.NVE_DIES, {"nve": "all"}, "say which NVE it concerns"),
        (FailureKind.NVE_DIES, {"during": None, "at_s": 1}, "name the NVE"),
        (FailureKind.NVE_DIES, {"during": "soon"}, "'requested', 'prepared'"),
        (FailureKind.NVE_DIES, {"delay_ms": 5}, "delay_ms is of control-slow"),
        (NVA_DIES, {"nve": "nve1"}, "leave nve out"),
        (NVA_DIES, {"for_s": None}, "for_s"),
        (FailureKind.CONTROL_SLOW, {"nve": "nve1"}, "leave nve out"),
        (FailureKind.CONTROL_SLOW, {"delay_ms": None}, "say how much: delay_ms"),
        (FailureKind.CONTROL_LOSSY, {"loss_pct": None}, "say how much: loss_pct"),
        (FailureKind.CONTROL_LOSSY, {"loss_pct": 101}, "less than or equal to 100"),
        (FailureKind.UNDERLAY_LOSSY, {"loss_pct": None}, "say how much: loss_pct"),
        (FailureKind.NVE_DIES, {"loss_pct": 5}, "loss_pct is of control-lossy and underlay-lossy"),
        (FailureKind.CONTROL_CUT, {"for_s": 0}, "greater than 0"),
        (FailureKind.CONTROL_CUT, {"how": "gently"}, "Extra inputs are not permitted"),
    ],
)
def test_a_mistake_is_a_sentence_with_the_remedy(
    kind: str, changes: dict[str, Any], remedy: str
) -> None:
    with pytest.raises(ValidationError, match=remedy):
        failure(kind, **changes)


@pytest.mark.parametrize(
    ("given", "place", "remedy"),
    [
        (failure(FailureKind.NVE_DIES, nve="nve9"), "failures.0.nve", "there are nve1, nve2, nve3"),
        (failure(FailureKind.NVE_DIES, move=2), "failures.0.move", "there are 1"),
        (failure(NVA_DIES, during="copying"), "failures.0.during", "give its VM a guest, or name"),
        (failure(NVA_DIES, during=None, at_s=9), "failures.0.at_s", "raise duration_s"),
        (failure(FailureKind.CONTROL_SLOW), "failures.0.kind", "control: {delay_ms: 1}"),
    ],
)
def test_what_does_not_fit_the_scenario_is_said(given: Failure, place: str, remedy: str) -> None:
    ((where, complaint),) = contradictions(
        [given], NVES, overlay=OVERLAY, moves=1, duration_s=5, control_delays=False
    )

    assert where == place
    assert remedy in complaint


def test_what_fits_is_not_complained_about() -> None:
    given = [failure(kind) for kind in GOOD]

    assert not list(
        contradictions(given, NVES, overlay=OVERLAY, moves=1, duration_s=5, control_delays=True)
    )


def test_an_overlay_without_a_control_node_has_no_failures_of_one() -> None:
    bare = replace(OVERLAY, kind="bare", control_node=None, faults={})
    given = [failure(kind) for kind in (NVA_DIES, FailureKind.CONTROL_CUT, FailureKind.NVE_DIES)]
    found = list(
        contradictions(given, NVES, overlay=bare, moves=1, duration_s=5, control_delays=True)
    )

    assert found == [
        ("failures.0.kind", f"there is no failure of bare 'nva-dies'; {REMAINING}"),
        ("failures.1.kind", f"there is no failure of bare 'control-cut'; {REMAINING}"),
    ]


def test_the_source_and_the_destination_are_those_of_the_move() -> None:
    assert failure(FailureKind.NVE_DIES).concerned(NVES, "nve3", "nve1") == ["nve3"]
    assert failure(FailureKind.UNDERLAY_PARTITION).concerned(NVES, "nve3", "nve1") == ["nve1"]
    assert failure(FailureKind.CONTROL_CUT).concerned(NVES, "nve3", "nve1") == ["nve2"]
    assert failure(FailureKind.CONTROL_LOSSY).concerned(NVES) == list(NVES)


def test_every_failure_has_an_outcome_at_every_moment() -> None:
    kinds = {*FailureKind, NVA_DIES}
    assert kinds == {*SAYS, *FAULTS}
    assert {kind for kind, _ in ALL_OUTCOMES} == kinds - ONLY_OF_TRANSFERS
    assert {kind for kind, _ in transfer_outcomes_with(FAULTS)} >= ONLY_OF_TRANSFERS
    assert all(tuple(outcomes) == WITHOUT_STATE for outcomes in ALL_OUTCOMES.values())
    with_state = transfer_outcomes_with(FAULTS).values()
    assert all(list(outcomes) == list(Moment) for outcomes in with_state)


def test_no_failure_of_the_control_plane_rolls_a_move_back() -> None:
    """Only the loss of a server does: a VM must not be where it cannot be reached."""
    rolled_back = {
        (kind, place)
        for (kind, place), outcomes in ALL_OUTCOMES.items()
        if any(outcome.ending == "rolled back" for outcome in outcomes.values())
    }

    assert rolled_back == {(FailureKind.NVE_DIES, "source"), (FailureKind.NVE_DIES, "destination")}
    assert {kind for kind, _ in rolled_back} <= OF_ONE_NVE
