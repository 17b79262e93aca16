"""Figures of a client of a task, from lines that are known."""

import pandas as pd
import pytest

from experiments.measure.trace import TraceEvent
from experiments.measure.visits import began_ns, name_waits, visit

MS = 1_000_000
STOPPED = 3_000 * MS
MOVED = [TraceEvent(STOPPED, "runner", "task-stopped", "web")]


def fetched(gap_ms: int = 0, *, slow_ms: int = 0, again: int = 0) -> pd.DataFrame:
    """50 kB in 50 ms, but for a gap in which nothing comes and a time with half of it."""
    rows = []
    for number in range(1, 201):
        t_ms = number * 50
        since = t_ms - STOPPED // MS
        octets = 0 if 0 < since <= gap_ms else 50_000
        octets = 25_000 if gap_ms < since <= gap_ms + slow_ms else octets
        silence = float(gap_ms) if since == gap_ms + 50 else 1.0
        rows.append(("web", t_ms * MS, octets, again if since == 50 else 0, 0, silence, 1, 0))
    columns = ["flow", "t_ns", "octets", "again", "whole", "silence_ms", "connects", "lookups"]
    return pd.DataFrame(rows, columns=columns)


def asked(wait_ms: int = 5, connects: int = 0, lookups: int = 0) -> pd.DataFrame:
    rows = [("web", 0, 5 * MS, 1, 1), ("web", STOPPED, STOPPED + wait_ms * MS, connects, lookups)]
    return pd.DataFrame(rows, columns=["flow", "asked_ns", "answered_ns", "connects", "lookups"])


def test_a_move_that_nobody_notices() -> None:
    found = visit(MOVED, fetched(), asked())
    assert found is not None
    assert (found.silence_ms, found.wait_ms, found.again) == (1, 5, 0)
    assert (found.full_rate_ms, found.connects, found.lookups) == (0, 0, 0)
    assert found.asked_of_the_client("tcp") == "nothing"
    assert found.asked_of_the_client("mptcp") == "speak Multipath TCP"


def test_a_client_that_comes_back() -> None:
    found = visit(MOVED, fetched(500, again=7), asked(620, connects=2, lookups=1))
    assert found is not None
    assert (found.silence_ms, found.wait_ms, found.again) == (500, 620, 7)
    assert (found.connects, found.lookups) == (2, 1)
    assert found.asked_of_the_client("tcp") == "look up, reconnect"


@pytest.mark.parametrize(("gap_ms", "slow_ms"), [(500, 0), (0, 1000), (500, 1000)])
def test_the_full_rate_is_there_when_it_has_been_slower(gap_ms: int, slow_ms: int) -> None:
    found = visit(MOVED, fetched(gap_ms, slow_ms=slow_ms), None)
    assert found is not None
    assert found.full_rate_ms == pytest.approx(gap_ms + slow_ms + 200, abs=60)


def test_a_rate_that_never_comes_back_is_none() -> None:
    found = visit(MOVED, fetched(0, slow_ms=20_000), None)
    assert found is not None
    assert found.full_rate_ms is None


def test_without_a_move_or_a_client_there_is_nothing_to_say() -> None:
    assert visit([], fetched(), asked()) is None
    assert visit(MOVED, None, None) is None
    assert began_ns([TraceEvent(5, "hypervisor", "vm-paused", "vm1"), *MOVED]) == 5


def test_how_long_a_client_waits_for_a_name_to_lead_elsewhere() -> None:
    """In each move by itself, and only in moves that the name server was told of."""

    def event(s: float, name: str, move: int, **more: object) -> TraceEvent:
        return TraceEvent(round(s * 1e9), "runner", name, "web", {"task_move": move, **more})

    events = [
        *(event(2, "task-stopped", 1), event(2.1, "name-updated", 1, ttl_s=5)),
        *(event(9, "task-stopped", 2), event(9.1, "name-not-updated", 2)),
        *(event(20, "task-stopped", 3), event(20.1, "name-updated", 3, ttl_s=5)),
    ]
    of_ends = {"a": [(0, 1), (1.9, 7), (8.9, 14.5), (19.9, 21)], "b": [(0, 1), (1.9, 2.3)]}
    rows = [
        (flow, round(begun * 1e9), round(ended * 1e9), lookups)
        for flow, ends in of_ends.items()
        for lookups, (begun, ended) in enumerate(ends)
    ]
    asked = pd.DataFrame(rows, columns=["flow", "asked_ns", "answered_ns", "lookups"])
    found = name_waits(events, asked)
    assert [(each.move, each.flow, round(each.wait_ms), each.lookups) for each in found] == [
        *((1, "a", 5_100, 1), (1, "b", 400, 1), (3, "a", 1_100, 3))
    ]
    assert {each.ttl_s for each in found} == {5}
    assert name_waits(events, None) == name_waits([], asked) == []
