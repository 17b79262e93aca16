"""Packets drawn against time: a panel of delays, and beneath it a strip of what was lost.

The strip has a lane for each flow, with its name and its marker beside it, which makes it the
legend of the panel above it, too.  More flows than can be told apart are one: the median and the
range of their delays, and how many packets they lost together.
"""

from collections.abc import Sequence

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from experiments.report.plots import _style
from experiments.report.plots._runs import FlowLooks, RunGroup, TracedRun, binned
from experiments.report.plots._style import FAINT, Preset

BINS = 240
_LANE = 1.25
"""The height of a lane, in units of the text size."""


def many(looks: FlowLooks, group: RunGroup) -> bool:
    """Return whether a panel is a summary: of repeats, or of more flows than can be told apart."""
    return len(group.runs) > 1 or len(looks) > _style.MOST_TOLD_APART


def strip_in(looks: FlowLooks, group: RunGroup, preset: Preset) -> float:
    """Return the height of the strip below a panel, in inches."""
    lanes = 3 if many(looks, group) else max(len(looks), 2)
    return (lanes * _LANE + 0.4) * preset.em_in


def delay_range_ms(runs: Sequence[TracedRun]) -> tuple[float, float]:
    """Return the smallest and the largest delay of all runs."""
    low, high = [], []
    for run in runs:
        for samples in run.flows.values():
            if len(delays := samples.delay_ns):
                low.append(delays.min() / 1e6)
                high.append(delays.max() / 1e6)
    return (max(min(low), 1e-3), max(max(high), 2e-3)) if low else (0.1, 10.0)


def draw_delays(
    axes: Axes,
    group: RunGroup,
    looks: FlowLooks,
    preset: Preset,
    window_s: tuple[float, float],
    *,
    origin_s: float = 0.0,
    unit_s: float = 1.0,
) -> None:
    """Draw the delays of the packets sent within the window, counted from `origin_s` in units of
    `unit_s`.

    Both are in seconds; times count from the beginning of the traffic.
    """
    if many(looks, group):
        _draw_summary(axes, group, window_s, origin_s, unit_s)
        return
    run = group.runs[0]
    for flow in run.flows:
        sent_s, delay_ms = run.delays(flow)
        here = (sent_s >= window_s[0]) & (sent_s <= window_s[1])
        pair, place = looks.numbers[flow]
        axes.plot(
            (sent_s[here] - origin_s) / unit_s,
            delay_ms[here],
            linestyle="none",
            marker=_style.marker(place),
            markersize=preset.marker_pt,
            markeredgewidth=0,
            color=_style.colour(pair),
            alpha=0.55,
            rasterized=True,
        )


def _draw_summary(
    axes: Axes, group: RunGroup, window_s: tuple[float, float], origin_s: float, unit_s: float
) -> None:
    parts = [run.delays(flow) for run in group.runs for flow in run.flows]
    at_s, delay_ms = (
        (np.concatenate([each[n] for each in parts]) for n in (0, 1))
        if parts
        else (
            np.array([]),
            np.array([]),
        )
    )
    edges = np.linspace(*window_s, BINS + 1)
    middle, low, high = binned(at_s, delay_ms, edges)
    centre = ((edges[:-1] + edges[1:]) / 2 - origin_s) / unit_s
    there = ~np.isnan(middle)
    axes.fill_between(
        centre[there], low[there], high[there], color=_style.colour(0), alpha=0.25, linewidth=0
    )
    axes.plot(centre[there], middle[there], color=_style.colour(0))


def summary_handles() -> list[Artist]:
    """Return the legend's entries for a panel that is a summary."""
    return [
        Line2D([], [], color=_style.colour(0), label="median delay"),
        Patch(color=_style.colour(0), alpha=0.25, linewidth=0, label="range of delays"),
    ]


def lost_handle(preset: Preset) -> Line2D:
    """Return the legend's entry for the marks of the strip."""
    return Line2D(
        [],
        [],
        linestyle="none",
        marker="|",
        markersize=preset.text_pt * 0.8,
        markeredgewidth=preset.line_pt * 0.6,
        color=_style.INK,
        label="packet lost",
    )


def draw_lost(
    axes: Axes,
    group: RunGroup,
    looks: FlowLooks,
    preset: Preset,
    window_s: tuple[float, float],
    *,
    origin_s: float = 0.0,
    unit_s: float = 1.0,
) -> None:
    """Draw the strip: a mark at the time of sending for each lost packet."""
    axes.grid(visible=False, axis="y")
    if many(looks, group):
        _count_lost(axes, group, window_s, origin_s, unit_s)
        return
    run = group.runs[0]
    labels = []
    for lane, (flow, (pair, place)) in enumerate(looks.numbers.items()):
        labels.append(flow)
        colour = _style.colour(pair)
        axes.axhline(lane, color=_style.GRID, linewidth=0.6, zorder=0)
        axes.plot(
            [0],
            [lane],
            transform=axes.get_yaxis_transform(),
            marker=_style.marker(place),
            markersize=preset.small_pt * 0.5,
            color=colour,
            clip_on=False,
            linestyle="none",
        )
        if flow in run.flows:
            lost_s = run.lost_s(flow)
            lost_s = lost_s[(lost_s >= window_s[0]) & (lost_s <= window_s[1])]
            axes.plot(
                (lost_s - origin_s) / unit_s,
                np.full(len(lost_s), lane),
                linestyle="none",
                marker="|",
                markersize=preset.text_pt * 0.8,
                markeredgewidth=preset.line_pt * 0.6,
                color=colour,
                rasterized=len(lost_s) > 300,
            )
    axes.set_ylim(max(len(looks), 1) - 0.4, -0.6)
    axes.set_yticks(range(len(labels)), labels)
    axes.tick_params(axis="y", length=0, pad=preset.small_pt * 0.6)


def _count_lost(
    axes: Axes, group: RunGroup, window_s: tuple[float, float], origin_s: float, unit_s: float
) -> None:
    edges = np.linspace(*window_s, BINS + 1)
    parts = [run.lost_s(flow) for run in group.runs for flow in run.flows]
    counted, _ = np.histogram(np.concatenate(parts) if parts else [], edges)
    per_run = counted / len(group.runs)
    axes.fill_between(
        (edges[:-1] - origin_s) / unit_s, per_run, step="post", color=_style.colour(1), linewidth=0
    )
    axes.set_ylim(0, max(float(per_run.max(initial=0)) * 1.1, 1))
    _style.linear(axes, "y", 2)
    axes.set_ylabel("lost")
    axes.spines["bottom"].set_color(FAINT)
