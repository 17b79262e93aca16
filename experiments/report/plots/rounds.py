"""The progress of moves of state: what was left to send after each round, until the VM had all of
it.

Each move is drawn from its own beginning: a marker where a round has ended, as in the figures of
QEMU's guestperf.  The VM was suspended where a line is thick; where it is dotted, the VM ran at the
destination without what was left.  The lower panel shows how much the guest was throttled.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from experiments.measure.results import Result
from experiments.report.format import duration, things
from experiments.report.plots import _style
from experiments.report.plots._runs import runs_of
from experiments.report.plots._style import Preset
from nve.guest.spec import MB

QUESTION = "How did each move of state come to its end?"
PLACE = 36
MOST_MOVES = 6
_STANDS_STILL, _RESUMED_FIRST = "device", "postcopy-active"
_PAGES_PER_MB = 256
_ENDS = {"converged": ", converged", "forced": ", forced", "post-copy": "", "asked": ""}
"""What is said of the end of a transfer; that of post-copy and stop-and-copy is in their names."""


@dataclass(frozen=True)
class _Moved:
    """One move and its rounds."""

    label: str
    rounds: pd.DataFrame
    pause_ms: float

    @property
    def points(self) -> list[tuple[float, float, str]]:
        """Seconds since it began, megabytes left, and the VM's status, at the end of each round."""
        rounds = self.rounds
        began_s = (rounds["began_ns"] - rounds["began_ns"].iloc[0]) / 1e9
        ended_s = began_s + rounds["took_ms"] / 1e3
        left_mb = rounds["remaining_bytes"] / MB + self._kept_mb
        return list(zip(ended_s, left_mb, rounds["status"], strict=True))

    @property
    def before_mb(self) -> float:
        """Megabytes to send before the first round."""
        return float(self.rounds["normal_pages"].iloc[0]) / _PAGES_PER_MB + self._kept_mb.iloc[0]

    @property
    def _kept_mb(self) -> "pd.Series[float]":
        """After each round, what is not counted as left because it is sent only when the VM stands
        still: with `stop-and-copy`, the memory while the disk goes ahead.
        """
        rounds = self.rounds
        still = rounds["status"] == _STANDS_STILL
        ahead_is_over = rounds["remaining_bytes"].shift(1) == 0
        kept = (rounds["normal_pages"] / _PAGES_PER_MB).where(still & ahead_is_over, 0.0)
        return kept[::-1].cumsum()[::-1].shift(-1, fill_value=0.0)


def suits(result: Result) -> bool:
    return 0 < len(_moved(result)) <= MOST_MOVES


def _moved(result: Result) -> list[_Moved]:
    found: list[_Moved] = []
    for name, run in runs_of(result).items():
        rounds = run.result.iterations
        if rounds is None:
            continue
        for move in run.result.metrics.drop_duplicates("move").to_dict("records"):
            mine = rounds[rounds["move"] == move["move"]]
            if not len(mine) or pd.isna(move["pause_ms"]):
                continue
            end = _ENDS.get(str(move["transfer_end"]), f", {move['transfer_end']}")
            label = f"{move['move']}: {move['vm']}, {move['transfer']}{end}"
            label = f"{name}, {label}" if len(result.runs) > 1 else label
            found.append(_Moved(label, mine, float(move["pause_ms"])))
    return found


def data(result: Result) -> pd.DataFrame:
    """Return a row for each end of a round."""
    return pd.DataFrame(
        [
            {"move": moved.label, "at_s": at_s, "left_mb": left_mb, "status": status}
            for moved in _moved(result)
            for at_s, left_mb, status in moved.points
        ]
    )


def draw(result: Result, preset: Preset) -> Figure:
    moved = _moved(result)
    throttled = any((each.rounds["cpu_throttle_percentage"] > 0).any() for each in moved)
    figure = _style.figure(preset, (32 if throttled else 24) * preset.em_in)
    heights = [3, 1] if throttled else [1]
    grid = figure.subplots(len(heights), 1, sharex=True, squeeze=False, height_ratios=heights)
    panels = list(grid[:, 0])
    for number, each in enumerate(moved):
        _draw_left(panels[0], each, number, preset)
        if (each.rounds["cpu_throttle_percentage"] > 0).any():
            _draw_throttle(panels[1], each, number)
    panels[0].set_ylabel("left to send (MiB)")
    panels[0].set_ylim(bottom=0)
    _style.linear(panels[0], "y", 6)
    if throttled:
        panels[1].set_ylabel("throttled (%)")
        panels[1].set_ylim(0, 100)
        _style.linear(panels[1], "y", 3)
    panels[-1].set_xlabel("time since the first round began (s)")
    panels[-1].set_xlim(left=0)
    _style.linear(panels[-1], "x", 6 if preset.narrow else 10)
    _style.legend(figure, preset, _handles(moved, preset))
    return figure


def _draw_left(axes: Axes, moved: _Moved, number: int, preset: Preset) -> None:
    colour, before = _style.colour(number), (0.0, moved.before_mb)
    for at_s, left_mb, status in moved.points:
        axes.plot(
            *((before[0], at_s), (before[1], left_mb)),
            color=colour,
            linestyle=":" if status == _RESUMED_FIRST else "-",
            linewidth=preset.line_pt * (3 if status == _STANDS_STILL else 1),
            solid_capstyle="butt",
            zorder=2,
        )
        before = (at_s, left_mb)
    points = moved.points
    axes.plot(
        [at_s for at_s, _, _ in points],
        [left_mb for _, left_mb, _ in points],
        linestyle="none",
        marker=_style.marker(number),
        markersize=preset.marker_pt * 2,
        color=colour,
        clip_on=False,
        zorder=3,
    )


def _draw_throttle(axes: Axes, moved: _Moved, number: int) -> None:
    ends = np.array([0.0, *(at_s for at_s, _, _ in moved.points)])
    values = moved.rounds["cpu_throttle_percentage"].to_numpy(dtype=float)
    axes.stairs(values, ends, color=_style.colour(number), baseline=None)


def _handles(moved: Sequence[_Moved], preset: Preset) -> list[Line2D]:
    handles = [_style.point_handle(number, each.label, preset) for number, each in enumerate(moved)]
    for handle in handles:
        handle.set_linestyle("-")
    looks: Mapping[str, Mapping[str, object]] = {
        "VM stands still": {"linewidth": preset.line_pt * 3},
        "VM runs at the destination without it": {"linestyle": ":"},
    }
    needed = {"VM stands still"}
    if any((each.rounds["status"] == _RESUMED_FIRST).any() for each in moved):
        needed.add("VM runs at the destination without it")
    for label, look in looks.items():
        if label in needed:
            handles.append(Line2D([], [], color=_style.INK, label=label, **look))  # type: ignore[arg-type]
    return handles


def caption(result: Result) -> str:
    return " ".join(
        f"{each.label}: {things((each.rounds['status'] == 'active').sum(), 'round')} while the VM "
        f"ran, and a pause of {duration(each.pause_ms)}."
        for each in _moved(result)
    )
