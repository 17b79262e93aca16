"""The recorder of outcomes: what a run has to have done before it counts."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from docs import conformance
from tests.helpers import outcomes
from tests.helpers.outcomes import Recorder, facts

MOVE, OTHER = "tests/test_a.py::test_move", "tests/test_a.py::test_other"


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conformance, "OUTCOMES", tmp_path / "outcomes.json")
    monkeypatch.setattr(conformance, "marks", lambda _: {MOVE: ("R1.1",), OTHER: ("R1.1",)})
    monkeypatch.setattr(outcomes, "facts", dict)


def recorded(collected: list[str], *reports: tuple[str, str, str], marked: bool = True) -> Any:
    """What is known of each test after a session, without the run's name."""
    recorder = Recorder()
    mark = "shows" if marked else None
    items: Any = [
        SimpleNamespace(nodeid=case, get_closest_marker=lambda _: mark) for case in collected
    ]
    recorder.pytest_collection_modifyitems(items)
    for case, when, outcome in reports:
        keywords = {"shows": 1} if marked else {}
        report: Any = SimpleNamespace(nodeid=case, when=when, outcome=outcome, keywords=keywords)
        recorder.pytest_runtest_logreport(report)
    recorder.pytest_sessionfinish()
    tests = conformance.read_outcomes().tests
    return {test: {k: n for k, n in went.items() if k != "run"} for test, went in tests.items()}


def whole(case: str, outcome: str = "passed") -> list[tuple[str, str, str]]:
    return [(case, "setup", "passed"), (case, "call", outcome), (case, "teardown", "passed")]


def test_cases_of_a_test_are_counted_together() -> None:
    cases = [f"{MOVE}[ipv4]", f"{MOVE}[ipv6]"]

    assert recorded(cases, *whole(cases[0]), *whole(cases[1], "skipped")) == {
        MOVE: {"passed": 1, "skipped": 1}
    }


@pytest.mark.parametrize("when", ["setup", "teardown"])
def test_a_case_that_fails_before_or_after_its_call_has_failed(when: str) -> None:
    reports = [each for each in whole(MOVE) if each[1] != when]

    assert recorded([MOVE], *reports, (MOVE, when, "failed")) == {MOVE: {"failed": 1}}


def test_a_test_that_was_cut_short_counts_only_if_it_failed() -> None:
    cases = [f"{MOVE}[ipv4]", f"{MOVE}[ipv6]", f"{OTHER}[ipv4]", f"{OTHER}[ipv6]"]

    assert recorded(cases, *whole(cases[0]), *whole(cases[2], "failed")) == {OTHER: {"failed": 1}}


def test_a_test_that_shows_nothing_is_not_recorded() -> None:
    assert recorded([MOVE], *whole(MOVE), marked=False) == {}
    assert not conformance.OUTCOMES.exists()


def test_workers_count_and_one_process_records() -> None:
    output: dict[str, Any] = {}
    worker, recorder = Recorder(output), Recorder()
    item: Any = SimpleNamespace(nodeid=MOVE, get_closest_marker=lambda _: "shows")
    worker.pytest_collection_modifyitems([item])
    worker.pytest_sessionfinish()
    assert not conformance.OUTCOMES.exists()

    report: Any = SimpleNamespace(
        nodeid=f"{MOVE}@group", when="call", outcome="passed", keywords={"shows": 1}
    )
    recorder.pytest_runtest_logreport(report)
    recorder.pytest_testnodedown(SimpleNamespace(workeroutput=output))
    recorder.pytest_sessionfinish()

    (went,) = conformance.read_outcomes().tests.values()
    assert went["passed"] == 1


def test_a_run_says_what_it_ran_on() -> None:
    said = facts()

    assert said.keys() >= {"revision", "kernel", "Open vSwitch", "datapath", "links", "framework"}
    assert all(said.values())


def test_a_second_session_adds_to_the_first() -> None:
    recorded([MOVE, OTHER], *whole(MOVE), *whole(OTHER))

    assert recorded([MOVE], *whole(MOVE, "failed")) == {MOVE: {"failed": 1}, OTHER: {"passed": 1}}
