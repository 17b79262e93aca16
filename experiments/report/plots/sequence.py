"""The messages of one move, drawn from the trace: sender, receiver and content, in the order of
time.

`MESSAGES` gives the sender and receiver of each event.  Rows are events, not time: the time of each
is written beside it, counted from the request.  An event that the table does not have stands on the
life line of the part that reported it.
"""

from collections.abc import Iterator

import pandas as pd
from matplotlib.figure import Figure

from experiments.measure.results import Result
from experiments.measure.trace import OUTCOMES, MoveTrace, TraceEvent
from experiments.report.plots import _sequence
from experiments.report.plots._moves import Details, route
from experiments.report.plots._runs import TracedRun, runs_of, title_of
from experiments.report.plots._sequence import Message
from experiments.report.plots._style import Preset

QUESTION = "Who said what to whom?"
PLACE = 35
ORCHESTRATOR, NVA, SOURCE, DESTINATION, VM, OTHERS = (
    *("orchestrator", "NVA", "source", "destination", "VM", "other NVEs"),
)
ORDER = (ORCHESTRATOR, NVA, SOURCE, DESTINATION, OTHERS, VM)
MESSAGES: dict[str, tuple[str, str, str]] = {
    # event: from, to (the same: it happens there), words; {nve} is the NVE that the event names,
    # and `@` stands for its life line
    "move-requested": (ORCHESTRATOR, NVA, "move {vm} to {to}"),
    "move-accepted": (NVA, ORCHESTRATOR, "accepted"),
    "move-refused": (NVA, ORCHESTRATOR, "refused"),
    "pre-associated": (ORCHESTRATOR, "@", "pre-associate"),
    "move-prepared": (DESTINATION, NVA, "prepared"),
    "move-redirecting": (ORCHESTRATOR, NVA, "redirect"),
    "move-redirected": (SOURCE, NVA, "redirects to {destination}"),
    "vm-paused": (ORCHESTRATOR, VM, "pause"),
    "last-packets-passed": (DESTINATION, ORCHESTRATOR, "its last packets have passed"),
    "last-packets-not-awaited": (ORCHESTRATOR, ORCHESTRATOR, "goes on without them"),
    "nic-flipped": (ORCHESTRATOR, "@", "plug its NIC in"),
    "vm-resumed": (ORCHESTRATOR, VM, "resume"),
    "announced": (VM, DESTINATION, "announces itself ({form})"),
    "announcement-lost": (VM, DESTINATION, "announcement lost"),
    "announcement-received": ("@", NVA, "reports it ({form})"),
    "rarp-answered": ("@", VM, "its IPv4 address (RARP)"),
    "mapping-updated": (NVA, NVA, "mapping updated"),
    "move-activated": (ORCHESTRATOR, NVA, "activate"),
    "mapping-confirmed": ("@", NVA, "new mapping confirmed"),
    "entry-expired": ("@", "@", "{nve}: entry expired"),
    "entry-pulled": ("@", NVA, "{nve} pulls its entry"),
    "entry-told-again": (NVA, "@", "the entry again"),
    "paths-changed": (NVA, DESTINATION, "old paths are empty"),
    "outbound-released": (DESTINATION, DESTINATION, "sends on what {vm} has sent"),
    "move-converged": (NVA, NVA, "converged"),
    "in-flight-ended": ("@", NVA, "in-flight rule ended"),
    "in-flight-before-arrival": ("@", NVA, "counted in flight"),
    "move-completed": (NVA, ORCHESTRATOR, "completed"),
    "source-nve-counted": (ORCHESTRATOR, SOURCE, "count what came late"),
    "vm-de-associated": (NVA, SOURCE, "forget {vm}"),
    "de-associated": (ORCHESTRATOR, SOURCE, "de-associate"),
    "de-association-refused": (NVA, ORCHESTRATOR, "refuses to de-associate"),
    "move-rolled-back": (NVA, ORCHESTRATOR, "rolled back"),
    "move-failed": (NVA, ORCHESTRATOR, "failed"),
    "move-undone": (ORCHESTRATOR, SOURCE, "undone"),
    "failure-injected": (ORCHESTRATOR, ORCHESTRATOR, "injects: {kind}"),
    "failure-ended": (ORCHESTRATOR, ORCHESTRATOR, "ends: {kind}"),
}
NOT_DRAWN = frozenset({"parts-of-pause", "redirect-in-pause"})
"""Measurements in the trace, which are no messages."""
_REPORTERS = {"runner": ORCHESTRATOR, "hypervisor": ORCHESTRATOR, "nva": NVA}
LESSER = (
    # least first
    "in-flight-before-arrival",
    "source-nve-counted",
    "entry-told-again",
    "announcement-received",
    "entry-expired",
    "move-accepted",
    "vm-de-associated",
    "entry-pulled",
    "in-flight-ended",
    "mapping-updated",
)
"""Events that are left out first where there is no room for all, after those that `MESSAGES` does
not have."""


def suits(result: Result) -> bool:
    return any(run.moves for run in runs_of(result).values())


def chosen(result: Result) -> tuple[TracedRun, MoveTrace]:
    """Return the first move that was completed, or else the first."""
    each = [(run, move) for run in runs_of(result).values() for move in run.moves]
    return next((pair for pair in each if pair[1].outcome == "completed"), each[0])


def messages(move: MoveTrace) -> Iterator[Message]:
    """Yield the rows of a move, in the order of time.

    Senders and receivers take part in the move: if there was no NVA, no message goes to it.
    """
    with_nva = any(event.source == "nva" for event in move.events)
    for event in move.events[: _end(move)]:
        if event.name in NOT_DRAWN:
            continue
        after_ms = (event.t_ns - move.requested_ns) / 1e6
        senders, receivers, words = _said(event, move)
        if not with_nva:
            there = tuple(ORCHESTRATOR if each == NVA else each for each in senders)
            receivers = tuple(there[0] if each == NVA else each for each in receivers)
            senders = there
        yield Message(after_ms, senders, receivers, words, _dispensable(event.name))


def _dispensable(event: str) -> int:
    if event not in MESSAGES:
        return len(LESSER) + 1
    return len(LESSER) - LESSER.index(event) if event in LESSER else 0


def _end(move: MoveTrace) -> int:
    """Return how many of its events belong to the move proper, without later events of entries."""
    last = [
        place
        for place, event in enumerate(move.events, start=1)
        if event.name in OUTCOMES or event.name.endswith("de-associated")
    ]
    return max(last, default=len(move.events))


def _said(event: TraceEvent, move: MoveTrace) -> tuple[tuple[str, ...], tuple[str, ...], str]:
    """Senders, receivers and words."""
    details = Details({**event.details, "vm": move.vm, "destination": move.destination_nve})
    places = _places(event, move)
    if event.name not in MESSAGES:
        at = (_REPORTERS.get(event.source, VM),)
        return at, at, event.name.replace("-", " ")
    sender, receiver, words = MESSAGES[event.name]
    said = words.format_map(details)
    if sender == "@" and receiver == "@":
        return places[:1], places[:1], said
    return (
        places if sender == "@" else (sender,),
        places if receiver == "@" else (receiver,),
        said,
    )


def _places(event: TraceEvent, move: MoveTrace) -> tuple[str, ...]:
    """Return the life lines of the NVEs that an event names."""
    named = event.details.get("nves") or [event.details.get("nve", move.destination_nve)]
    return tuple(dict.fromkeys(_life_line(str(nve), move) for nve in named)) or (DESTINATION,)


def _life_line(nve: str, move: MoveTrace) -> str:
    if nve == move.source_nve:
        return SOURCE
    return DESTINATION if nve == move.destination_nve else OTHERS


def draw(result: Result, preset: Preset) -> Figure:
    run, move = chosen(result)
    names = {line: line for line in ORDER} | {
        SOURCE: f"{move.source_nve}\n({SOURCE})",
        DESTINATION: f"{move.destination_nve}\n({DESTINATION})",
        VM: move.vm,
    }
    heading = f"{title_of(result, run)}, move {move.number}: {route(move)}"
    return _sequence.draw(list(messages(move)), names, heading, preset, _paused(move))


def _paused(move: MoveTrace) -> tuple[str, float, float] | None:
    paused_ns, resumed_ns = move.time_of("vm-paused"), move.time_of("vm-resumed")
    if paused_ns is None or resumed_ns is None:
        return None
    began_ms, ended_ms = ((t_ns - move.requested_ns) / 1e6 for t_ns in (paused_ns, resumed_ns))
    return "VM paused", began_ms, ended_ms


def caption(result: Result) -> str:
    run, move = chosen(result)
    end = move.time_of("move-completed")
    took = f", {(end - move.requested_ns) / 1e6:,.0f} ms from request to completion" if end else ""
    what = f"Move {move.number} of {title_of(result, run)} ({route(move)})"
    return _sequence.caption(list(messages(move)), what, took)


def data(result: Result) -> pd.DataFrame:
    """Return the rows of the move that is drawn."""
    return _sequence.table(messages(chosen(result)[1]))
