"""How long packets took before, during and after moves, as distributions.

Curves count packets that were *sent*.  The upper panel has the share that arrived within a time: a
curve that ends below 100 % lost some.  The lower panel has the share that took longer or never
arrived, on a log scale, for the few that are slow.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from experiments.measure.attribution import FlowEndpoints, moves_for, windows
from experiments.measure.results import Result
from experiments.report.format import count, duration, things
from experiments.report.plots import _style
from experiments.report.plots._runs import Floats, RunGroup, TracedRun, groups_of, runs_of
from experiments.report.plots._style import Preset

QUESTION = "How is delay distributed?"
PLACE = 50
PHASES = ("before", "during", "after")
MOST_POINTS = 400
"""The points per curve: more than can be seen only make the file larger."""
Curves = dict[str, dict[str, list[Floats]]]
"""By label and phase, for each run the delays in ms of all sent packets; nan for lost ones."""


def suits(result: Result) -> bool:
    return any(run.moves and run.flows for run in runs_of(result).values())


def _delays_ms(run: TracedRun, flow: str) -> Floats:
    samples = run.flows[flow]
    delays: Floats = (samples.received_ns - samples.sent_ns) / 1e6
    delays[run.lost[flow]] = np.nan
    return delays


def _by_phase(run: TracedRun, flow: str) -> dict[str, Floats]:
    """Return the packets of a flow in each phase of the moves that touch it, all moves together."""
    samples, delays = run.flows[flow], _delays_ms(run, flow)
    found: dict[str, list[Floats]] = {phase: [] for phase in PHASES}
    for _, window in windows(moves_for(flow, run.moves)):
        spans = {
            "before": (window.before_ns, window.requested_ns),
            "during": (window.requested_ns, window.settled_ns),
            "after": (window.settled_ns, window.end_ns),
        }
        for phase, (start_ns, end_ns) in spans.items():
            found[phase].append(delays[samples.span(start_ns, end_ns)])
    return {phase: np.concatenate([*parts, np.array([])]) for phase, parts in found.items()}


def _curves(result: Result) -> Curves:
    """Return a curve for each pair of VMs of a single run, or for each of several runs.

    Of repeats, there is one for each run.
    """
    groups = [group for group in groups_of(result) if any(run.moves for run in group.runs)]
    if len(groups) == 1 and len(groups[0].runs) == 1:
        return _of_pairs(groups[0].runs[0])
    return {group.title: _of_group(group) for group in groups}


def _of_group(group: RunGroup) -> dict[str, list[Floats]]:
    found: dict[str, list[Floats]] = {phase: [] for phase in PHASES}
    for run in group.runs:
        parts = [_by_phase(run, flow) for flow in _touched(run)]
        for phase in PHASES:
            found[phase].append(np.concatenate([*(part[phase] for part in parts), np.array([])]))
    return found


def _touched(run: TracedRun) -> list[str]:
    """Return the flows that some move touches, or the references of a run without such flows."""
    moving = {move.vm for move in run.moves}
    ends = {flow: FlowEndpoints.of(flow) for flow in run.flows}
    touched = [flow for flow, end in ends.items() if moving & {end.source, end.destination}]
    return touched or list(run.flows)


def _of_pairs(run: TracedRun) -> Curves:
    pairs: Curves = {}
    for flow in run.flows:
        pair = pairs.setdefault(flow.partition("/")[0], {phase: [np.array([])] for phase in PHASES})
        for phase, delays in _by_phase(run, flow).items():
            pair[phase][0] = np.concatenate([pair[phase][0], delays])
    if len(pairs) <= _style.MOST_TOLD_APART:
        return pairs
    together = {
        phase: [np.concatenate([each[phase][0] for each in pairs.values()])] for phase in PHASES
    }
    return {f"all {len(pairs)} pairs of VMs": together}


def draw(result: Result, preset: Preset) -> Figure:
    curves = _curves(result)
    summed = len(curves) > _style.MOST_TOLD_APART
    whole = np.concatenate(
        [runs for phases in curves.values() for each in phases.values() for runs in each]
        or [np.array([])]
    )
    there = whole[~np.isnan(whole)]
    if not len(there):
        return _style.a_sentence(preset, "No packet of any phase of a move arrived.")
    low, high = max(float(there.min()), 1e-3) / 1.2, float(there.max()) * 1.2
    figure = _style.figure(preset, (34 if preset.narrow else 38) * preset.em_in)
    grid = figure.subplots(2, 3, sharex=True, sharey="row")
    grid_x = np.geomspace(low, high, MOST_POINTS)
    least = 1.0
    for column, phase in enumerate(PHASES):
        if summed:
            runs = [each for phases in curves.values() for each in phases[phase]]
            shares = [_shares(delays, grid_x) for delays in runs]
            _draw_curve(
                grid[:, column], grid_x, [share for share in shares if share is not None], 0
            )
        else:
            for number, phases in enumerate(curves.values()):
                shares = [_shares(delays, grid_x) for delays in phases[phase]]
                there_shares = [share for share in shares if share is not None]
                _draw_curve(grid[:, column], grid_x, there_shares, number)
        sizes = [len(each) for phases in curves.values() for each in phases[phase]]
        least = min(least, 1 / max([1, *sizes]))
        if not any(sizes):
            for axes in grid[:, column]:
                axes.text(0.5, 0.5, "no packets", transform=axes.transAxes, ha="center")
        grid[0, column].set_title(f"{phase} a move")
    for axes in grid.flat:
        _style.log(axes, "x", low, high, 3 if preset.narrow else 4)
    for axes in grid[0]:
        axes.set_ylim(0, 103)
    _style.linear(grid[0, 0], "y", 6)
    for axes in grid[1]:
        _style.log(axes, "y", max(least * 100, 1e-4), 130, 5)
    grid[0, 0].set_ylabel("arrived within (%)")
    grid[1, 0].set_ylabel("slower or lost (%)")
    grid[1, 1].set_xlabel("one-way delay (ms)")
    _style.legend(figure, preset, _handles(curves, summed=summed))
    return figure


def _handles(curves: Curves, *, summed: bool) -> list[Artist]:
    """Return the legend's entries: the curves by name, and the line and band of several runs."""
    labels = [f"median of {len(curves)} runs"] if summed else list(curves)
    handles: list[Artist] = [
        Line2D([], [], color=_style.colour(number), linestyle=_style.line(number), label=label)
        for number, label in enumerate(labels)
    ]
    if summed or any(len(phases["before"]) > 1 for phases in curves.values()):
        words = "range of runs" if summed else "their range"
        handles.append(Patch(color=_style.colour(0), alpha=0.2, linewidth=0, label=words))
    return handles


def _shares(delays: Floats, at: Floats) -> Floats | None:
    """Return the share of sent packets that had arrived within each of these times."""
    if not len(delays):
        return None
    arrived = np.sort(delays[~np.isnan(delays)])
    shares: Floats = np.searchsorted(arrived, at, side="right") / len(delays)
    return shares


def _draw_curve(panels: Sequence[Axes], at: Floats, shares: Sequence[Floats], number: int) -> None:
    """Draw one curve; of several runs their median, and the range of all as a band."""
    if not shares:
        return
    together = np.vstack(shares) * 100
    middle = np.median(together, axis=0)
    colour, line = _style.colour(number), _style.line(number)
    for axes, within in zip(panels, (True, False), strict=True):
        low, high = together.min(axis=0), together.max(axis=0)
        drawn = middle if within else 100 - middle
        if len(shares) > 1:
            edges = (low, high) if within else (100 - high, 100 - low)
            axes.fill_between(at, *edges, color=colour, alpha=0.2, linewidth=0, step="post")
        drawn = np.where(drawn > 1e-9, drawn, np.nan)
        axes.step(at, drawn, where="post", color=colour, linestyle=line)


def caption(result: Result) -> str:
    parts = []
    for label, phases in _curves(result).items():
        said = {phase: np.concatenate(each) for phase, each in phases.items()}
        middle = _quantile(said["before"], 50)
        before = f"{label}: the median delay before a move was {duration(middle)}."
        parts.append(f"{before} {_about_during(said['during'])}")
    if len(parts) > _style.MOST_TOLD_APART:
        return f"The line is the median of {len(parts)} runs, the band their range."
    if any(move.is_take_over for run in runs_of(result).values() for move in run.moves):
        parts.append("What was lost before a take-over is what went to the server that was lost.")
    return " ".join(parts)


def _about_during(delays: Floats) -> str:
    slow, lost = _quantile(delays, 99), int(np.isnan(delays).sum())
    if not len(delays):
        return "During a move, no packet was sent."
    if slow is None:
        return f"During a move, none of {things(len(delays), 'packet')} arrived."
    verb = "was" if lost == 1 else "were"
    return (
        f"During a move, 99 % of the packets that arrived took at most {duration(slow)}, and "
        f"{count(lost)} of {things(len(delays), 'packet')} {verb} lost."
    )


def _quantile(delays: Floats, percent: float) -> float | None:
    there = delays[~np.isnan(delays)]
    return float(np.percentile(there, percent)) if len(there) else None


def data(result: Result) -> pd.DataFrame:
    """Return the percentiles of the curves; empty where that packet was lost."""
    rows = []
    quantiles = [*range(0, 100, 1), 99.5, 99.9, 99.99, 100]
    for label, phases in _curves(result).items():
        for phase, runs in phases.items():
            for number, delays in enumerate(runs, start=1):
                ordered = np.sort(delays)  # lost packets come last
                for percent in quantiles if len(ordered) else ():
                    place = min(len(ordered) - 1, int(np.ceil(percent / 100 * len(ordered))))
                    rows.append((label, phase, number, percent, ordered[place]))
    return pd.DataFrame(rows, columns=["curve", "phase", "run", "percent_of_sent", "delay_ms"])
