"""Writes the pages of the documentation that follow from tables in the code.

    .venv/bin/python docs/generate.py

`tests/unit/test_documents.py` fails when a page is not what this would write.
"""

from collections.abc import Mapping
from pathlib import Path

from controller import mobility
from controller.mobility import REPEATS, TRANSITIONS, Step

FOLDER = Path(__file__).parent
COMMAND = ".venv/bin/python docs/generate.py"


def pages() -> Mapping[Path, str]:
    """Every generated page: where it is, and its text."""
    return {FOLDER / "how-it-works/mobility.md": _mobility()}


def _mobility() -> str:
    introduction, *_ = (mobility.__doc__ or "").split("Who is wrong?")
    return (
        f"<!-- Written by `{COMMAND}` from `controller/mobility.py`; change that. -->\n"
        f"# {_as_page(introduction)}\n"
        "## The whole table\n\n"
        f"```mermaid\n{mobility.diagram()}```\n\n"
        "| phase | event | next phase | step |\n"
        "| --- | --- | --- | --- |\n"
        + "".join(
            f"| {phase} | {event} | {successor} | {'' if step is Step.NOTHING else step} |\n"
            for (phase, event), (successor, step) in TRANSITIONS.items()
        )
        + "\nExpected repeats, which change nothing: "
        + ", ".join(sorted(f"{event} when {phase}" for phase, event in REPEATS))
        + ".\n\nAnything else is out of turn: it is refused, and nothing changes.\n"
    )


def _as_page(docstring: str) -> str:
    """A module's docstring as Markdown: its first sentence is the heading, tables are kept."""
    heading, rest = docstring.split(".", 1)
    parts = []
    for paragraph in rest.strip().split("\n\n"):
        indented = paragraph.startswith("    ")
        parts.append(f"```\n{paragraph.rstrip()}\n```" if indented else paragraph.strip())
    return f"{heading}\n\n" + "\n\n".join(part for part in parts if part) + "\n"


if __name__ == "__main__":
    for place, text in pages().items():
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text, encoding="utf-8")
