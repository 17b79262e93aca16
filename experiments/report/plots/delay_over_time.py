"""One-way delay of every packet over the whole run, lost packets below, moves drawn in."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.measure.attribution import FlowEndpoints
from experiments.measure.packets import NS_PER_MS, Int64s, flows_of, lost_mask
from experiments.measure.results import Result
from experiments.report.format import count, listing
from experiments.report.plots import _style
from experiments.report.plots._timeline import Timeline, draw_moves

SAYS = "One-way delay of every packet over time, and beneath it every packet that was lost."
PLACE = 10
MOST_POINTS, SLOWEST_POINTS = 20_000, 4_000
"""Per flow."""


def suits(result: Result) -> bool:
    return any(len(run.packets) for run in result.runs.values())


def draw(result: Result) -> Figure:
    runs = dict(list(result.runs.items())[: _style.MOST_RUNS])
    looks = _style.looks(flow for run in runs.values() for flow in run.packets["flow"].unique())
    lanes = len(looks)
    figure = _style.figure(13, 1.2 + len(runs) * (2.9 + 0.17 * lanes))
    grid = figure.subplots(
        2 * len(runs),
        1,
        sharex=True,
        squeeze=False,
        gridspec_kw={"height_ratios": [2.9, 0.17 * lanes + 0.2] * len(runs), "hspace": 0.02},
    )[:, 0]
    delays, losses = grid[0::2], grid[1::2]
    for later in delays[1:]:
        later.sharey(delays[0])
    for (name, run), delay_axes, loss_axes in zip(runs.items(), delays, losses, strict=True):
        timeline = Timeline(run)
        _draw_delays(delay_axes, run, timeline, looks)
        _draw_losses(loss_axes, run, timeline, looks)
        draw_moves(delay_axes, timeline, titled=True)
        draw_moves(loss_axes, timeline, titled=False)
        delay_axes.set_title(name)
    _make_room_for_titles(delays[0])
    losses[-1].set_xlabel("time since the traffic began (s); grey: the VM stands still")
    figure.legend(
        handles=_style.handles(looks), loc="outside upper right", ncols=_style.legend_columns(looks)
    )
    figure.align_ylabels()
    return figure


def _draw_delays(
    axes: Axes, run: Result, timeline: Timeline, looks: dict[str, _style.FlowLook]
) -> None:
    for flow, samples in flows_of(run.packets).items():
        drawn = _worth_drawing(samples.delay_ns)
        sent_s = (samples.sent_ns[samples.arrived] - timeline.start_ns) / 1e9
        axes.plot(
            sent_s[drawn],
            samples.delay_ns[drawn] / NS_PER_MS,
            linestyle="none",
            marker=looks[flow].marker,
            markersize=2.5,
            markeredgewidth=0,
            color=looks[flow].colour,
            alpha=0.5,
            rasterized=True,
        )
    axes.set_yscale("log")
    axes.set_ylabel("one-way\ndelay (ms)")
    _style.label_log_ms(axes, "y")


def _worth_drawing(delays_ns: Int64s) -> Int64s:
    """All packets; of very many every n-th, and those that are slow: they are what one seeks."""
    if len(delays_ns) <= MOST_POINTS:
        return np.arange(len(delays_ns))
    usual = np.arange(0, len(delays_ns), -(-len(delays_ns) // MOST_POINTS))
    return np.union1d(usual, np.argsort(delays_ns)[-SLOWEST_POINTS:])


def _draw_losses(
    axes: Axes, run: Result, timeline: Timeline, looks: dict[str, _style.FlowLook]
) -> None:
    """One lane per flow: a mark where a packet that was lost would have been sent."""
    flows = flows_of(run.packets)
    for lane, (flow, look) in enumerate(looks.items()):
        if flow in flows:
            samples = flows[flow]
            lost_ns = samples.sent_ns[lost_mask(samples, run.waiting_time_ns)]
            lane_y = np.full(len(lost_ns), lane)
            axes.plot(
                (lost_ns - timeline.start_ns) / 1e9,
                lane_y,
                linestyle="none",
                marker="|",
                markersize=8,
                color=look.colour,
                rasterized=True,
            )
    axes.set_ylim(len(looks) - 0.4, -0.6)
    axes.set_yticks(range(len(looks)), list(looks), fontsize=9)
    axes.set_ylabel("lost")
    axes.grid(visible=False, axis="y")


def _make_room_for_titles(axes: Axes) -> None:
    bottom, top = axes.get_ylim()
    axes.set_ylim(bottom, top * (top / bottom) ** 0.15)


def caption(result: Result) -> str:
    parts = []
    for name, run in result.runs.items():
        lost = {
            flow: int(lost_mask(samples, run.waiting_time_ns).sum())
            for flow, samples in flows_of(run.packets).items()
        }
        total = sum(lost.values())
        if not total:
            parts.append(f"{name}: all {count(len(run.packets))} packets arrived.")
            continue
        worst = max(lost, key=lambda flow: lost[flow])
        behind = run.homes.get(FlowEndpoints.of(worst).source)
        parts.append(
            f"{name}: {count(total)} of {count(len(run.packets))} packets were lost, most of them "
            f"({count(lost[worst])}) in {worst}" + (f", sent behind {behind}." if behind else ".")
        )
    drawn = list(result.runs)[: _style.MOST_RUNS]
    if len(drawn) < len(result.runs):
        parts.append(f"Drawn are {listing(drawn)}.")
    return " ".join(parts)
