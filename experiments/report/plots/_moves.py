"""Draws moves in figures: their phases, their names, and which of many are shown."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import ConnectionPatch, Patch
from matplotlib.transforms import ScaledTranslation

from experiments.measure import totals
from experiments.measure.attribution import settled_ns
from experiments.measure.trace import MoveTrace
from experiments.report.plots import _style
from experiments.report.plots._runs import TracedRun
from experiments.report.plots._style import FAINT, INK, Preset

NAMES = {
    "move-requested": "requested",
    "move-refused": "refused",
    "pre-associated": "pre-associated at {nve}",
    "move-prepared": "destination prepared",
    "move-redirected": "source redirects",
    "vm-paused": "VM paused",
    "last-packets-not-awaited": "last packets not awaited",
    "nic-flipped": "NIC at {nve}",
    "vm-resumed": "VM resumed",
    "post-copy-finished": "all its pages there",
    "vm-lost": "VM lost",
    "announced": "announced ({form})",
    "announcement-lost": "announcement lost",
    "mapping-updated": "mapping updated",
    "mapping-confirmed": "mapping confirmed",
    "entry-expired": "{nve}: entry expired",
    "entry-pulled": "{nve}: entry pulled",
    "paths-changed": "paths changed",
    "hold-given-up": "holding given up",
    "move-converged": "converged",
    "in-flight-ended": "in-flight rule ended",
    "move-rolled-back": "rolled back",
    "move-failed": "failed",
    "move-undone": "undone",
    "move-completed": "completed",
}
"""The events that a close-up numbers, and their names in its list."""
OF_TAKE_OVER = {"move-redirected": "its former server fenced", "vm-resumed": "standby takes over"}
"""What some of them are in a take-over, in which `NOT_IN_TAKE_OVER` mean nothing."""
NOT_IN_TAKE_OVER = frozenset({"vm-paused", "in-flight-ended"})


_FORMS = {
    "garp": "gratuitous ARP",
    "garp-reply": "gratuitous ARP reply",
    "na": "unsolicited NA",
    "na-solicited": "solicited NA",
    "rarp": "RARP",
    "both": "ARP and NA",
}
"""The forms of announcements, as protocols call them."""


class Details(dict[str, Any]):
    """The details of an event for its text; an unknown one is a question mark."""

    def __init__(self, details: Mapping[str, Any]) -> None:
        super().__init__(details)
        if self.get("form") in _FORMS:
            self["form"] = _FORMS[self["form"]]

    def __missing__(self, key: str) -> str:
        return "?"


def named(move: MoveTrace, latest_ns: int | None = None) -> list[tuple[int, str]]:
    """Return the time and the name of each event of a move that a close-up shows."""
    names = NAMES
    if move.is_take_over:
        names = {name: words for name, words in NAMES.items() if name not in NOT_IN_TAKE_OVER}
        names |= OF_TAKE_OVER
    return [
        (event.t_ns, names[event.name].format_map(Details(event.details)))
        for event in move.events
        if event.name in names and (latest_ns is None or event.t_ns <= latest_ns)
    ]


def route(move: MoveTrace) -> str:
    said = [
        *(["take-over"] if move.is_take_over else []),
        *([] if move.outcome == "completed" else [move.outcome]),
    ]
    ending = f" ({', '.join(said)})" if said else ""
    return f"{move.vm} {move.source_nve}→{move.destination_nve}{ending}"


def shown(run: TracedRun, most: int) -> list[MoveTrace]:
    """Return the moves of a run to be drawn in detail: all, or of many those that did most
    damage.
    """
    if len(run.moves) <= most:
        return run.moves
    told = totals.worst(run.result.metrics, most)
    chosen = [move for move in run.moves if move.number in told]
    return chosen or run.moves[:most]


def phases(move: MoveTrace) -> list[tuple[int, int, str]]:
    """Return begin, end and colour of each phase: preparing, paused, settling.

    A refused move has none; one that was rolled back before it suspended the VM has no pause.
    Before a standby has taken over, nothing runs that could be paused.
    """
    if move.outcome == "refused":
        return []
    paused_ns = None if move.is_take_over else move.time_of("vm-paused")
    ended_ns = move.time_of("vm-resumed", "move-rolled-back", "move-failed", "move-undone")
    settled = settled_ns(move)
    if move.is_take_over:
        began_ns = max(ended_ns or settled, move.requested_ns)
        return [
            (move.requested_ns, began_ns, _style.TAKING_OVER),
            (began_ns, max(settled, began_ns), _style.SETTLING),
        ]
    if paused_ns is None:
        return [(move.requested_ns, max(ended_ns or settled, move.requested_ns), _style.PREPARING)]
    resumed_ns = max(ended_ns or settled, paused_ns)
    return [
        (move.requested_ns, paused_ns, _style.PREPARING),
        (paused_ns, resumed_ns, _style.PAUSED),
        (resumed_ns, max(settled, resumed_ns), _style.SETTLING),
    ]


PHASES = {
    _style.PREPARING: "being prepared",
    _style.PAUSED: "VM paused",
    _style.SETTLING: "until converged",
    _style.TAKING_OVER: "standby being started",
}
"""The colours of phases, and what they are called."""


def phase_handles(moves: Iterable[MoveTrace]) -> list[Artist]:
    """Return the legend's entries: each colour that these moves have, and the line of a refusal."""
    moves = list(moves)
    shaded = {colour for move in moves for _, _, colour in phases(move)}
    handles: list[Artist] = [
        Patch(color=each, label=name) for each, name in PHASES.items() if each in shaded
    ]
    if any(move.outcome == "refused" for move in moves):
        handles.append(Line2D([], [], color=FAINT, linestyle=":", label="move refused"))
    return handles


def shade(axes: Axes, moves: Iterable[MoveTrace], origin_ns: int, unit_ns: float) -> None:
    """Shade the phases of moves behind the rest of the drawing."""
    for move in moves:
        for start_ns, end_ns, colour in phases(move):
            axes.axvspan(
                (start_ns - origin_ns) / unit_ns,
                (end_ns - origin_ns) / unit_ns,
                color=colour,
                linewidth=0,
                zorder=-2 if colour != _style.PAUSED else -1,
            )
        if move.outcome == "refused":
            at = (move.requested_ns - origin_ns) / unit_ns
            axes.axvline(at, color=FAINT, linestyle=":", zorder=-1)


def name_moves(
    axes: Axes, preset: Preset, run: TracedRun, part: float, raised_pt: float = 0.0
) -> None:
    """Write the name of each move above its request, `raised_pt` above the axes.

    If there is no room for that, write the numbers, and of moves that are close together only the
    first and the last.  `part` is the part of the figure's width that the axes have.
    """
    first_s, last_s = axes.get_xlim()
    per_character_s = (last_s - first_s) / preset.characters(part)

    def fitting(words: Callable[[MoveTrace], str]) -> list[tuple[float, str]]:
        found, taken_s = [], first_s
        for move in run.moves:
            at_s, name = run.seconds(move.requested_ns), words(move)
            end_s = at_s + per_character_s * (len(name) + 1)
            if at_s >= taken_s and end_s <= last_s:
                found.append((at_s, name))
                taken_s = end_s
        return found

    named = fitting(route)
    if len(named) < len(run.moves):
        asked = [(run.seconds(move.requested_ns), move.number) for move in run.moves]
        bunches = bunched(asked, per_character_s)
        named = [
            (at_s, words)
            for at_s, words in bunches
            if first_s <= at_s and at_s + per_character_s * len(words) <= last_s
        ]
    for at_s, words in named:
        axes.annotate(
            words,
            (at_s, 1.0),
            xycoords=axes.get_xaxis_transform(),
            xytext=(1, 1 + raised_pt),
            textcoords="offset points",
            fontsize=preset.small_pt,
            color=INK,
            va="bottom",
        )


def bunched(asked: Iterable[tuple[float, int]], per_character_s: float) -> list[tuple[float, str]]:
    """Return labels for numbers at these times: `3`, or `1–10` for those that would overlap."""
    found: list[tuple[float, str, list[int]]] = []
    for at_s, number in sorted(asked):
        if found and at_s < found[-1][0] + per_character_s * (len(found[-1][1]) + 1):
            began_s, _, numbers = found.pop()
            numbers = [*numbers, number]
            found.append((began_s, f"{min(numbers)}–{max(numbers)}", numbers))
        else:
            found.append((at_s, str(number), [number]))
    return [(at_s, words) for at_s, words, _ in found]


def label_above(
    axes: Axes, labels: Sequence[tuple[float, str]], preset: Preset, part: float
) -> None:
    """Write labels above the axes, at places from 0 to 1, in order, each with a line to its place.

    Labels that would overlap are moved apart.  `part` is the part of the figure's width that the
    axes have.
    """
    raised = axes.transAxes + ScaledTranslation(
        0, preset.small_pt * 0.8 / 72, axes.figure.dpi_scale_trans
    )
    longest = max((len(label) for _, label in labels), default=1)
    apart = numbers_apart([place for place, _ in labels], (longest + 1.3) / preset.characters(part))
    for (place, label), at in zip(labels, apart, strict=True):
        leader = ConnectionPatch(
            (place, 1.0), (at, 1.0), axes.transAxes, raised, color=FAINT, linewidth=0.5
        )
        leader.set_in_layout(False)
        axes.add_artist(leader)
        axes.text(
            *(at, 1.0, label), transform=raised, fontsize=preset.small_pt, ha="center", va="bottom"
        )


def numbers_apart(places: Sequence[float], least: float) -> list[float]:
    """Return places within 0 to 1, in order, moved as little as needed to be at least `least`
    apart.
    """
    least = min(least, 1 / max(len(places) - 1, 1))
    bunches: list[list[float]] = []  # less their own number times `least`, where each belongs
    for number, place in enumerate(places):
        bunches.append([place - number * least])
        while len(bunches) > 1 and _mean(bunches[-2]) > _mean(bunches[-1]):
            last = bunches.pop()
            bunches[-1] += last
    moved = [_mean(bunch) for bunch in bunches for _ in bunch]
    highest = 1 - (len(places) - 1) * least
    return [min(max(at, 0.0), highest) + number * least for number, at in enumerate(moved)]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
