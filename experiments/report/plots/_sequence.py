"""Sequence diagrams: sender, receiver and content, a row for each message, in the order of time.

Rows are not to scale: the time of each is written beside it.  If there are more rows than fit, the
least important are left out first, and the figure says how many.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from experiments.report.format import things
from experiments.report.plots import _style
from experiments.report.plots._style import Preset

MOST_ROWS = 34
_HEAD_EM, _MARGIN_EM = 3.4, 5.5
"""The heights of the names of the life lines, and of the title with the last line, in sizes of the
text."""

_STILL = "#e4e4e4"
"""The background of messages while the VM or the task is suspended."""


@dataclass(frozen=True)
class Message:
    """One row: a message, or something that happened at one place if the senders are the
    receivers.
    """

    after_ms: float
    senders: tuple[str, ...]
    receivers: tuple[str, ...]
    words: str
    dispensable: int = 0
    """Rows with the highest number are left out first; those with 0, never."""

    @property
    def own(self) -> bool:
        """Whether it is told to nobody else."""
        return self.senders == self.receivers

    @property
    def ends(self) -> set[str]:
        return {*self.senders, *self.receivers}


def draw(
    rows: Sequence[Message],
    names: Mapping[str, str],
    heading: str,
    preset: Preset,
    still: tuple[str, float, float] | None = None,
) -> Figure:
    """Draw a sequence diagram.

    `names` holds the texts above the life lines, from left to right.  `still` is what was
    suspended, and from when until when (ms).
    """
    shown = fitting(rows, preset)
    lines = _life_lines(shown, names)
    shown = [replace(row, words=_wrapped(row, lines, preset)) for row in shown]
    heights = [_height_em(row, preset) for row in shown]
    left_out = len(rows) - len(shown)
    figure = _style.figure(preset, (sum(heights) + _HEAD_EM + _MARGIN_EM) * preset.em_in)
    axes = figure.subplots()
    _style.title(axes, preset, heading, 0.95)
    ends = [sum(heights[: number + 1]) for number in range(len(heights))]
    bottom = ends[-1] + 0.9 if ends else 1.0
    _draw_life_lines(axes, lines, names, bottom, preset)
    band = _still(shown, ends, *still[1:]) if still else None
    if still and band:
        axes.axhspan(*band, color=_STILL, linewidth=0, zorder=-1)
        _style.legend(figure, preset, [Patch(color=_STILL, label=still[0])])
    for row, at_em in zip(shown, ends, strict=True):
        within = band and band[0] < at_em <= band[1]
        _draw_row(axes, row, at_em, lines, preset, _STILL if within else "white")
    axes.set_xlim(-0.5, len(lines) - 0.5)
    axes.set_ylim(bottom + (1.5 if left_out else 0), -_HEAD_EM)
    axes.set_yticks(ends, [f"{row.after_ms:,.1f}" for row in shown])
    axes.set_ylabel("ms")
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_visible(False)
    axes.grid(visible=False)
    for side in axes.spines.values():
        side.set_visible(False)
    if left_out:
        words = f"{left_out} lesser events are not drawn"
        axes.text(-0.5, bottom + 1.5, words, fontsize=preset.small_pt, va="bottom")
    return figure


def _still(
    rows: Sequence[Message], ends: Sequence[float], from_ms: float, until_ms: float
) -> tuple[float, float] | None:
    """Return the heights of the first and the last row of a suspension, or None if it has no
    rows.
    """
    within = [
        at_em
        for row, at_em in zip(rows, ends, strict=True)
        if from_ms - 1e-6 <= row.after_ms <= until_ms + 1e-6
    ]
    return (within[0], within[-1]) if len(within) > 1 else None


def fitting(rows: Sequence[Message], preset: Preset) -> list[Message]:
    """Return as many rows as there is room for.

    The least important are left out first, and of these the later ones; if all are important, the
    last.
    """
    shown = list(rows)
    while len(shown) > 1 and not _fits(shown, preset):
        least = max(row.dispensable for row in shown)
        shown.pop(max(place for place, row in enumerate(shown) if row.dispensable == least))
    return shown


def _fits(rows: Sequence[Message], preset: Preset) -> bool:
    lines = _life_lines(rows, dict.fromkeys(name for row in rows for name in row.ends))
    whole = [replace(row, words=_wrapped(row, lines, preset)) for row in rows]
    height_em = sum(_height_em(row, preset) for row in whole) + _HEAD_EM + _MARGIN_EM
    return len(rows) <= MOST_ROWS and height_em * preset.em_in <= preset.most_height_in


def _life_lines(rows: Iterable[Message], names: Iterable[str]) -> dict[str, float]:
    """Return the position of each life line that has messages."""
    used = {name for row in rows for name in row.ends}
    return {name: float(place) for place, name in enumerate(n for n in names if n in used)}


def _wrapped(row: Message, lines: Mapping[str, float], preset: Preset) -> str:
    """Return the text of a row, wrapped to its arrow or the room beside it in lines of similar
    length.
    """
    at = [lines[name] for name in row.ends]
    between = _characters_between(len(lines), preset)
    if row.own:
        room = int(max(len(lines) - 0.65 - max(at), min(at) + 0.35) * between)
    else:
        room = int((max(at) - min(at)) * between)
    if len(row.words) <= room:
        return row.words
    most = 2 if len(row.words) <= 2.6 * room else 3
    longest = max(len(word) for word in row.words.split())
    tries = (_style.wrapped(row.words, n, 99) for n in range(longest, len(row.words) + 1))
    return next(words for words in tries if words.count("\n") < most)


def _characters_between(lines: int, preset: Preset) -> float:
    """Return how many characters fit between two life lines."""
    return preset.characters(0.88) / max(lines, 1)


def _height_em(row: Message, preset: Preset) -> float:
    extra = row.words.count("\n") * 1.25 * preset.small_pt / preset.text_pt
    return (1.45 if preset.name == "slide" else 1.75) + extra


def _draw_life_lines(
    axes: Axes,
    lines: Mapping[str, float],
    names: Mapping[str, str],
    bottom: float,
    preset: Preset,
) -> None:
    room = int(_characters_between(len(lines), preset) * 0.88)  # bold characters are wider
    for line, place in lines.items():
        words = "\n".join(_broken(part, room) for part in names[line].split("\n"))
        axes.text(
            place, -1.9, words, ha="center", va="center", fontsize=preset.small_pt, weight="bold"
        )
        axes.plot([place, place], [-0.3, bottom], color=_style.FAINT, linewidth=0.7, zorder=0)


def _broken(name: str, room: int) -> str:
    """Return a name, broken in two if it does not fit above its line."""
    if len(name) <= room:
        return name
    short = name.replace("destination", "dest.")
    return short if len(short) <= room else short.replace(" ", "\n").replace("hestra", "hes-\ntra")


def _draw_row(
    axes: Axes,
    row: Message,
    at_em: float,
    lines: Mapping[str, float],
    preset: Preset,
    behind: str,
) -> None:
    at = [lines[name] for name in row.ends]
    if row.own:
        for place in at:
            axes.plot(place, at_em, marker="s", markersize=preset.small_pt * 0.45, color=_style.INK)
    for start in row.senders:
        for stop in row.receivers:
            if start != stop:
                axes.annotate(
                    "",
                    (lines[stop], at_em),
                    xytext=(lines[start], at_em),
                    arrowprops={
                        "arrowstyle": "-|>",
                        "color": _style.colour(0),
                        "linewidth": preset.line_pt * 0.9,
                        "shrinkA": 0,
                        "shrinkB": 0,
                        "mutation_scale": preset.small_pt,
                    },
                )
    longest = max(len(part) for part in row.words.split("\n"))
    width = longest / _characters_between(len(lines), preset)
    left, right = -0.48, len(lines) - 0.52
    middle = (min(at) + max(at)) / 2
    x, alignment = middle, "center"
    if row.own:
        beside = max(at) + 0.1 + width <= right
        x, alignment = (max(at) + 0.1, "left") if beside else (min(at) - 0.1, "right")
    elif middle - width / 2 < left:
        x, alignment = left, "left"
    elif middle + width / 2 > right:
        x, alignment = right, "right"
    axes.text(
        x,
        at_em + 0.5 * preset.small_pt / preset.text_pt - 0.08 if row.own else at_em - 0.22,
        row.words,
        ha=alignment,
        va="bottom",
        fontsize=preset.small_pt,
        linespacing=1.05,
        bbox={"facecolor": behind, "edgecolor": "none", "pad": 0.1, "alpha": 0.85},
        zorder=3,
    )


def caption(rows: Sequence[Message], what: str, took: str) -> str:
    """`what` is drawn, and how long it `took`, in words."""
    spoken = sum(not row.own for row in rows)
    left_out = len(rows) - len(fitting(rows, _style.PRESETS["screen"]))
    cut = f" {things(left_out, 'lesser event')} of it are not drawn." if left_out else ""
    return (
        f"{what}: {things(spoken, 'message')}{took}. Rows are events in order of time; the numbers "
        f"are milliseconds after the request.{cut}"
    )


def table(rows: Iterable[Message]) -> pd.DataFrame:
    """Return all rows, also those for which there is no room."""
    return pd.DataFrame(
        [
            (row.after_ms, ", ".join(row.senders), ", ".join(row.receivers), row.words)
            for row in rows
        ],
        columns=["after_request_ms", "from", "to", "message"],
    )
