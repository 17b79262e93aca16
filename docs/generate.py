"""Writes the pages of the documentation that are generated from tables in the code.

    .venv/bin/python docs/generate.py

`tests/unit/test_documents.py` fails if a page differs from what this would write.
"""

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from controller.core import move_fsm
from controller.core.move_fsm import AFTER_RESTART, AWAITED, REPEATS, TRANSITIONS, MoveAction
from experiments.measure import kernel_counters
from experiments.measure.kernel_counters import Effect
from experiments.overlays.nvo3 import FAULTS
from experiments.run import move_steps, task_steps
from experiments.run.move_steps import COLD, HOLDING, PLAIN, TAKE_OVER, MoveTable
from experiments.run.task_steps import TASK_MOVE
from experiments.scenario import failures
from experiments.scenario.failures import (
    POST_COPY,
    WITHOUT_STATE,
    Case,
    FailureOutcome,
    Moment,
    outcomes_with,
    post_copy_outcomes_with,
    transfer_outcomes_with,
)
from nve.task import tcp_states

FOLDER = Path(__file__).parent
sys.path.append(str(FOLDER.parent))  # docs are no installed package

from docs import conformance, conformance_page, transfer_failures  # noqa: E402

COMMAND = ".venv/bin/python docs/generate.py"


def pages() -> Mapping[Path, str]:
    """Return every generated page: its path and its text."""
    return {
        FOLDER / "how-it-works/mobility.md": _mobility(),
        FOLDER / "how-it-works/move-steps.md": _move_steps(),
        FOLDER / "how-it-works/task-steps.md": _task_steps(),
        FOLDER / "conformance.md": _conformance(),
        FOLDER / "failures.md": _failures(),
        FOLDER / "how-it-works/kernel-counters.md": _kernel_counters(),
    }


def _kernel_counters() -> str:
    """Return a page with a row for each counter."""
    lines = [
        f"<!-- Written by `{COMMAND}` from `experiments/measure/kernel_counters.py`; "
        "change that. -->",
        f"# {_as_page(kernel_counters.__doc__ or '').partition('Pure:')[0].rstrip()}",
        "\n## The counters\n",
        "| in a result | where it is read | of | what it says | then a run is | remedy |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for counter in kernel_counters.COUNTERS:
        says = counter.says.replace("{n}", "*n*").replace("{places}", "*where*")
        effects = {Effect.NOT_VALID: "not valid", Effect.NOTE: "valid, with a note"}
        effect = effects.get(counter.effect, "valid, with a note if packets came out of order")
        cells = (f"`{counter.key}`", counter.place, counter.scope, says, effect, counter.remedy)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _conformance() -> str:
    requirements = conformance.requirements(conformance.REQUIREMENTS.read_text(encoding="utf-8"))
    shown = conformance.marks(conformance.sources_of_tests())
    page = conformance_page.page(requirements, shown, conformance.read_outcomes())
    sources = "`docs/requirements.toml` and the marks of tests; `make conformance` runs those"
    return f"<!-- Written by `{COMMAND}` from {sources}. -->\n{page}"


def _failures() -> str:
    """Return a page with a column for each moment, and below it the other effects of each
    failure.
    """
    lines = [
        f"<!-- Written by `{COMMAND}` from `experiments/scenario/failures.py`; change that. -->",
        f"# {_as_page(failures.__doc__ or '')}",
        "## The failures\n",
        *("| kind | what fails |", "| --- | --- |"),
        *(f"| `{kind}` | {says} |" for kind, says in failures.SAYS.items()),
        *(f"| `{kind}` (`nvo3` only) | {fault.says} |" for kind, fault in FAULTS.items()),
        "\nA scenario says them like this (`vmmlab run failures` has one of each):\n",
        "```yaml",
        "failures:",
        "  - {kind: nve-dies, nve: destination, during: paused, for_s: 2}  # move: 1 if not said",
        "  - {kind: nva-dies, at_s: 4, for_s: 3}",
        "```\n",
        "## The outcome of each pair\n",
        *_outcomes(outcomes_with(FAULTS), WITHOUT_STATE),
        "\n## What else is noticed\n",
        *_felt(outcomes_with(FAULTS)),
        "\n## While a VM's state is brought over\n",
        "A VM with a guest comes to two moments more: `copying`, when a round of its transfer is "
        "over and\nanother one goes on, and `copied`, when all of its state is there.\n\n"
        "A destination that has no room by the NVA's count, of memory or of disk, is no failure: "
        "the move is refused\nat its registration (R6.1, `tests/system/test_capacity.py`), and "
        "from then on its room is kept.  `server-full` is a\ndisk with less room than the NVA "
        "knows of.\n",
        *_outcomes(transfer_outcomes_with(FAULTS), list(Moment)),
        "\nBy post-copy, what is different:\n",
        *_outcomes(post_copy_outcomes_with(FAULTS), POST_COPY),
        "\n## What was seen\n",
        "`make test-failures` carries out every pair on real parts, with `patience_s: 1`, and "
        "notes in\n`docs/transfer-failures.json` what came of it, and how long the VM stood "
        "still.\n"
        "By pre-copy:\n",
        *_seen("pre-copy", transfer_outcomes_with(FAULTS), list(Moment)),
        "\nBy post-copy:\n",
        *_seen("post-copy", post_copy_outcomes_with(FAULTS), POST_COPY),
        "\n## What else is noticed of a transfer\n",
        *_felt(transfer_outcomes_with(FAULTS)),
        "\nOf a post-copy:\n",
        *_felt(post_copy_outcomes_with(FAULTS)),
        "\n`tests/system/test_failures.py` and `tests/system/test_transfer_failures.py` carry out "
        "a part of these pairs on real parts, `make test-failures` all of them.\n",
    ]
    return "\n".join(lines)


_Outcomes: TypeAlias = Mapping[Case, Mapping[Moment, FailureOutcome]]


def _outcomes(table: _Outcomes, moments: Sequence[Moment]) -> Iterator[str]:
    yield "| failure | of | " + " | ".join(moments) + " |"
    yield "| --- | --- |" + " --- |" * len(moments)
    for (kind, place), outcomes in table.items():
        endings = " | ".join(outcomes[moment].ending for moment in moments)
        yield f"| `{kind}` | {place} | {endings} |"


def _seen(transfer: str, table: _Outcomes, moments: Sequence[Moment]) -> Iterator[str]:
    found = {seen.pair: seen.cell for seen in transfer_failures.read()}
    yield "| failure | of | " + " | ".join(moments) + " |"
    yield "| --- | --- |" + " --- |" * len(moments)
    for kind, place in table:
        cells = [found.get((transfer, kind, place, moment), "–") for moment in moments]
        yield f"| `{kind}` | {place} | {' | '.join(cells)} |"


def _felt(table: _Outcomes) -> Iterator[str]:
    yield "| failure | of | where it ends | noticed |"
    yield "| --- | --- | --- | --- |"
    for (kind, place), outcomes in table.items():
        for outcome in dict.fromkeys(outcomes.values()):
            yield f"| `{kind}` | {place} | {outcome.ending} | {outcome.felt} |"


def _move_steps() -> str:
    """Return a page with a table for each order of the steps."""
    return (
        f"<!-- Written by `{COMMAND}` from `experiments/run/move_steps.py`; change that. -->\n"
        f"# {_as_page(move_steps.__doc__ or '')}\n"
        "A failure `during` a moment begins when the move has reached it, before the next step.\n\n"
        "## With `hold`\n\n"
        + _steps(HOLDING)
        + "\n## Without\n\n"
        + _steps(PLAIN)
        + "\n## A cold move\n\n"
        + _steps(COLD)
        + "\n## A take-over\n\n"
        + _steps(TAKE_OVER)
    )


def _task_steps() -> str:
    """Return a page with the steps of a task's move, and the states of its connections."""
    lines = [
        f"<!-- Written by `{COMMAND}` from `experiments/run/task_steps.py` and "
        "`nve/task/tcp_states.py`; change those. -->",
        f"# {_as_page(task_steps.__doc__ or '')}",
        "## The steps\n",
        *("| part | step | what is done | undone |", "| --- | --- | --- | --- |"),
    ]
    parts = {
        "revocable": TASK_MOVE.revocable,
        "final": TASK_MOVE.final,
        "background": TASK_MOVE.background,
    }
    for part, steps in parts.items():
        for step in steps:
            undone = " ".join((step.undo.__doc__ or "").split()) if step.undo else ""
            lines.append(f"| {part} | {step.name} | {step.says} | {undone} |")
    lines += [
        f"\n## {_as_page(tcp_states.__doc__ or '')}",
        *("| state | fate | how |", "| --- | --- | --- |"),
    ]
    for state, fate in tcp_states.FATES.items():
        name = state.name.replace("_", "-")
        lines.append(f"| {name} | {fate.value} | {tcp_states.SAYS[state]} |")
    return "\n".join(lines) + "\n"


def _steps(table: MoveTable) -> str:
    lines = [
        "| part | step | what is done | moment | undone | patience with the overlay |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    parts = {"revocable": table.revocable, "final": table.final, "background": table.background}
    for part, steps in parts.items():
        for step in steps:
            undone = " ".join((step.undo.__doc__ or "").split()) if step.undo else ""
            cells = (step.name, step.says, step.moment or "", undone, step.patience or "")
            lines.append(f"| {part} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _mobility() -> str:
    introduction, *_ = (move_fsm.__doc__ or "").split("Who is wrong?")
    return (
        f"<!-- Written by `{COMMAND}` from `controller/core/move_fsm.py`; change that. -->\n"
        f"# {_as_page(introduction)}\n"
        "## The whole table\n\n"
        f"```mermaid\n{move_fsm.diagram()}```\n\n"
        "| phase | event | next phase | step |\n"
        "| --- | --- | --- | --- |\n"
        + "".join(
            f"| {phase} | {event} | {successor} | {'' if step is MoveAction.NOTHING else step} |\n"
            for (phase, event), (successor, step) in TRANSITIONS.items()
        )
        + "\nExpected repeats, which change nothing: "
        + ", ".join(sorted(f"{event} when {phase}" for phase, event in REPEATS))
        + ".\n\nAnything else is out of turn: it is refused, and nothing changes.\n\n"
        "## After the NVA has started again\n\n"
        "| phase | what becomes of the move | whose confirmation it needs |\n| --- | --- | --- |\n"
        + "".join(
            f"| {phase} | {becomes} | {AWAITED[phase].value if phase in AWAITED else ''} |\n"
            for phase, becomes in AFTER_RESTART.items()
        )
    )


def _as_page(docstring: str) -> str:
    """Return a module's docstring as Markdown: its first sentence is the heading, tables are
    kept.
    """
    heading, rest = re.split(r"\.(?!\S)", docstring, maxsplit=1)
    parts = []
    for paragraph in rest.strip().split("\n\n"):
        indented = paragraph.startswith("    ")
        parts.append(f"```\n{paragraph.rstrip()}\n```" if indented else paragraph.strip())
    return f"{heading}\n\n" + "\n\n".join(part for part in parts if part) + "\n"


if __name__ == "__main__":
    for place, text in pages().items():
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text, encoding="utf-8")
