"""Requirements, the tests that show them, and their last outcomes: docs/conformance.md.

    docs/requirements.toml               the requirements
    @pytest.mark.shows("R4.1.4", ...)    on a test function: the requirements that it shows
    docs/conformance-outcomes.json       its last outcome, from `make conformance`

This module reads and judges them, `conformance_page` writes the page, `tests.helpers.outcomes`
records outcomes.  Tests are parsed, not imported, so that the page can be made where they cannot
run.
"""

import ast
import json
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeAlias

ROOT = Path(__file__).parents[1]
REQUIREMENTS = ROOT / "docs/requirements.toml"
OUTCOMES = ROOT / "docs/conformance-outcomes.json"
REAL_PARTS = "tests/system/"

MARK = "pytest.mark.shows"
PROVES_NOTHING = ("pytest.mark.xfail", "pytest.mark.skip", "pytest.mark.skipif")

Test: TypeAlias = str
"""File and function of a test without its parameters: `tests/system/test_moves.py::test_a_move`."""

Marks: TypeAlias = Mapping[Test, tuple[str, ...]]
"""The requirements that each test shows."""


@dataclass(frozen=True)
class Requirement:
    """A row of the table; see docs/requirements.toml."""

    says: str
    optional: bool = False
    not_built: str = ""
    limits: str = ""


@dataclass(frozen=True)
class Section:
    title: str
    rows: Mapping[str, Requirement]
    complete: bool = False


@dataclass(frozen=True)
class Outcomes:
    """The outcomes of tests: in which run, and how many of a test's cases had which outcome."""

    runs: dict[str, dict[str, str]] = field(default_factory=dict)
    tests: dict[Test, dict[str, Any]] = field(default_factory=dict)

    def updated(
        self, run: str, facts: dict[str, str], went: Mapping[Test, Counter[str]], known: Marks
    ) -> "Outcomes":
        """Return the outcomes with those of another run, without tests that no longer exist."""
        ran = {test: {"run": run, **dict(sorted(cases.items()))} for test, cases in went.items()}
        merged = {**self.tests, **ran}
        tests = {test: merged[test] for test in sorted(merged) if test in known}
        runs = {**self.runs, run: facts}
        still = {outcome["run"] for outcome in tests.values()}
        return Outcomes({name: runs[name] for name in sorted(runs) if name in still}, tests)


# -- reading -----------------------------------------------------------------------------------


def requirements(text: str) -> list[Section]:
    return [
        Section(
            section["title"],
            {identifier: Requirement(**row) for identifier, row in section["rows"].items()},
            section.get("complete", False),
        )
        for section in tomllib.loads(text)["sections"]
    ]


def marks(sources: Mapping[str, str]) -> dict[Test, tuple[str, ...]]:
    """Return what the test functions in these sources (by path) are marked with."""
    found = {}
    for path, source in sources.items():
        if MARK in source:  # most files need not be parsed
            for name, decorators in _test_functions(source):
                shown = tuple(_shown(decorators))
                if shown:
                    found[f"{path}::{name}"] = shown
    return dict(sorted(found.items()))


def misplaced(sources: Mapping[str, str]) -> list[str]:
    """Return sentences about marks that would not be found, or that are on tests which prove
    nothing.
    """
    wrong = []
    for path, source in sources.items():
        if MARK not in source:
            continue
        functions = list(_test_functions(source))
        marked = [name for name, decorators in functions for _ in _calls(decorators, (MARK,))]
        uses = sum(_is(node, (MARK,)) for node in ast.walk(_parsed(source)))
        if uses != len(marked):
            wrong.append(f"{path}: mark test functions of the module itself, and nothing else")
        wrong += [
            f"{path}::{name} is marked and may be skipped or fail, which shows nothing"
            for name, decorators in functions
            if name in marked and any(_is(node, PROVES_NOTHING) for node in _within(decorators))
        ]
    return wrong


@lru_cache(None)
def _parsed(source: str) -> ast.Module:
    """Return the tree of a source, which is needed for the marks and for checking their places."""
    return ast.parse(source)


def _test_functions(source: str) -> Iterator[tuple[str, list[ast.expr]]]:
    for node in _parsed(source).body:
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            yield node.name, node.decorator_list


def _shown(decorators: Iterable[ast.expr]) -> Iterator[str]:
    for call in _calls(decorators, (MARK,)):
        yield from (ast.literal_eval(argument) for argument in call.args)


def _calls(decorators: Iterable[ast.expr], names: tuple[str, ...]) -> list[ast.Call]:
    return [each for each in decorators if isinstance(each, ast.Call) and _is(each.func, names)]


def _within(decorators: Iterable[ast.expr]) -> Iterator[ast.AST]:
    for decorator in decorators:
        yield from ast.walk(decorator)


def _is(node: ast.AST, names: tuple[str, ...]) -> bool:
    return (
        isinstance(node, ast.Attribute)
        and any(name.endswith(f".{node.attr}") for name in names)  # quick, and mostly false
        and ast.unparse(node) in names
    )


def sources_of_tests() -> dict[str, str]:
    """Return every test module of the project, by its path from the root."""
    return {
        str(file.relative_to(ROOT)): file.read_text(encoding="utf-8")
        for file in sorted((ROOT / "tests").rglob("test_*.py"))
    }


def read_outcomes() -> Outcomes:
    """Return the recorded outcomes; none if there is no file."""
    return outcomes(OUTCOMES.read_text(encoding="utf-8") if OUTCOMES.exists() else "{}")


def outcomes(text: str) -> Outcomes:
    return Outcomes(**json.loads(text))


def as_text(recorded: Outcomes) -> str:
    """Return the text that `outcomes` reads: one line for each run and each test."""

    def lines(rows: Mapping[str, Any]) -> str:
        return ",\n".join(f"  {json.dumps(key)}: {json.dumps(row)}" for key, row in rows.items())

    return (
        f'{{"runs": {{\n{lines(recorded.runs)}\n}},\n"tests": {{\n{lines(recorded.tests)}\n}}}}\n'
    )


# -- judging -----------------------------------------------------------------------------------


def complaints(sections: Iterable[Section], shown: Marks) -> list[str]:
    """Return sentences about requirements and tests that do not fit together."""
    rows = [
        (section, identifier, row)
        for section in sections
        for identifier, row in section.rows.items()
    ]
    found = Counter(identifier for _, identifier, _ in rows)
    wrong = [f"{each} has {count} rows" for each, count in found.items() if count > 1]
    for test, identifiers in shown.items():
        unknown = [each for each in identifiers if each not in found]
        wrong += [f"{test} shows {each}, which is no requirement" for each in unknown]
    for section, identifier, row in rows:
        tests = showing(identifier, shown)
        if tests and row.not_built:
            wrong.append(f"{identifier} is said not to be built, but {tests[0]} shows it")
        if not tests and not row.not_built:
            wrong.append(f"no test shows {identifier}: {row.says}")
        if row.not_built and section.complete and not row.optional:
            wrong.append(f"{identifier} has to be built: {section.title} is said to be complete")
    return wrong


def showing(identifier: str, shown: Marks) -> list[Test]:
    """Return the tests that show a requirement, those on real parts first."""
    tests = [test for test, identifiers in shown.items() if identifier in identifiers]
    return sorted(tests, key=lambda test: (not test.startswith(REAL_PARTS), test))
