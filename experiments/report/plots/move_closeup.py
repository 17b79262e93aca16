"""The moments around each move: delay and loss against the time since the VM was resumed."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.measure.attribution import settled_ns
from experiments.measure.packets import NS_PER_MS, Samples, flows_of, lost_mask
from experiments.measure.results import Result
from experiments.measure.trace import MoveTrace
from experiments.report.narrative import what_happened
from experiments.report.plots import _style
from experiments.report.plots._timeline import (
    NAME_LINES,
    NS_PER_S,
    Timeline,
    draw_events,
    shade_pause,
    shown_moves,
)

SAYS = (
    "Each move from close by: delay of every packet, lost packets, and the events that explain it."
)
PLACE = 20
MOST_MOVES = 4
_LANE = 1.25
"""Lost packets are marked below the smallest delay, a lane per flow, each this much lower."""
_MARGIN = 0.12
"""What is shown before and after a move, as a part of its length."""


def suits(result: Result) -> bool:
    return any(Timeline(run).moves and len(run.packets) for run in result.runs.values())


def draw(result: Result) -> Figure:
    runs = dict(list(result.runs.items())[: _style.MOST_RUNS])
    shown = {name: shown_moves(run, MOST_MOVES) for name, run in runs.items()}
    columns = max(len(moves) for moves in shown.values())
    looks = _style.looks(flow for run in runs.values() for flow in run.packets["flow"].unique())
    figure = _style.figure(5 + 5 * columns, 1.2 + 4.2 * len(runs))
    grid = figure.subplots(len(runs), columns, sharey=True, squeeze=False)
    floor_ms, ceiling_ms = _delay_range_ms(list(runs.values()))
    for row, (name, run) in zip(grid, runs.items(), strict=True):
        moves = shown[name]
        for axes, move in zip(row, moves, strict=False):
            _draw_move(axes, run, move, looks, floor_ms)
            axes.set_title(
                f"{name}: {move.number}: {move.vm} {move.source_nve}→{move.destination_nve}",
                pad=8 + 14 * NAME_LINES,
            )
        for unused in row[len(moves) :]:
            unused.set_axis_off()
        row[0].set_ylabel("one-way delay (ms)")
    grid[0][0].set_ylim(floor_ms / _LANE ** (len(looks) + 1), ceiling_ms * 1.6)
    for axes in grid[-1]:
        axes.set_xlabel("time since the VM was resumed (s)")
    figure.legend(
        handles=_style.handles(looks),
        loc="outside lower center",
        ncols=_style.legend_columns(looks),
    )
    return figure


def _draw_move(
    axes: Axes, run: Result, move: MoveTrace, looks: dict[str, _style.FlowLook], floor_ms: float
) -> None:
    origin_ns = move.time_of("vm-resumed", "move-rolled-back", "move-failed") or move.requested_ns
    begin_ns, end_ns = move.requested_ns, settled_ns(move)
    margin_ns = round(max(_MARGIN * (end_ns - begin_ns), 0.05 * NS_PER_S))
    shown_from_ns, shown_to_ns = begin_ns - margin_ns, end_ns + margin_ns
    shade_pause(axes, move, origin_ns)
    for lane, (flow, samples) in enumerate(flows_of(run.packets).items()):
        shown = samples.sent_between(shown_from_ns, shown_to_ns)
        look = looks[flow]
        _draw_points(axes, shown, look, origin_ns)
        lost_ns = shown.sent_ns[lost_mask(shown, run.waiting_time_ns)]
        axes.plot(
            (lost_ns - origin_ns) / NS_PER_S,
            np.full(len(lost_ns), floor_ms / _LANE ** (lane + 1)),
            linestyle="none",
            marker="|",
            markersize=6,
            color=look.colour,
            rasterized=True,
        )
    axes.set_xlim((shown_from_ns - origin_ns) / NS_PER_S, (shown_to_ns - origin_ns) / NS_PER_S)
    axes.set_yscale("log")
    axes.axhline(floor_ms / 1.12, color=_style.FAINT, linewidth=0.9)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}" if value >= floor_ms else "")
    axes.annotate(
        "lost",
        (0.0, floor_ms / 1.12),
        xycoords=axes.get_yaxis_transform(),
        xytext=(3, -3),
        textcoords="offset points",
        fontsize=10,
        va="top",
        color=_style.INK,
    )
    draw_events(axes, move, origin_ns, latest_ns=shown_to_ns)


def _draw_points(axes: Axes, samples: Samples, look: _style.FlowLook, origin_ns: int) -> None:
    axes.plot(
        (samples.sent_ns[samples.arrived] - origin_ns) / NS_PER_S,
        samples.delay_ns / NS_PER_MS,
        linestyle="none",
        marker=look.marker,
        markersize=3,
        markeredgewidth=0,
        color=look.colour,
        alpha=0.6,
        rasterized=True,
    )


def _delay_range_ms(runs: list[Result]) -> tuple[float, float]:
    """The smallest and the largest delay of all runs; lost packets are drawn below the smallest."""
    delays = [samples.delay_ns for run in runs for samples in flows_of(run.packets).values()]
    together = np.concatenate([*delays, np.array([], dtype=np.int64)])
    if not len(together):
        return 0.1, 1.0
    return max(float(together.min()) / NS_PER_MS, 1e-3), float(together.max()) / NS_PER_MS


def caption(result: Result) -> str:
    many = any(len(Timeline(run).moves) > MOST_MOVES for run in result.runs.values())
    which = [f"Of many moves, the {MOST_MOVES} that harmed most."] if many else []
    return " ".join([*which, *what_happened(result)])
