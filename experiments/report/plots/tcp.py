"""The throughput of the TCP workload over time."""

import pandas as pd
from matplotlib.figure import Figure

from experiments.measure.results import Result
from experiments.report.format import listing, things
from experiments.report.plots import _moves, _style, _throughput
from experiments.report.plots._runs import RunGroup, groups_of, runs_of
from experiments.report.plots._style import Preset

QUESTION = "What did TCP do?"
PLACE = 60


def suits(result: Result) -> bool:
    return any(_throughput.of_run(run) is not None for run in runs_of(result).values())


def _shown(result: Result, preset: Preset) -> list[RunGroup]:
    """Return the groups with TCP, as many as fit below each other."""
    with_tcp = [
        group
        for group in groups_of(result)
        if any(_throughput.of_run(run) is not None for run in group.runs)
    ]
    return with_tcp[: 2 * preset.panels]


def draw(result: Result, preset: Preset) -> Figure:
    groups = _shown(result, preset)
    rows = len(groups)
    figure = _style.figure(preset, (rows * 14 + 7) * preset.em_in)
    grid = figure.subplots(rows, 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    runs = [run for group in groups for run in group.runs]
    for axes, group in zip(grid, groups, strict=True):
        first = group.runs[0]
        _throughput.draw(axes, group, preset)
        _moves.shade(axes, first.moves, first.start_ns, 1e9)
        _style.title(axes, preset, group.title)
        axes.set_ylabel("Mbit/s")
    grid[0].set_ylim(0, _throughput.most_mbit_per_s(runs) * 1.15)
    grid[-1].set_xlim(0, max(run.end_s for run in runs))
    _style.linear(grid[-1], "x", 7 if preset.narrow else 12)
    grid[-1].set_xlabel("time since the traffic began (s)")
    phases = _moves.phase_handles(move for run in runs for move in run.moves)
    _style.legend(figure, preset, [*_throughput.handles(runs, preset), *phases])
    return figure


def caption(result: Result) -> str:
    parts = []
    for name, run in runs_of(result).items():
        table = _throughput.of_run(run)
        if table is None:
            continue
        for flow, rows in table.groupby("flow"):
            stall_s = _throughput.longest_stall_s(rows)
            stalled = f"stalled for at most {stall_s:.1f} s" if stall_s >= 0.05 else "never stalled"
            parts.append(
                f"{name}: {flow} carried {rows['mbit_per_s'].mean():.1f} Mbit/s on average, "
                f"{stalled} and retransmitted {things(int(rows['retransmits'].sum()), 'segment')}."
            )
    parts = parts if len(parts) <= _style.MOST_TOLD_APART else [_in_short(result)]
    shown = _shown(result, _style.PRESETS["screen"])
    if len(shown) < len(groups_of(result)):
        parts.append(f"Drawn: {listing([group.label for group in shown])}.")
    return " ".join(parts)


def _in_short(result: Result) -> str:
    tables = [
        table for run in runs_of(result).values() if (table := _throughput.of_run(run)) is not None
    ]
    flows = [rows for table in tables for _, rows in table.groupby("flow")]
    rates = [float(rows["mbit_per_s"].mean()) for rows in flows]
    stalls = [_throughput.longest_stall_s(rows) for rows in flows]
    return (
        f"A flow carried {min(rates):.1f} to {max(rates):.1f} Mbit/s on average. The longest "
        f"stall of a flow was {min(stalls):.1f} to {max(stalls):.1f} s."
    )


def data(result: Result) -> pd.DataFrame:
    """Return every whole interval."""
    tables = {name: _throughput.of_run(run) for name, run in runs_of(result).items()}
    found = {name: table for name, table in tables.items() if table is not None}
    return pd.concat(found, names=["run"]).reset_index(level=0).reset_index(drop=True)
