"""Requirements and tests fit together: nothing that is asked for is without a test that shows it.

That docs/conformance.md is what follows from both is seen to in `test_documents.py`.
"""

from docs.conformance import (
    REQUIREMENTS,
    complaints,
    marks,
    misplaced,
    read_outcomes,
    requirements,
    sources_of_tests,
)

SECTIONS = requirements(REQUIREMENTS.read_text(encoding="utf-8"))
SOURCES = sources_of_tests()


def test_every_requirement_is_shown_or_said_not_to_be_built() -> None:
    assert complaints(SECTIONS, marks(SOURCES)) == []


def test_every_mark_is_where_it_is_found() -> None:
    assert misplaced(SOURCES) == []


def test_the_rows_of_the_whole_draft_are_there() -> None:
    rows = {section.title.split()[0]: len(section.rows) for section in SECTIONS}
    asked_for = {"3": 5, "4.1": 8, "4.2": 4, "4.2.1": 4, "5": 5, "6": 4, "7": 5, "8": 2, "9": 4}

    assert rows == {**asked_for, "The": 7}
    assert [section.title.split()[0] for section in SECTIONS if section.complete] == [
        *("3", "4.1", "5", "9")
    ]


def test_every_outcome_says_of_which_run_it_is() -> None:
    recorded = read_outcomes()

    assert {outcome["run"] for outcome in recorded.tests.values()} == set(recorded.runs)
