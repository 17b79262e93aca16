"""`pytest --record-outcomes`: records outcomes of tests that show requirements, for the docs.

They go into docs/conformance.md.  A test counts with all of its cases or not at all: of one that
was cut short or narrowed down to some of its parameters, only a failure is recorded.  Tests that
were not run keep their recorded outcome.  Where several processes run the tests (pytest-xdist),
each counts the cases, and the one that hears of all outcomes records them.
"""

import importlib.metadata
from collections import Counter
from datetime import UTC, datetime
from typing import Any

import pytest

from docs import conformance
from experiments import machine
from nve.linux import capabilities
from nve.ovs import bridge

CASES = "cases-of-tests"
"""Under this name a worker tells the recording process how many cases each test has."""


class Recorder:
    """The pytest plugin; `worker_output` is a worker's, what it tells the recording process."""

    def __init__(self, worker_output: dict[str, Any] | None = None) -> None:
        self._worker_output = worker_output
        self._cases: Counter[str] = Counter()
        self._went: dict[str, str] = {}

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Note all cases before other plugins deselect some."""
        self._cases.update(_test(item.nodeid) for item in items if item.get_closest_marker("shows"))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Record a case with the worst outcome of its set-up, its call and its tear-down."""
        says = report.when == "call" or report.outcome != "passed"
        if says and "shows" in report.keywords and self._went.get(report.nodeid) != "failed":
            self._went[report.nodeid] = report.outcome

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Hear from a worker, all of which have collected the same tests."""
        self._cases = Counter(getattr(node, "workeroutput", {}).get(CASES, self._cases))

    def pytest_sessionfinish(self) -> None:
        if self._worker_output is not None:
            self._worker_output[CASES] = dict(self._cases)
            return
        went: dict[str, Counter[str]] = {}
        for case, outcome in self._went.items():
            went.setdefault(_test(case), Counter())[outcome] += 1
        whole = {
            test: outcomes
            for test, outcomes in went.items()
            if outcomes["failed"] or outcomes.total() == self._cases[test]
        }
        if whole:
            _record(whole)


def _test(case: str) -> conformance.Test:
    """Return the test of a case, without the group that pytest-xdist puts behind an `@`."""
    return case.partition("[")[0].partition("@")[0]


def _record(went: dict[str, Counter[str]]) -> None:
    known = conformance.marks(conformance.sources_of_tests())
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S")
    recorded = conformance.read_outcomes().updated(now, facts(), went, known)
    new = conformance.OUTCOMES.with_suffix(".new")
    new.write_text(conformance.as_text(recorded), encoding="utf-8")
    new.replace(conformance.OUTCOMES)


def facts() -> dict[str, str]:
    """Return what a reader wants to know of a run."""
    found = machine.facts()
    dirty = "" if found["git_clean"] else " and uncommitted changes"
    return {
        "revision": f"{str(found['git_revision'])[:10]}{dirty}",
        "kernel": found["kernel"],
        "Open vSwitch": str(bridge.version()).rpartition(" ")[2],
        "datapath": "kernel" if capabilities.kernel_datapath_available() else "userspace",
        "links": "netem" if capabilities.netem_available() else "delay line",
        "framework": f"os-ken {importlib.metadata.version('os-ken')}",
    }
