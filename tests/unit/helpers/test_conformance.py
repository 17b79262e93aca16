"""The judge of requirements and tests: each of its complaints is heard once; the page is read."""

from collections import Counter
from dataclasses import replace

import pytest

from docs.conformance import (
    Outcomes,
    Requirement,
    Section,
    as_text,
    complaints,
    marks,
    misplaced,
    outcomes,
    requirements,
    showing,
)
from docs.conformance_page import page

REAL, PURE = "tests/system/test_a.py::test_real", "tests/adapters/test_b.py::test_pure"
BUILT, OPEN = Requirement("It works."), Requirement("It flies.", not_built="no wings")
SHOWN = {PURE: ("R1.1",), REAL: ("R1.1", "R1.2")}


def section(**rows: Requirement) -> Section:
    return Section("1 All", {name.replace("_", "."): row for name, row in rows.items()}, True)


def test_reads_requirements() -> None:
    text = '[[sections]]\ntitle = "1 All"\n[sections.rows]\n"R1.1" = { says = "It works." }\n'

    assert requirements(text) == [Section("1 All", {"R1.1": BUILT})]


def test_what_fits_together_is_not_complained_about() -> None:
    free = replace(OPEN, optional=True)

    assert complaints([section(R1_1=BUILT, R1_2=BUILT, R1_3=free)], SHOWN) == []


@pytest.mark.parametrize(
    ("sections", "complaint"),
    [
        ([section(R1_1=BUILT)], f"{REAL} shows R1.2, which is no requirement"),
        ([section(R1_1=BUILT, R1_2=BUILT, R1_3=BUILT)], "no test shows R1.3: It works."),
        (
            [section(R1_1=BUILT, R1_2=OPEN)],
            f"R1.2 is said not to be built, but {REAL} shows it",
        ),
        (
            [section(R1_1=BUILT, R1_2=BUILT, R1_3=OPEN)],
            "R1.3 has to be built: 1 All is said to be complete",
        ),
        ([section(R1_1=BUILT), section(R1_1=BUILT, R1_2=BUILT)], "R1.1 has 2 rows"),
    ],
)
def test_what_does_not_is(sections: list[Section], complaint: str) -> None:
    assert complaint in complaints(sections, SHOWN)


MODULE = """
import pytest

@pytest.mark.shows("R1.1", "R1.2")
@pytest.mark.parametrize("x", [1, 2])
def test_first(x): ...

@given(data())
@pytest.mark.shows("R1.3")
@pytest.mark.shows("R1.4")
def test_second(): ...

def test_third(): ...
"""


def test_marks_are_read_from_the_source() -> None:
    assert marks({"tests/test_x.py": MODULE}) == {
        "tests/test_x.py::test_first": ("R1.1", "R1.2"),
        "tests/test_x.py::test_second": ("R1.3", "R1.4"),
    }
    assert misplaced({"tests/test_x.py": MODULE}) == []


@pytest.mark.parametrize(
    "unfound",
    [
        'pytestmark = pytest.mark.shows("R1.1")',
        'class TestIt:\n    @pytest.mark.shows("R1.1")\n    def test_it(self): ...',
        '@pytest.mark.shows("R1.1")\ndef helper(): ...',
        'CASES = [pytest.param(1, marks=pytest.mark.shows("R1.1"))]',
    ],
)
def test_a_mark_that_would_not_be_found_is_complained_about(unfound: str) -> None:
    (complaint,) = misplaced({"tests/test_x.py": MODULE + unfound})

    assert complaint.startswith("tests/test_x.py: mark test functions")


@pytest.mark.parametrize("mark", ['skip(reason="…")', "xfail", 'skipif(True, reason="…")'])
def test_a_test_that_may_prove_nothing_must_not_be_marked(mark: str) -> None:
    source = f'@pytest.mark.{mark}\n@pytest.mark.shows("R1.1")\ndef test_it(): ...'

    (complaint,) = misplaced({"tests/test_x.py": source})

    assert complaint.startswith("tests/test_x.py::test_it is marked and may be skipped")


def test_tests_on_real_parts_come_first() -> None:
    assert showing("R1.1", SHOWN) == [REAL, PURE]


def run(recorded: Outcomes, name: str, known: dict = SHOWN, **went: dict[str, int]) -> Outcomes:
    tests = {"real": REAL, "pure": PURE}
    cases = {tests[test]: Counter(outcomes) for test, outcomes in went.items()}
    return recorded.updated(name, {"kernel": "6"}, cases, known)


FIRST = run(Outcomes(), "2026-01-01", real={"passed": 2}, pure={"passed": 1})


def test_a_run_of_some_tests_leaves_the_others_as_they_were() -> None:
    second = run(FIRST, "2026-02-02", real={"failed": 1, "passed": 1})

    assert second.tests == {
        PURE: {"run": "2026-01-01", "passed": 1},
        REAL: {"run": "2026-02-02", "failed": 1, "passed": 1},
    }
    assert list(second.runs) == ["2026-01-01", "2026-02-02"]


def test_a_run_that_no_test_was_last_in_is_forgotten() -> None:
    assert list(run(FIRST, "2026-02-02", real={"passed": 1}, pure={"passed": 1}).runs) == [
        "2026-02-02"
    ]


def test_a_test_that_is_gone_is_forgotten() -> None:
    assert set(run(FIRST, "2026-02-02", {PURE: ("R1.1",)}, pure={"passed": 1}).tests) == {PURE}


@pytest.mark.parametrize("recorded", [Outcomes(), FIRST])
def test_outcomes_are_read_as_they_are_written(recorded: Outcomes) -> None:
    assert outcomes(as_text(recorded)) == recorded


@pytest.mark.parametrize(
    ("went", "overview", "details"),
    [
        ({"real": {"passed": 1}}, "| 1 passed, 1 not run yet | 1 passed |", "| passed | 1 |"),
        ({"real": {"passed": 3}}, "| 1 passed, 1 not run yet | 1 passed |", "passed (3 cases)"),
        (
            {"real": {"passed": 2, "failed": 1}},
            "| 1 **failed**, 1 not run yet | 1 **failed** |",
            "| **failed** (1 failed, 2 passed) | 1 |",
        ),
        (
            {"real": {"skipped": 1}, "pure": {"passed": 2, "skipped": 1}},
            "| 1 passed, 1 skipped | 1 skipped |",
            "| passed (2 passed, 1 skipped) | 1 |",
        ),
    ],
)
def test_the_page_says_how_tests_went(went: dict, overview: str, details: str) -> None:
    written = page([section(R1_1=BUILT)], SHOWN, run(Outcomes(), "2026-01-01", **went))

    assert f"| [R1.1](#r11) | It works. {overview}" in written
    assert details in written
    assert "[system/test_a.py](../tests/system/test_a.py)" in written
    assert "| 1 | 2026-01-01 | 6 |" in written


def test_the_page_says_what_is_not_built() -> None:
    written = page([section(R1_3=OPEN)], SHOWN, Outcomes())

    assert "| R1.3 | It flies. | not built: no wings | |" in written
    assert "### R1.3" not in written
