"""The whole run against time: the delay of every packet, what was lost, TCP, and the moves."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from experiments.measure.attribution import FlowEndpoints
from experiments.measure.packets import NS_PER_MS
from experiments.measure.results import Result
from experiments.report.format import count, listing, things
from experiments.report.plots import _incidents, _moves, _packets, _style, _throughput
from experiments.report.plots._runs import (
    NS_PER_S,
    FlowLooks,
    RunGroup,
    flow_looks,
    groups_of,
    runs_of,
)
from experiments.report.plots._style import Preset

QUESTION = "What happened to the traffic?"
PLACE = 20
_FITS = 1.25
"""Up to this factor, a lack of height is met by lower panels."""


def suits(result: Result) -> bool:
    return any(run.flows for run in runs_of(result).values())


def _shown(groups: Sequence[RunGroup], preset: Preset) -> list[RunGroup]:
    """Return the groups, as many as fit; of more, those that lost most."""
    across = _across(len(groups), preset)
    by_loss = sorted(groups, key=_lost, reverse=True)
    rows = min(preset.panels, -(-len(groups) // across))
    while rows > 1 and _height_in(by_loss[: rows * across], across, preset) > _FITS * (
        preset.most_height_in
    ):
        rows -= 1
    chosen = by_loss[: rows * across]
    return [group for group in groups if group in chosen]


def _across(groups: int, preset: Preset) -> int:
    """Return how many groups are drawn side by side."""
    if preset.name == "slide":
        return min(groups, 2)
    return 1 if preset.narrow or groups <= 2 else 2


def _block_in(groups: Sequence[RunGroup], across: int, preset: Preset) -> list[float]:
    """Return the heights of a group's panels: delays, losses, and TCP if it is drawn."""
    strips = [
        _packets.strip_in(looks, group, preset)
        for looks, group in zip(_looks(groups), groups, strict=True)
    ]
    panel = (14 if preset.narrow or across > 1 else 18) * preset.em_in
    return [panel, max(strips), *([7 * preset.em_in] if _with_tcp(groups) else [])]


def _with_tcp(groups: Sequence[RunGroup]) -> bool:
    """Return whether TCP is drawn; for many runs it has a figure of its own."""
    runs = (run for group in groups for run in group.runs)
    return len(groups) <= 2 and any(_throughput.of_run(run) is not None for run in runs)


def _height_in(groups: Sequence[RunGroup], across: int, preset: Preset) -> float:
    down = -(-len(groups) // across)
    block = sum(_block_in(groups, across, preset))
    above = 3 + 3.4 * any(_incidents.of_run(group.runs[0]) for group in groups)
    legend = _style.legend_in(preset, _handles(groups, len(groups) + 1, preset))
    return down * (block + above * preset.em_in) + legend + 3 * preset.em_in


def _looks(groups: Sequence[RunGroup]) -> list[FlowLooks]:
    """Return the looks of flows, the same in all runs if all their flows can be told apart."""
    together = flow_looks(run for group in groups for run in group.runs)
    if len(together) <= _style.MOST_TOLD_APART:
        return [together] * len(groups)
    return [flow_looks(group.runs) for group in groups]


def _lost(group: RunGroup) -> float:
    whole = sum(int(lost.sum()) for run in group.runs for lost in run.lost.values())
    return whole / len(group.runs)


def draw(result: Result, preset: Preset) -> Figure:
    all_groups = groups_of(result)
    groups = _shown(all_groups, preset)
    across = _across(len(all_groups), preset)
    runs = [run for group in groups for run in group.runs]
    looks = _looks(groups)
    with_tcp, block = _with_tcp(groups), _block_in(groups, across, preset)
    down = -(-len(groups) // across)
    figure = _style.figure(preset, _height_in(groups, across, preset))
    grid = figure.subplots(
        down * len(block), across, sharex=True, squeeze=False, height_ratios=block * down
    )
    end_s = max(run.end_s for run in runs)
    low, high = _packets.delay_range_ms(runs)
    most_mbit = _throughput.most_mbit_per_s(runs)
    letters = _incidents.letters(runs)
    for number, group in enumerate(groups):
        row, column = divmod(number, across)
        panels = list(grid[row * len(block) : (row + 1) * len(block), column])
        _draw_group(panels, group, looks[number], preset, end_s, 0.7 / across, letters)
        _style.log(panels[0], "y", low / 1.3, high * 1.3, 5)
        if with_tcp:
            panels[2].set_ylim(0, most_mbit * 1.15)
        rows_above = bool(group.runs[0].moves) + bool(_incidents.of_run(group.runs[0])) * 1.3
        pad = preset.small_pt * 1.6 * rows_above or None
        _style.title(panels[0], preset, group.title, 0.75 / across, pad=pad)
        if column == 0:
            panels[0].set_ylabel("delay (ms)")
            if with_tcp:
                panels[2].set_ylabel("TCP\nMbit/s")
        elif looks[number] == looks[number - 1] and not _packets.many(looks[number], group):
            panels[1].tick_params(labelleft=False)
        _hide_inner_labels(panels, last=number + across >= len(groups))
    if len(groups) % across:
        for unused in grid[-len(block) :, -1]:
            unused.set_axis_off()
    for axes in grid.flat:
        _style.linear(axes, "x", 6 if preset.narrow or across > 1 else 12)
    _style.legend(figure, preset, _handles(groups, len(all_groups), preset))
    return figure


def _handles(groups: Sequence[RunGroup], of_groups: int, preset: Preset) -> list[Artist]:
    """Return the entries of the legend of these groups out of `of_groups`."""
    runs = [run for group in groups for run in group.runs]
    handles: list[Artist] = [_packets.lost_handle(preset)]
    handles += _moves.phase_handles(move for run in runs for move in run.moves)
    handles += _incidents.handles(runs)
    looks = _looks(groups)
    if any(_packets.many(mine, group) for mine, group in zip(looks, groups, strict=True)):
        handles += _packets.summary_handles()
    if _with_tcp(groups):
        handles += _throughput.handles(runs, preset)
    if len(groups) < of_groups:
        words = f"{len(groups)} of {of_groups} runs"
        handles.append(Line2D([], [], linestyle="none", label=words))
    return handles


def _draw_group(
    panels: Sequence[Axes],
    group: RunGroup,
    looks: FlowLooks,
    preset: Preset,
    end_s: float,
    part: float,
    letters: dict[str, str],
) -> None:
    first = group.runs[0]
    panels[0].set_xlim(0, end_s)
    _packets.draw_delays(panels[0], group, looks, preset, (0, end_s))
    _packets.draw_lost(panels[1], group, looks, preset, (0, end_s))
    if len(panels) > 2:
        _throughput.draw(panels[2], group, preset)
    for axes in panels:
        _moves.shade(axes, first.moves, first.start_ns, 1e9)
        _incidents.draw_lines(axes, first, preset)
    panels[0].set_xlim(0, end_s)
    _incidents.name_lines(panels[0], first, letters, preset, part)
    if first.moves:
        raised_pt = preset.small_pt * 2.1 if _incidents.of_run(first) else 0.0
        _moves.name_moves(panels[0], preset, first, part, raised_pt)


def _hide_inner_labels(panels: Sequence[Axes], *, last: bool) -> None:
    """Write times only below the last panel of each column."""
    for axes in panels:
        axes.tick_params(labelbottom=last and axes is panels[-1])
    if last:
        panels[-1].set_xlabel("time since the traffic began (s)")


def caption(result: Result) -> str:
    parts = []
    for name, run in runs_of(result).items():
        lost = {flow: int(mask.sum()) for flow, mask in run.lost.items()}
        total, sent = sum(lost.values()), sum(len(samples) for samples in run.flows.values())
        if not total:
            parts.append(f"{name}: all {things(sent, 'packet')} arrived.")
            continue
        worst = max(lost, key=lambda flow: lost[flow])
        behind = run.result.homes.get(FlowEndpoints.of(worst).source)
        parts.append(
            f"{name}: {count(total)} of {count(sent)} packets were lost, most of them "
            f"({count(lost[worst])}) in {worst}" + (f", sent behind {behind}." if behind else ".")
        )
    groups = groups_of(result)
    if any(len(group.runs) > 1 for group in groups):
        parts = [_about_pooled(group) for group in groups]
    shown = _shown(groups, _style.PRESETS["screen"])
    if len(shown) < len(groups):
        parts.append(f"Drawn are {listing([group.label for group in shown])}.")
    return " ".join(parts)


def _about_pooled(group: RunGroup) -> str:
    lost = [sum(int(mask.sum()) for mask in run.lost.values()) for run in group.runs]
    sent = sum(len(samples) for run in group.runs for samples in run.flows.values())
    return (
        f"{group.label}: {things(len(group.runs), 'run')} of {count(sent / len(group.runs))} "
        f"packets lost {count(float(np.median(lost)))} in the median, {count(min(lost))} to "
        f"{count(max(lost))}. The line is the median delay of all of them, the band its range."
    )


def data(result: Result) -> pd.DataFrame:
    """Return when every packet was sent, and its delay, which is empty if it was lost.

    This includes packets that the figure leaves out because there are many.
    """
    rows = []
    for name, run in runs_of(result).items():
        for flow, samples in run.flows.items():
            lost = run.lost[flow]
            delay_ms = (samples.received_ns - samples.sent_ns) / NS_PER_MS
            table = {
                "run": name,
                "flow": flow,
                "sent_s": np.round((samples.sent_ns - run.start_ns) / NS_PER_S, 9),
                "delay_ms": np.where(lost, np.nan, np.round(delay_ms, 6)),
            }
            rows.append(pd.DataFrame(table))
    return pd.concat(rows, ignore_index=True) if rows else pd.DataFrame()
