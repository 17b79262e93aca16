"""The text of docs/conformance.md: a table of requirements, and below it the tests of each."""

from collections import Counter
from collections.abc import Iterable, Mapping

from docs.conformance import (
    REAL_PARTS,
    Marks,
    Outcomes,
    Requirement,
    Section,
    Test,
    showing,
)

INTRODUCTION = """\
The rows number what draft-ietf-nvo3-vmm-03 asks for, section by section, and what surrounds it.
Tests say by a mark which rows they show. Those on *real parts* run Mininet, Open vSwitch, an NVA
process and packets (`tests/system`); the others judge rules, messages and decisions without a
network. `make conformance` runs the marked tests and records how they went; a test that is newer
has not been run yet.
"""


def page(sections: Iterable[Section], shown: Marks, recorded: Outcomes) -> str:
    """Return docs/conformance.md, without its first line."""
    sections = list(sections)
    numbers = {run: str(number) for number, run in enumerate(recorded.runs, 1)}
    parts = ["# Requirements, and the tests that show them\n", INTRODUCTION]
    parts += [_overview(section, shown, recorded) for section in sections]
    parts.append("## Tests by requirement\n")
    parts += [
        _details(identifier, row, shown, recorded, numbers)
        for section in sections
        for identifier, row in section.rows.items()
        if not row.not_built
    ]
    parts.append(_runs(recorded, numbers))
    return "\n".join(parts)


def _overview(section: Section, shown: Marks, recorded: Outcomes) -> str:
    lines = [
        f"## {section.title}\n",
        "| | what must hold | all tests | on real parts |",
        "| - | - | - | - |",
    ]
    for identifier, row in section.rows.items():
        says = f"{row.says} *Limits: {row.limits}.*" if row.limits else row.says
        if row.not_built:
            lines.append(f"| {identifier} | {says} | not built: {row.not_built} | |")
        else:
            tests = showing(identifier, shown)
            real = [test for test in tests if test.startswith(REAL_PARTS)]
            link = f"[{identifier}](#{identifier.lower().replace('.', '')})"
            sums = f"{_sum(tests, recorded)} | {_sum(real, recorded)}"
            lines.append(f"| {link} | {says} | {sums} |")
    return "\n".join([*lines, ""])


def _sum(tests: list[Test], recorded: Outcomes) -> str:
    """Return the number of tests by outcome: `5 passed`, `3 passed, 1 **failed**`."""
    went = Counter(_went(test, recorded) for test in tests)
    return ", ".join(f"{went[each]} {each}" for each in WENT if went[each])


WENT = ("passed", "**failed**", "skipped", "not run yet")


def _went(test: Test, recorded: Outcomes) -> str:
    cases = recorded.tests.get(test)
    if cases is None:
        return "not run yet"
    if cases.get("failed"):
        return "**failed**"
    return "passed" if cases.get("passed") else "skipped"


def _details(
    identifier: str,
    row: Requirement,
    shown: Marks,
    recorded: Outcomes,
    numbers: Mapping[str, str],
) -> str:
    lines = [
        f"### {identifier}\n",
        f"{row.says}\n",
        "| test | in | last outcome | run |",
        "| - | - | - | - |",
    ]
    for test in showing(identifier, shown):
        path, _, function = test.partition("::")
        cases = recorded.tests.get(test)
        run = numbers[cases["run"]] if cases else ""
        place = f"[{path.removeprefix('tests/')}](../{path})"
        lines.append(f"| `{function}` | {place} | {_outcome(test, recorded)} | {run} |")
    return "\n".join([*lines, ""])


def _outcome(test: Test, recorded: Outcomes) -> str:
    """Return the outcome in words, with the number of cases if there are several."""
    cases = Counter(
        {name: n for name, n in recorded.tests.get(test, {}).items() if isinstance(n, int)}
    )
    went, total = _went(test, recorded), cases.total()
    if total <= 1:
        return went
    others = [f"{cases[name]} {name}" for name in ("failed", "passed", "skipped") if cases[name]]
    return f"{went} ({total} cases)" if len(others) == 1 else f"{went} ({', '.join(others)})"


def _runs(recorded: Outcomes, numbers: Mapping[str, str]) -> str:
    facts = list(dict.fromkeys(name for run in recorded.runs.values() for name in run))
    lines = [
        "## Runs\n",
        "The last run of each test is one of these.\n",
        f"| run | when (UTC) | {' | '.join(facts)} |",
        f"| - | - |{' - |' * len(facts)}",
    ]
    for run, found in recorded.runs.items():
        cells = " | ".join(found.get(name, "") for name in facts)
        lines.append(f"| {numbers[run]} | {run} | {cells} |")
    return "\n".join([*lines, ""])
