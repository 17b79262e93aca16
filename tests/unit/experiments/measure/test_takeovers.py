"""What a take-over has cost: from what a client was answered before and after."""

from typing import Any

import pytest

from experiments.measure.rows import TAKEOVERS
from experiments.measure.takeovers import COLUMNS, AnsweredRequest, rows
from experiments.measure.trace import TraceEvent

MS = 1_000_000
FAILED_MS, RESUMED_MS = 1000, 1600
WHERE = {"from": "nve1", "to": "nve2"}


def events(mode: str = "take-over") -> list[TraceEvent]:
    lost: dict[str, Any] = {
        "nve": "nve1",
        "since_ns": FAILED_MS * MS,
        "kind": "warm",
        "interval_s": 0.5,
    }
    story: list[tuple[int, str, dict[str, Any]]] = [
        (1300, "server-lost", lost),
        (1310, "move-requested", {"move": 4, "mode": mode, **WHERE}),
        (1320, "mirror-ready", {"move": 4, "mirror": 7, "mirror_age_ms": 100.0}),
        (RESUMED_MS, "vm-resumed", {"move": 4}),
        (1700, "move-completed", {"move": 4}),
    ]
    return [TraceEvent(ms * MS, "runner", name, "vm1", details) for ms, name, details in story]


def answers(*given: tuple[int, int]) -> list[tuple[str, AnsweredRequest]]:
    """Of vm1: when, in ms, and with which number."""
    return [("vm1", AnsweredRequest(ms * MS, counter)) for ms, counter in given]


@pytest.mark.shows("R7.3")
def test_what_was_answered_and_is_asked_for_again_is_lost() -> None:
    given = answers((900, 40), (940, 41), (990, 42), (1650, 41), (1700, 42))

    (row,) = rows(events(), given)

    assert (row["counter_before"], row["counter_after"]) == (42, 41)
    assert (row["lost_requests"], row["lost_age_ms"]) == (2, 60)
    assert row["silence_ms"] == 660
    assert (row["detected_ms"], row["resumed_ms"]) == (300, 600)
    assert (row["mirror"], row["mirror_age_ms"], row["kind"]) == (7, 100, "warm")
    assert (row["move"], row["from_nve"], row["to_nve"], row["outcome"]) == (
        *(4, "nve1", "nve2"),
        "completed",
    )


def test_nothing_is_lost_where_the_next_number_comes() -> None:
    (row,) = rows(events(), answers((990, 42), (1650, 43)))
    assert (row["lost_requests"], row["lost_age_ms"]) == (0, 0)


def test_a_clients_numbers_are_not_another_vms() -> None:
    other = [("vm2", AnsweredRequest(1650 * MS, 1))]
    (row,) = rows(events(), [*answers((990, 42)), *other])
    assert row["counter_before"] == 42
    assert row["counter_after"] is row["lost_requests"] is row["silence_ms"] is None


def test_without_a_client_times_are_known_all_the_same() -> None:
    (row,) = rows(events(), [])
    assert row["resumed_ms"] == 600
    assert row["lost_requests"] is None


def test_other_moves_are_no_take_overs() -> None:
    assert rows(events("cold"), answers((990, 42))) == []


def test_the_columns_are_those_of_the_file() -> None:
    assert tuple(TAKEOVERS.columns) == COLUMNS


@pytest.mark.shows("R7.4")
@pytest.mark.parametrize("why", ["server-lost", "instance-cut-off"])
def test_an_instance_that_goes_on_alone_has_taken_over_without_a_move(why: str) -> None:
    lost = {"nve": "nve1", "since_ns": FAILED_MS * MS, "kind": "hot", "interval_s": 0.0}
    told = [
        TraceEvent(1300 * MS, "runner", why, "vm1", lost),
        TraceEvent(1350 * MS, "runner", "instance-alone", "vm1", {"nve": "nve2", "lost": "nve1"}),
    ]

    (row,) = rows(told, answers((990, 42), (1010, 43), (1360, 44)))

    assert (row["move"], row["kind"], row["mirror"]) == (None, "hot", None)
    assert (row["from_nve"], row["to_nve"], row["outcome"]) == ("nve1", "nve2", "completed")
    assert (row["detected_ms"], row["resumed_ms"]) == (300, 350)
    assert (row["lost_requests"], row["lost_age_ms"], row["silence_ms"]) == (0, 0, 350)
