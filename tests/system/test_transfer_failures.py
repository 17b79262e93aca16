"""Something fails while a VM's state is brought over: what comes of it is what the table says.

A part of the pairs of `TRANSFER_OUTCOMES` and `POST_COPY_OUTCOMES`; `make test-failures` carries
out all of them.  A run whose VM is at two places or none, whose guest found a torn page, or whose
NVEs hold anything else than the NVA wants has problems.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from docs import transfer_failures
from docs.transfer_failures import SeenFailure
from experiments.measure.results import Result
from experiments.overlays.nvo3 import NVA_DIES
from experiments.scenario.failures import (
    ALL,
    DESTINATION,
    SOURCE,
    Case,
    FailureKind,
    FailureOutcome,
    Moment,
)
from tests.helpers.failure_trials import (
    POST_COPY,
    POST_COPY_OUTCOMES,
    SLOW,
    TRANSFER_OUTCOMES,
    transfer_trial,
)
from tests.helpers.runs import recorded, times_of
from tests.system.test_failures import named

How: TypeAlias = tuple[Mapping[str, Any], Mapping[Case, Mapping[Moment, FailureOutcome]]]
PRE: How = (SLOW, TRANSFER_OUTCOMES)
POST: How = (POST_COPY, POST_COPY_OUTCOMES)
PAIRS: list[tuple[Case, Moment]] = [
    ((FailureKind.NVE_DIES, SOURCE), Moment.COPYING),
    ((FailureKind.NVE_DIES, DESTINATION), Moment.COPIED),
    ((FailureKind.UNDERLAY_PARTITION, DESTINATION), Moment.PAUSED),
    ((FailureKind.UNDERLAY_PARTITION, SOURCE), Moment.COPIED),
    ((FailureKind.UNDERLAY_LOSSY, DESTINATION), Moment.COPYING),
    ((NVA_DIES, ALL), Moment.PAUSED),
    ((FailureKind.SERVER_FULL, DESTINATION), Moment.PREPARED),
]


def test_each_failure_is_tried_and_each_moment_of_a_transfer() -> None:
    assert {case[0] for case, _ in PAIRS} == {case[0] for case in TRANSFER_OUTCOMES}
    of_transfer = {Moment.PREPARED, Moment.COPYING, Moment.PAUSED, Moment.COPIED}
    assert {moment for _, moment in PAIRS} == of_transfer


@pytest.mark.shows("R6.2", "R6.4")
@pytest.mark.parametrize(**named(PAIRS))
def test_a_failure_of_a_transfer_has_its_outcome(
    tmp_path: Path, case: Case, moment: Moment
) -> None:
    has_its_outcome(case, moment, tmp_path / "result")


@pytest.mark.matrix
@pytest.mark.parametrize(
    **named([(case, at) for case, moments in TRANSFER_OUTCOMES.items() for at in moments])
)
def test_every_failure_of_a_transfer_at_every_moment_has_its_outcome(
    tmp_path: Path, case: Case, moment: Moment
) -> None:
    has_its_outcome(case, moment, tmp_path / "result", noted=True)


@pytest.mark.shows("R6.4")
def test_a_vm_whose_source_dies_in_a_post_copy_is_lost_and_that_is_said(tmp_path: Path) -> None:
    has_its_outcome((FailureKind.NVE_DIES, SOURCE), Moment.ACTIVATED, tmp_path / "result", POST)


@pytest.mark.matrix
@pytest.mark.parametrize(
    **named([(case, at) for case, moments in POST_COPY_OUTCOMES.items() for at in moments])
)
def test_every_failure_of_a_post_copy_has_its_outcome(
    tmp_path: Path, case: Case, moment: Moment
) -> None:
    has_its_outcome(case, moment, tmp_path / "result", POST, noted=True)


def has_its_outcome(
    case: Case, moment: Moment, out: Path, how: How = PRE, *, noted: bool = False
) -> None:
    """The guest goes on where the table says, with the state that it had, and answers; or it is
    lost, and answers no more.  `noted`: what came of it goes into the table of the documentation.
    """
    transfer, table = how
    outcome, result = recorded(transfer_trial(case, moment, transfer), out)

    if noted:
        transfer_failures.note(seen(case, moment, transfer, result))
    assert outcome.problems == []
    wanted = table[case][moment].ending
    assert set(result.moves["outcome"]) == {wanted}
    asked = result.rows("service")
    assert asked is not None
    assert not asked["went_back"].any()
    (ended_ns,) = times_of(result, "failure-ended")
    later = asked[asked["t_ns"] > ended_ns]
    lost = times_of(result, "vm-lost")
    assert len(lost) == (wanted == "lost")
    if lost:
        later = asked[asked["t_ns"] > lost[0]]
    assert later.empty or later["answered_ns"].notna().any() == (not lost), "who answers?"
    verified = times_of(result, "state-verified") + times_of(result, "state-not-verified")
    assert len(verified) == (wanted == "completed")
    resumed = [event.details["nve"] for event in result.events if event.name == "vm-resumed"]
    assert len(resumed) == len(times_of(result, "vm-paused"))
    assert set(resumed) <= {"nve1" if wanted == "rolled back" else "nve2"}


def seen(case: Case, moment: Moment, transfer: Mapping[str, Any], result: Result) -> SeenFailure:
    """What came of a trial."""
    (ending,) = set(result.moves["outcome"])
    paused, resumed = times_of(result, "vm-paused"), times_of(result, "vm-resumed")
    stood_ms = sum((b - a) / 1e6 for a, b in zip(paused, resumed, strict=False))
    runs = len(paused) == len(resumed) and ending != "lost"
    kind, place = case
    return SeenFailure(
        transfer.get("kind", "pre-copy"),
        *(kind, place, moment.value, str(ending)),
        round(stood_ms, 1) if runs else None,
    )
