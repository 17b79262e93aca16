"""The messages of one move, drawn from the trace: who said what to whom, in the order of time.

`MESSAGES` says of each event whose message it is.  Rows are events, not time: the time of each is
written beside it, counted from the request.  An event that the table does not know stands on the
life line of whoever reported it.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.measure.results import Result
from experiments.measure.trace import OUTCOMES, MoveTrace, TraceEvent
from experiments.report.plots import _style
from experiments.report.plots._moves import _Details, route
from experiments.report.plots._runs import TracedRun, runs_of, title_of
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
    "move-prepared": (NVA, DESTINATION, "prepared"),
    "move-redirecting": (ORCHESTRATOR, NVA, "redirect"),
    "move-redirected": (NVA, SOURCE, "redirect what comes for {vm}"),
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
    "entry-pulled": ("@", NVA, "{nve} asks, gets the new entry"),
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
"""Measurements in the trace, which nobody says to anybody."""
_REPORTERS = {"runner": ORCHESTRATOR, "hypervisor": ORCHESTRATOR, "nva": NVA}
MOST_ROWS = 34


@dataclass(frozen=True)
class Message:
    """One row: what was said, or what happened where `sender` is `receiver`."""

    after_ms: float
    sender: str
    receivers: tuple[str, ...]
    words: str


def suits(result: Result) -> bool:
    return any(run.moves for run in runs_of(result).values())


def chosen(result: Result) -> tuple[TracedRun, MoveTrace]:
    """The first move that was completed; if none was, the first."""
    each = [(run, move) for run in runs_of(result).values() for move in run.moves]
    return next((pair for pair in each if pair[1].outcome == "completed"), each[0])


def messages(move: MoveTrace) -> Iterator[Message]:
    """The rows of a move, in the order of time.  Everything is said by somebody who is there: where
    no NVA took part, nobody speaks to it."""
    with_nva = any(event.source == "nva" for event in move.events)
    for event in move.events[: _end(move)]:
        if event.name in NOT_DRAWN:
            continue
        after_ms = (event.t_ns - move.requested_ns) / 1e6
        sender, receivers, words = _said(event, move)
        if not with_nva:
            sender = ORCHESTRATOR if sender == NVA else sender
            receivers = tuple(sender if each == NVA else each for each in receivers)
        yield Message(after_ms, sender, receivers, words)


def _end(move: MoveTrace) -> int:
    """How many of its events belong to the move proper: what entries do after its end does not."""
    last = [
        place
        for place, event in enumerate(move.events, start=1)
        if event.name in OUTCOMES or event.name.endswith("de-associated")
    ]
    return max(last, default=len(move.events))


def _said(event: TraceEvent, move: MoveTrace) -> tuple[str, tuple[str, ...], str]:
    details = _Details({**event.details, "vm": move.vm})
    places = _places(event, move)
    if event.name not in MESSAGES:
        at = _REPORTERS.get(event.source, VM)
        return at, (at,), event.name.replace("-", " ")
    sender, receiver, words = MESSAGES[event.name]
    said = words.format_map(details)
    if sender == "@" and receiver == "@":
        return places[0], (places[0],), said
    if sender == "@":  # all of them say the same: drawn as one row with an arrow from each
        return receiver, tuple(places), f"{said}\0"
    return sender, tuple(places) if receiver == "@" else (receiver,), said


def _places(event: TraceEvent, move: MoveTrace) -> list[str]:
    """The life lines of the NVEs that an event names."""
    named = event.details.get("nves") or [event.details.get("nve", move.destination_nve)]
    return list(dict.fromkeys(_life_line(str(nve), move) for nve in named)) or [DESTINATION]


def _life_line(nve: str, move: MoveTrace) -> str:
    if nve == move.source_nve:
        return SOURCE
    return DESTINATION if nve == move.destination_nve else OTHERS


def draw(result: Result, preset: Preset) -> Figure:
    run, move = chosen(result)
    every = list(messages(move))
    rows = every[: _most(preset)]
    used = {name for row in rows for name in (row.sender, *row.receivers)}
    lines = [name for name in ORDER if name in used]
    row_em = 1.45 if preset.name == "slide" else 1.75
    figure = _style.figure(preset, (len(rows) * row_em + 7) * preset.em_in)
    axes = figure.subplots()
    _style.title(axes, preset, f"{title_of(result, run)}, move {move.number}: {route(move)}", 0.95)
    _draw_life_lines(axes, lines, move, len(rows), preset)
    places = {name: float(place) for place, name in enumerate(lines)}
    for number, row in enumerate(rows):
        _draw_row(axes, row, number, places, preset)
    if len(rows) < len(every):
        words = f"and {len(every) - len(rows)} more events"
        axes.text(0, len(rows) - 0.2, words, fontsize=preset.small_pt, va="center")
    axes.set_xlim(-0.5, len(lines) - 0.5)
    axes.set_ylim(len(rows) + 0.2, -2.5)
    axes.set_yticks(range(len(rows)), [f"{row.after_ms:,.1f}" for row in rows])
    axes.set_ylabel("ms")
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_visible(False)
    axes.grid(visible=False)
    for side in axes.spines.values():
        side.set_visible(False)
    return figure


def _most(preset: Preset) -> int:
    row_em = 1.45 if preset.name == "slide" else 1.75
    return min(MOST_ROWS, int((preset.most_height_in / preset.em_in - 7) / row_em))


def _draw_life_lines(
    axes: Axes, lines: Iterable[str], move: MoveTrace, rows: int, preset: Preset
) -> None:
    names = {SOURCE: move.source_nve, DESTINATION: move.destination_nve, VM: move.vm}
    for place, line in enumerate(lines):
        words = (
            f"{names[line]}\n({line})" if line in names and line != VM else names.get(line, line)
        )
        if preset.narrow:
            words = words.replace("orchestrator", "orches-\ntrator").replace(
                "other NVEs", "other\nNVEs"
            )
            words = words.replace("(destination)", "(dest.)")
        axes.text(
            place, -1.55, words, ha="center", va="center", fontsize=preset.small_pt, weight="bold"
        )
        axes.plot([place, place], [-0.75, rows - 0.4], color=_style.FAINT, linewidth=0.7, zorder=0)


def _draw_row(
    axes: Axes, row: Message, number: int, places: dict[str, float], preset: Preset
) -> None:
    inwards = row.words.endswith("\0")
    at = places[row.sender]
    ends = [places[name] for name in row.receivers]
    own = ends == [at]
    for end in ends:
        if own:
            axes.plot(at, number, marker="s", markersize=preset.small_pt * 0.45, color=_style.INK)
        elif end != at:
            start, stop = (end, at) if inwards else (at, end)
            axes.annotate(
                "",
                (stop, number),
                xytext=(start, number),
                arrowprops={
                    "arrowstyle": "-|>",
                    "color": _style.colour(0),
                    "linewidth": preset.line_pt * 0.9,
                    "shrinkA": 0,
                    "shrinkB": 0,
                    "mutation_scale": preset.small_pt,
                },
            )
    words = row.words.rstrip("\0")
    width = len(words) / preset.characters(0.84) * len(places)
    left, right = -0.48, len(places) - 0.52
    middle = at if own else (min([at, *ends]) + max([at, *ends])) / 2
    x, alignment = middle, "center"
    if own:
        beside = at + 0.1 + width <= right
        x, alignment = (at + 0.1, "left") if beside else (at - 0.1, "right")
    elif middle - width / 2 < left:
        x, alignment = left, "left"
    elif middle + width / 2 > right:
        x, alignment = right, "right"
    axes.text(
        x,
        number if own else number - 0.1,
        words,
        ha=alignment,
        va="center" if own else "bottom",
        fontsize=preset.small_pt,
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.3, "alpha": 0.85},
        zorder=3,
    )


def caption(result: Result) -> str:
    run, move = chosen(result)
    rows = list(messages(move))
    spoken = [row for row in rows if row.receivers != (row.sender,)]
    end = move.time_of("move-completed")
    took = f", {(end - move.requested_ns) / 1e6:,.0f} ms from request to completion" if end else ""
    drawn = min(len(rows), _most(_style.PRESETS["screen"]))
    cut = f" Drawn are the first {drawn} of {len(rows)} events." if drawn < len(rows) else ""
    return (
        f"Move {move.number} of {title_of(result, run)} ({route(move)}): {len(spoken)} messages"
        f"{took}. Rows are events in order of time; the numbers are milliseconds after the "
        f"request.{cut}"
    )


def data(result: Result) -> pd.DataFrame:
    """The rows of the move that is drawn."""
    _, move = chosen(result)
    rows = []
    for row in messages(move):
        inwards = row.words.endswith("\0")
        there = ", ".join(row.receivers)
        ends = (there, row.sender) if inwards else (row.sender, there)
        rows.append((row.after_ms, *ends, row.words.rstrip("\0")))
    return pd.DataFrame(rows, columns=["after_request_ms", "from", "to", "message"])
