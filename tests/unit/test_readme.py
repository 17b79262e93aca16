"""The README keeps its word: every requirement has its row, every test it names is there.

What the rows say in words is for readers to judge; that nothing is left out and that no test has
been renamed away from under a row is judged here.
"""

import ast
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

REQUIREMENTS = (
    *("R3.1", "R3.2", "R3.3", "R3.4", "R3.5"),
    *("R4.1.1", "R4.1.2", "R4.1.3", "R4.1.4", "R4.1.5", "R4.1.6", "R4.1.7", "R4.1.8"),
    *("R4.2.1", "R4.2.2", "R4.2.3", "R4.2.4"),
    *("R4.2.1.1", "R4.2.1.2", "R4.2.1.3", "R4.2.1.4"),
    *("R5.1", "R5.2", "R5.3", "R5.4", "R5.5"),
    *("R6.1", "R6.2", "R6.3", "R6.4"),
    *("R7.0", "R7.1", "R7.2", "R7.3", "R7.4"),
    *("R8.1", "R8.2"),
    *("R9.1", "R9.2", "R9.3", "R9.4"),
    *("T1", "T2", "T3", "T4", "T5", "T6", "T7"),
)

TOP_LEVEL = (
    *("topologies", "controller", "nve", "experiments", "results", "tests"),
    *("Vagrantfile", "README.md"),
)

ROW = re.compile(r"^\| ([RT]\d[\d.]*) \| ([^|]*) \| ([^|]*) \| ([^|]*) \|$", re.MULTILINE)
TEST = re.compile(r"`([^`]+\.py)::(\w+)`")
NOT_SHOWN = ("pytest.mark.xfail", "pytest.mark.skip(")
LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")


def complaints(text: str, tests: Mapping[str, frozenset[str]]) -> list[str]:
    """What is wrong with a conformance table, in sentences.

    `tests` are the test functions that show something, by file below tests/.
    """
    rows = ROW.findall(text)
    found = Counter(identifier for identifier, *_ in rows)
    wrong = [f"{each} has {found[each]} rows" for each in REQUIREMENTS if found[each] != 1]
    wrong += [f"{each} is no requirement" for each in found if each not in REQUIREMENTS]
    for identifier, _, state, shown_by in rows:
        named = TEST.findall(shown_by)
        wrong += [
            f"{identifier}: {file} has no {function}"
            for file, function in named
            if function not in tests.get(file, ())
        ]
        if not re.match(r"(works|partly|not yet)\b", state):
            wrong.append(f"{identifier} is {state!r}: neither works, partly nor not yet")
        if not named and shown_by != "no test":
            wrong.append(f"{identifier} names neither a test nor 'no test'")
        if not named and state.startswith("works"):
            wrong.append(f"{identifier} works, but no test shows it")
    return wrong


def known_tests() -> dict[str, frozenset[str]]:
    """The test functions in every file below tests/."""
    folder = ROOT / "tests"
    return {
        str(file.relative_to(folder)): passing(file.read_text(encoding="utf-8"))
        for file in folder.rglob("test_*.py")
    }


def passing(source: str) -> frozenset[str]:
    """The test functions in a source text; one that is expected to fail shows nothing."""
    return frozenset(
        node.name
        for node in ast.parse(source).body
        if isinstance(node, ast.FunctionDef)
        and node.name.startswith("test_")
        and not any(ast.unparse(mark).startswith(NOT_SHOWN) for mark in node.decorator_list)
    )


def readme() -> str:
    return (ROOT / "README.md").read_text(encoding="utf-8")


def test_every_requirement_has_its_row_and_every_test_is_there() -> None:
    assert complaints(readme(), known_tests()) == []


def test_the_top_level_is_as_asked_for() -> None:
    """T7."""
    assert [name for name in TOP_LEVEL if not (ROOT / name).exists()] == []


PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    targets = LINK.findall(page.read_text(encoding="utf-8"))

    assert [target for target in targets if not (page.parent / target).exists()] == []


# The checker itself.

GOOD_TESTS = {"unit/test_a.py": frozenset({"test_b"})}
GOOD = "\n".join(f"| {each} | it | works | `unit/test_a.py::test_b` |" for each in REQUIREMENTS)


def test_a_sound_table_passes() -> None:
    assert complaints(f"# Text\n\n| id | what |\n{GOOD}\nmore text", GOOD_TESTS) == []


@pytest.mark.parametrize(
    ("replaced", "by", "complaint"),
    [
        ("| R3.3 |", "| R3.30 |", "R3.3 has 0 rows"),
        ("| R3.3 |", "| R3.2 |", "R3.2 has 2 rows"),
        ("| R3.3 |", "| R3.30 |", "R3.30 is no requirement"),
        (
            "| T7 | it | works | `unit/test_a.py::test_b`",
            "| T7 | it | works | no test",
            "T7 works,",
        ),
        ("| T7 | it | works |", "| T7 | it | nearly |", "T7 is 'nearly'"),
        (
            "| T7 | it | works | `unit/test_a.py::test_b`",
            "| T7 | it | not yet | `unit/test_a.py::test_c`",
            "T7: unit/test_a.py has no test_c",
        ),
        (
            "| T7 | it | works | `unit/test_a.py::test_b`",
            "| T7 | it | partly | `unit/test_z.py::test_b`",
            "T7: unit/test_z.py has no test_b",
        ),
        (
            "| T7 | it | works | `unit/test_a.py::test_b`",
            "| T7 | it | partly | somebody says so",
            "T7 names neither a test nor 'no test'",
        ),
    ],
)
def test_the_checker_sees_a_fault(replaced: str, by: str, complaint: str) -> None:
    assert replaced in GOOD

    found = complaints(GOOD.replace(replaced, by), GOOD_TESTS)

    assert any(sentence.startswith(complaint) for sentence in found), found


def test_a_test_that_is_expected_to_fail_shows_nothing() -> None:
    source = """
def test_a(): ...
@pytest.mark.parametrize("x", [1])
def test_b(x): ...
@pytest.mark.xfail(strict=True, reason="not yet")
def test_c(): ...
def helper(): ...
"""
    assert passing(source) == {"test_a", "test_b"}
