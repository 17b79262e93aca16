"""What standbys cost while nothing fails: latency of their VMs' services, bandwidth, and memory."""

import pandas as pd
from matplotlib.figure import Figure

from experiments.measure.results import Result
from experiments.report.format import counts, span
from experiments.report.plots import _style
from experiments.report.plots._runs import rows_of_runs
from experiments.report.plots._style import Preset

QUESTION = "What does a standby cost while nothing fails?"
PLACE = 40
PANELS = {
    "latency_p50_ms": "latency of requests (ms)",
    "mirror_mbit_s": "sent to the standby (Mbit/s)",
    "standby_memory_mb": "memory at the standby (MiB)",
}
MOST = 12
"""How many standbys get a line of their own."""


def suits(result: Result) -> bool:
    return 0 < len(data(result)) <= MOST


def data(result: Result) -> pd.DataFrame:
    """A row for each standby of a VM whose service was asked."""
    table = rows_of_runs(result, "standbys")
    return table.dropna(subset=["latency_p50_ms"]) if len(table) else table


def _labels(table: pd.DataFrame) -> list[str]:
    return [
        f"{row['vm']}, hot" if row["kind"] == "hot" else f"{row['vm']}, {row['kind']} {every:g} s"
        for row in table.to_dict("records")
        for every in [row["interval_s"]]
    ]


def draw(result: Result, preset: Preset) -> Figure:
    table = data(result)
    places = list(range(len(table)))
    figure = _style.figure(preset, (len(PANELS) * (len(table) * 1.9 + 6)) * preset.em_in)
    panels = figure.subplots(len(PANELS), 1)
    for axes, (column, label) in zip(panels, PANELS.items(), strict=True):
        values = [float(each) for each in table[column]]
        highest = max(values)
        _style.dots(axes, values, places, preset, marker=0, colour=0)
        if column == "latency_p50_ms":
            worst = [float(each) for each in table["latency_p99_ms"]]
            _style.dots(axes, worst, places, preset, marker=1, colour=1)
            highest = max(highest, *worst)
        axes.set_yticks(places, _labels(table))
        axes.set_ylim(len(table) - 0.5, -0.5)
        axes.set_xlim(0, highest * 1.1 or 1)
        _style.linear(axes, "x", 5)
        axes.set_xlabel(label)
    names = ("median", "99th percentile of latency")
    handles = [_style.point_handle(n, name, preset, line=False) for n, name in enumerate(names)]
    _style.legend(figure, preset, handles)
    return figure


def caption(result: Result) -> str:
    table = data(result)
    hot, mirrored = table[table["kind"] == "hot"], table[table["kind"] != "hot"]
    said = []
    if len(mirrored):
        said.append(f"With {_kinds(mirrored)}, {_costs(mirrored)}")
    if len(hot):
        said.append(f"With {_kinds(hot)}, {_costs(hot)}")
    return " ".join(said)


def _kinds(table: pd.DataFrame) -> str:
    kinds = [kind for kind in ("hot", "warm", "cold") if (table["kind"] == kind).any()]
    return f"{' and '.join(kinds)} standbys" if len(table) > 1 else f"a {kinds[0]} standby"


def _costs(table: pd.DataFrame) -> str:
    latency, sent, memory = (table[column] for column in PANELS)
    mbit = [f"{each:.2g}" for each in (sent.min(), sent.max())]
    return (
        f"the median latency of a request was {span(latency.min(), latency.max())}, "
        f"{mbit[0] if mbit[0] == mbit[1] else ' to '.join(mbit)} Mbit/s went to the standby, and "
        f"it took {counts(memory.min(), memory.max())} MiB of memory."
    )
