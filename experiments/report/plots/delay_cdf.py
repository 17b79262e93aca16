"""How long packets took, as a distribution: before, during and after each move.

The curves count packets that were *sent*: a curve that ends below 100 % shows what was lost.
"""

from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from experiments.measure.attribution import moves_for, windows
from experiments.measure.packets import NS_PER_MS, Int64s, Samples, flows_of, lost_mask
from experiments.measure.results import Result
from experiments.measure.trace import MoveTrace
from experiments.report.format import duration
from experiments.report.plots import _style
from experiments.report.plots._timeline import Timeline, shown_moves

SAYS = (
    "Share of the packets sent that arrived within a time; a curve that ends below 100 % lost some."
)
PLACE = 40
MOST_MOVES = 4
MOST_POINTS = 500
"""Per curve: more than a screen can show only makes the file larger."""
PHASES: dict[str, Literal[":", "-", "--"]] = {"before": ":", "during": "-", "after": "--"}


def suits(result: Result) -> bool:
    return any(Timeline(run).moves and len(run.packets) for run in result.runs.values())


def draw(result: Result) -> Figure:
    runs = dict(list(result.runs.items())[: _style.MOST_RUNS])
    moves = {name: shown_moves(run, MOST_MOVES) for name, run in runs.items()}
    rows = max(len(of_run) for of_run in moves.values())
    figure = _style.figure(4.5 + 4.5 * len(runs), 1.4 + 3.6 * rows)
    grid = figure.subplots(rows, len(runs), sharex=True, sharey=True, squeeze=False)
    looks = _style.looks(flow for run in runs.values() for flow in run.packets["flow"].unique())
    for column, (name, run) in zip(grid.T, runs.items(), strict=True):
        for axes, move in zip(column, moves[name], strict=False):
            _draw_move(axes, run, move, looks)
            axes.set_title(
                f"{name}: {move.number}: {move.vm} {move.source_nve}→{move.destination_nve}"
            )
        for unused in column[len(moves[name]) :]:
            unused.set_axis_off()
    for axes in grid[-1]:
        axes.set_xlabel("one-way delay (ms)")
    for axes in grid[:, 0]:
        axes.set_ylabel("arrived (% of sent)")
    figure.legend(handles=_handles(looks), loc="outside lower center", ncols=6)
    return figure


def _draw_move(axes: Axes, run: Result, move: MoveTrace, looks: dict[str, _style.FlowLook]) -> None:
    for colour, by_phase in _by_colour(run, move, looks).items():
        for phase, parts in by_phase.items():
            sent = sum(len(samples) for samples in parts)
            delays_ms = np.sort(np.concatenate([_delays(samples, run) for samples in parts])) / (
                NS_PER_MS
            )
            if not sent or not len(delays_ms):
                continue
            share = np.arange(1, len(delays_ms) + 1) / sent * 100
            drawn = np.linspace(0, len(delays_ms) - 1, min(len(delays_ms), MOST_POINTS)).astype(int)
            axes.step(
                delays_ms[drawn], share[drawn], where="post", color=colour, linestyle=PHASES[phase]
            )
            axes.plot(delays_ms[-1], share[-1], marker="o", markersize=5, color=colour)
    axes.set_xscale("log")
    axes.set_ylim(0, 104)
    _style.label_log_ms(axes, "x")


def _delays(samples: Samples, run: Result) -> Int64s:
    return samples.where(~lost_mask(samples, run.waiting_time_ns)).delay_ns


def _by_colour(
    run: Result, move: MoveTrace, looks: dict[str, _style.FlowLook]
) -> dict[str, dict[str, list[Samples]]]:
    """The packets of each pair of VMs (a colour) in each phase of a move that concerns them."""
    moves = Timeline(run).moves
    found: dict[str, dict[str, list[Samples]]] = {}
    for flow, samples in flows_of(run.packets).items():
        for of_flow, window in windows(moves_for(flow, moves)):
            if of_flow.number != move.number:
                continue
            phases = found.setdefault(looks[flow].colour, {phase: [] for phase in PHASES})
            phases["before"].append(samples.sent_between(window.before_ns, window.requested_ns))
            phases["during"].append(samples.sent_between(window.requested_ns, window.settled_ns))
            phases["after"].append(samples.sent_between(window.settled_ns, window.end_ns))
    return found


def _handles(looks: dict[str, _style.FlowLook]) -> list[Line2D]:
    pairs: dict[str, str] = {}
    for flow, look in looks.items():
        pairs.setdefault(look.colour, flow.partition("/")[0])
    colours = [
        Line2D([], [], color=colour, linewidth=5, label=pair) for colour, pair in pairs.items()
    ]
    phases = [
        Line2D([], [], color=_style.INK, linestyle=line, label=f"{phase} the move")
        for phase, line in PHASES.items()
    ]
    return [*phases, *colours]


def caption(result: Result) -> str:
    parts = []
    for name, run in result.runs.items():
        metrics = run.metrics
        before = metrics["delay_before_p50_ms"].max()
        slowest = metrics["delay_during_p99_ms"].max()
        lost = 100 * metrics["lost"].sum() / max(metrics["sent"].sum(), 1)
        parts.append(
            f"{name}: before a move the median is {duration(before)} at most, during one 99 % of "
            f"what arrives takes up to {duration(slowest)}; {lost:.1f} % never arrived."
        )
    return " ".join(parts)
