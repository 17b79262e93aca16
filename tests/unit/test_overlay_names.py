"""Nobody but an overlay, its edge and the NVA names one: another one is added without a change."""

import ast
import re
from collections.abc import Iterator, Mapping
from itertools import chain

import pytest

from tests.helpers.sources import READS_SOURCES, ROOT, is_within, nodes, read_packages

pytestmark = READS_SOURCES

OVERLAYS_NAMED_BY = re.compile(
    r"(?<![A-Za-z])(?:NVA|Nva|nva)(?![a-z])|nvo3|flood.and.learn"
    r"|(?<![a-z])ovs|OVS|Ovs|[Oo]pen.?v.?[Ss]witch|[Oo]pen.?[Ff]low|OPENFLOW"
)
"""What only an overlay, its edge and the NVA have to do with."""
NO_OVERLAY_NAMED = ("experiments", "topologies", "nve.edge", "nve.hypervisor")
MAY_NAME_OVERLAYS: Mapping[str, str] = {
    # module or room: why
    "experiments.overlays": "here they are",
    "experiments.needs": "the table that the doctor shows: programs by package, kernel features",
    "experiments.measure.kernel_counters": "the table of what the machine may drop, and where",
    "experiments.measure.trace": "the vocabulary of recorded traces, whoever has told an event",
    "experiments.report.plots.sequence": "that vocabulary as messages: who told whom",
}


def overlays_named(sources: Mapping[str, str]) -> list[str]:
    """Where a name or a text of a module names an overlay, an NVA or Open vSwitch."""
    return [
        f"{module}, line {line}: {text}"
        for module, source in sorted(sources.items())
        if any(is_within(module, room) for room in NO_OVERLAY_NAMED)
        and not any(is_within(module, room) for room in MAY_NAME_OVERLAYS)
        for line, text in words_of(source)
        if OVERLAYS_NAMED_BY.search(text)
    ]


def words_of(source: str) -> Iterator[tuple[int, str]]:
    """The names and the texts in a module, docstrings among them, with their lines."""
    for node in chain.from_iterable(nodes(source).values()):
        line = getattr(node, "lineno", 0)
        match node:
            case ast.Constant(value=str(text)):
                yield from enumerate(text.splitlines(), start=line)
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.arg(arg=name):
                yield line, name
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                yield line, name
            case ast.Import(names=names):
                yield from ((line, alias.name) for alias in names)
            case ast.ImportFrom(module=module, names=names):
                yield from ((line, f"{module}.{alias.name}") for alias in names)
            case ast.keyword(arg=str(name)):
                yield line, name


def test_nobody_names_an_overlay() -> None:
    """A new one needs no change outside its file, its edge and its tests."""
    assert overlays_named(read_packages()) == []
    templates = {
        path.name: path.read_text(encoding="utf-8")
        for path in (ROOT / "experiments/report/templates").iterdir()
    }
    assert [name for name, text in templates.items() if OVERLAYS_NAMED_BY.search(text)] == []


def test_who_may_name_overlays_is_there_and_does() -> None:
    """An exception that is not needed any more goes."""
    packages = read_packages()
    for room in MAY_NAME_OVERLAYS:
        within = (text for module, text in packages.items() if is_within(module, room))
        assert any(OVERLAYS_NAMED_BY.search(text) for text in within), room


@pytest.mark.parametrize(
    "source",
    [
        "from experiments.overlays.nvo3 import nva",
        "from nve.ovs.bridge import OvsInstance",
        "import nve.ovs",
        "def f(switch):\n    switch.ovs_version()",
        "say('starting the NVA')",
        "class NvaError(Exception): ...",
        "def f():\n    '''Asks Open vSwitch.'''",
        "kind = 'flood-and-learn'",
        "send(openflow=1)",
    ],
)
def test_an_overlay_that_is_named_is_seen(source: str) -> None:
    assert overlays_named({"experiments.run.lab": source})
    assert not overlays_named({"experiments.overlays.nvo3.nva": source})


def test_other_words_name_no_overlay() -> None:
    innocent = "moves = canvas = invalid = 'it removes what is invalid'"
    assert not overlays_named({"experiments.run.lab": innocent})
