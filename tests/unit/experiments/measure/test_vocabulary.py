"""Every event that somebody writes into the trace is in its vocabulary, and nothing else is.

The sources are read: a name is what is given, as a literal, to a function that takes events.  One
that gets the name from its caller is such a function itself, and has to be named in `TAKES_EVENTS`.
"""

import ast
from collections.abc import Iterator

import pytest

from controller.core.move_fsm import Phase
from experiments.measure.trace import KNOWN, OLD_NAMES
from tests.helpers.sources import READS_SOURCES, ROOT, nodes

pytestmark = READS_SOURCES

PACKAGES = ("nve", "controller", "experiments")
TAKES_EVENTS = frozenset(
    {"TraceEvent", "TraceRecord", "note", "_note", "record", "_record", "_do_and_note"}
)
"""Functions and classes that are given the name of an event."""
REFUSES = frozenset({"refuse", "_refuse", "refused_on_control", "_refused", "Improper"})
"""They are given what `refused-` is put before."""
SOURCES = frozenset({"runner", "hypervisor", "nva", "attacker"})
MADE_OF = {
    # beginning of a name that is put together: what may follow
    "move-": frozenset(Phase) - {Phase.PREPARING},  # a move is never said to be there
    "refused-": frozenset(),  # what REFUSES are given
}


def emitted(sources: dict[str, str]) -> set[str]:
    """The names of events in some sources.  Raises ValueError where one cannot be read."""
    return {
        name
        for place, source in sources.items()
        if any(name in source for name in TAKES_EVENTS | REFUSES)  # most need not be looked through
        for at, call in calls(source)
        for name in names_in(place, source, at, call)
    }


def calls(source: str) -> Iterator[tuple[ast.expr, list[ast.expr]]]:
    """What is called with what, and where: the callee, then positional arguments.

    A tuple or a `partial` that begins with a function is a call that is made later.
    """
    for node in nodes(source)[ast.Call]:
        named = [each.value for each in node.keywords if each.arg in ("name", "event")]
        call = [node.func, *node.args, *named]
        yield node, call[1:] if _name_of(node.func) == "partial" else call
    for node in nodes(source)[ast.Tuple]:
        yield node, node.elts


def names_in(place: str, source: str, at: ast.expr, call: list[ast.expr]) -> Iterator[str]:
    callee = _name_of(call[0]) if call else ""
    if callee not in TAKES_EVENTS | REFUSES:
        return
    if callee in REFUSES:
        plain: list[ast.expr] = [each for each in call[1:] if isinstance(each, ast.Constant)]
        yield from (f"refused-{what}" for what in list(_literals(plain))[:1])
    elif found := list(_literals(call[1:])):
        yield from found
    elif any(map(_may_be_a_name, call[1:])):
        function = _function_around(source, at)
        if function not in TAKES_EVENTS | REFUSES:
            raise ValueError(f"{place}: {function} tells an event whose name cannot be read")


def _function_around(source: str, node: ast.expr) -> str:
    """The name of the innermost function that a node is in; without one, it is empty."""
    around = (
        function
        for function in nodes(source)[ast.FunctionDef]
        if function.lineno <= node.lineno <= (function.end_lineno or 0)
    )
    innermost = max(around, key=lambda function: function.lineno, default=None)
    return innermost.name if innermost else ""


def _literals(arguments: list[ast.expr]) -> Iterator[str]:
    for argument in arguments:
        if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
            if argument.value and argument.value not in SOURCES:
                yield argument.value
        elif isinstance(argument, ast.JoinedStr) and isinstance(argument.values[0], ast.Constant):
            beginning = str(argument.values[0].value)
            yield from (beginning + ending for ending in MADE_OF[beginning])


def _may_be_a_name(argument: ast.expr) -> bool:
    """What is read from a record was told by somebody else."""
    return isinstance(argument, ast.Name | ast.BinOp | ast.IfExp | ast.JoinedStr)


def _name_of(function: ast.expr) -> str:
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""


def read_sources() -> dict[str, str]:
    return {
        str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        if not path.is_relative_to(ROOT / "nve/transfer")  # it notes pages, and tells no events
    }


def test_the_vocabulary_is_what_is_emitted() -> None:
    told = emitted(read_sources())
    assert sorted(told - KNOWN.keys()) == [], "add them to experiments/measure/trace.py"
    assert sorted(KNOWN.keys() - told) == [], "nobody tells these any more: OLD_NAMES, or remove"


def test_an_old_name_stands_for_one_that_is_known_and_is_told_no_more() -> None:
    assert set(OLD_NAMES.values()) <= KNOWN.keys()
    assert not OLD_NAMES.keys() & KNOWN.keys()


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("self._log.note('runner', 'run-ended')", {"run-ended"}),
        ("log.append(TraceEvent(1, 'nva', 'announced', vm, {'a-b': 1}))", {"announced"}),
        ("TraceEvent(t_ns=1, source='nva', name='announced')", {"announced"}),
        ("self._record('vm-paused', nve='a-b')", {"vm-paused"}),
        ("later(partial(self._record, 'vm-paused'))", {"vm-paused"}),
        ("act = (self._do_and_note, 'failure-ended', x)", {"failure-ended"}),
        ("violations.refuse(nve, None, 'spoofed')", {"refused-spoofed"}),
        ("def _record(event):\n    note(1, event)", set()),
        ("print('no-event')", set()),
    ],
)
def test_names_are_found(source: str, names: set[str]) -> None:
    assert emitted({"a.py": source}) == names


def test_phases_are_events_of_their_move() -> None:
    assert "move-rolled-back" in emitted({"a.py": "note(move, f'move-{move.phase}')"})


def test_a_name_that_cannot_be_read_is_not_overlooked() -> None:
    with pytest.raises(ValueError, match=r"a\.py: tell tells an event whose name cannot be read"):
        emitted({"a.py": "def tell(what):\n    log.note('runner', what)"})
