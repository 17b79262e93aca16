"""Failures that a scenario asks for, and take-overs by standbys, as marks in figures.

What is the same has the same letter in all panels of a figure, and one line in its legend; its
times are where its lines are.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from string import ascii_uppercase
from typing import Literal, TypeAlias

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from experiments.measure.trace import TraceEvent
from experiments.report.plots import _moves
from experiments.report.plots._runs import TracedRun
from experiments.report.plots._style import INK, Preset

WORDS = {
    # kind of failure: what is said when it begins, and when it ends; {part} is what it concerns
    "control-cut": ("{part}: control network cut", "{part}: control network back"),
    "control-slow": ("control network slower", "control network as before"),
    "control-lossy": ("{part}: control network loses packets", "{part}: control network as before"),
    "underlay-partition": ("{part} cut off from the underlay", "{part} back in the underlay"),
    "server-full": ("{part}: disk of its server full", "{part}: room on its server again"),
    "underlay-lossy": ("{part}: underlay loses packets", "{part}: underlay as before"),
}
Line: TypeAlias = Literal["--", ":", "-."]
DIES = ("{part} dies", "{part} is back")
"""The words of every kind of failure whose name ends with `-dies`, also of overlays' own kinds."""
OTHERS = ("{kind} begins ({part})", "{kind} over ({part})")
BEGIN: Line = "--"
END: Line = ":"
TAKE_OVER: Line = "-."
"""The lines of the three kinds of mark."""
MOST = 8
"""How many are told apart; the rest share the last letter."""
REST = "further failures and take-overs"


@dataclass(frozen=True)
class Incident:
    """A failure, its end, or a take-over."""

    t_ns: int
    words: str
    line: Line


def of_failure(event: TraceEvent) -> Incident:
    """Return what `failure-injected` or `failure-ended` says."""
    kind, begins = str(event.details.get("kind", "?")), event.name == "failure-injected"
    parts = event.subject.split(", ")
    part = event.subject if len(parts) < 3 else f"{len(parts)} NVEs"
    others = DIES if kind.endswith("-dies") else OTHERS
    begin, end = (words.replace("{kind}", kind) for words in WORDS.get(kind, others))
    words = (begin if begins else end).format(part=part)
    t_ns = int(event.details.get("began_ns", event.t_ns))
    return Incident(t_ns, words, BEGIN if begins else END)


def of_run(run: TracedRun) -> list[Incident]:
    """Return the failures and take-overs of a run, in the order of time."""
    found = [
        of_failure(event)
        for event in run.result.events
        if event.name in ("failure-injected", "failure-ended")
    ]
    for move in run.moves:
        resumed_ns = move.time_of("vm-resumed")
        if move.is_take_over and resumed_ns is not None:
            found.append(Incident(resumed_ns, "a standby takes over", TAKE_OVER))
    found += [
        Incident(event.t_ns, "a hot standby goes on alone", TAKE_OVER)
        for event in run.result.events
        if event.name == "instance-alone"
    ]
    return sorted(found, key=lambda each: each.t_ns)


def letters(runs: Iterable[TracedRun]) -> dict[str, str]:
    """Return the letter of each thing that happened in these runs, in the order in which they
    happened first.
    """
    words = list(dict.fromkeys(each.words for run in runs for each in of_run(run)))
    return {
        each: ascii_uppercase[min(place, MOST - 1) if len(words) > MOST else place]
        for place, each in enumerate(words)
    }


def handles(runs: Sequence[TracedRun]) -> list[Artist]:
    """Return the legend's entries: the letter and the words of each thing that happened."""
    lines = {each.words: each.line for run in runs for each in of_run(run)}
    by_letter: dict[str, list[str]] = {}
    for words, letter in letters(runs).items():
        by_letter.setdefault(letter, []).append(words)
    return [
        Line2D(
            [],
            [],
            color=INK,
            linestyle=lines[words[0]],
            label=f"{letter}: {words[0] if len(words) == 1 else REST}",
        )
        for letter, words in by_letter.items()
    ]


def draw_lines(axes: Axes, run: TracedRun, preset: Preset) -> None:
    for each in of_run(run):
        axes.axvline(
            run.seconds(each.t_ns),
            color=INK,
            linestyle=each.line,
            linewidth=preset.line_pt * 0.7,
            zorder=1,
        )


def name_lines(
    axes: Axes, run: TracedRun, named: dict[str, str], preset: Preset, part: float
) -> None:
    """Write the letter of each above its line; `part` is the part of the figure's width that the
    axes have.
    """
    first_s, last_s = axes.get_xlim()
    places: list[tuple[float, str]] = []
    width = 2.5 / preset.characters(part)
    for each in of_run(run):
        place, letter = (run.seconds(each.t_ns) - first_s) / (last_s - first_s), named[each.words]
        repeated = any(place - at < width for at, other in places if other == letter)
        if 0 <= place <= 1 and not repeated:
            places.append((place, letter))
    _moves.label_above(axes, places, preset, part)
