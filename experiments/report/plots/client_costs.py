"""What a move of a task cost its clients, run beside run: gap, octets that came twice, time to the
full rate; beside each run, what its client had to do.
"""

from collections.abc import Hashable, Mapping
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from experiments.measure import visits
from experiments.measure.results import Result
from experiments.report.format import duration, listing, things
from experiments.report.plots import _style
from experiments.report.plots._runs import runs_of
from experiments.report.plots._style import Preset

QUESTION = "What did the move of a task cost its clients?"
PLACE = 32
PANELS = {
    "silence_ms": "download silent (ms)",
    "wait_ms": "longest wait for an answer (ms)",
    "again_mb": "came twice (MB)",
    "full_rate_ms": "full rate again after (ms)",
}
COLUMNS = ("run", "client_had_to", *PANELS, "reconnects", "lookups")
MOST = 12
"""How many runs get a line of their own."""


def suits(result: Result) -> bool:
    return 0 < len(data(result)) <= MOST


def data(result: Result) -> pd.DataFrame:
    """A row for each run with clients of a task that has moved."""
    rows = []
    for name, run in runs_of(result).items():
        found = visits.visit(run.result.events, run.result.rows("fetch"), run.result.rows("ask"))
        if found is not None:
            did = found.asked_of_the_client(visits.protocol_of(run.result.scenario))
            again_mb = None if found.again is None else found.again / 1e6
            values = (found.silence_ms, found.wait_ms, again_mb, found.full_rate_ms)
            rows.append((name, did, *values, found.connects, found.lookups))
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    return table.astype(dict.fromkeys(PANELS, "float64"))


def draw(result: Result, preset: Preset) -> Figure:
    table = data(result)
    shown = [column for column in PANELS if table[column].notna().any()]
    if not shown:
        return _style.a_sentence(preset, caption(result))
    across = min(len(shown), 1 if preset.narrow else 2)
    down = -(-len(shown) // across)
    lines = 2.9 if preset.narrow else 2.7
    figure = _style.figure(preset, down * (len(table) * lines + 4.5) * preset.em_in)
    grid = figure.subplots(down, across, sharey=True, squeeze=False)
    labels = [f"{row.run}:\n{row.client_had_to}" for row in table.itertuples()]
    for place, axes in enumerate(grid.flat):
        if place >= len(shown):
            axes.set_axis_off()
            continue
        values = table[shown[place]]
        for row, value in enumerate(values):
            if value == value:
                _style.dots(axes, [value], [row], preset, marker=row, colour=row)
        axes.set_xlim(0, float(values.max()) * 1.1 or 1)
        _style.linear(axes, "x", 4 if preset.narrow else 6)
        axes.set_xlabel(PANELS[shown[place]])
    grid[0, 0].set_yticks(range(len(table)), labels)
    grid[0, 0].set_ylim(len(table) - 0.5, -0.5)
    return figure


def caption(result: Result) -> str:
    said = []
    for row in data(result).to_dict("records"):
        parts = [
            f"{words} {duration(row[column])}"
            for column, words in (
                ("silence_ms", "the download was silent for"),
                ("wait_ms", "an answer took up to"),
                ("full_rate_ms", "the full rate was back after"),
            )
            if row[column] == row[column]
        ]
        if row["again_mb"] == row["again_mb"]:
            twice = f"{row['again_mb']:.1f} MB" if row["again_mb"] else "nothing"
            parts.append(f"{twice} came twice")
        told = f"{listing(parts)}; " if parts else ""
        said.append(f"{row['run']}: {told}the client {_did(row)}.")
    return " ".join(said)


def _did(row: Mapping[Hashable, Any]) -> str:
    """Return what a client had to do."""
    done = [
        *([f"looked the name up {things(row['lookups'], 'time')}"] if row["lookups"] else []),
        *([f"connected again {things(row['reconnects'], 'time')}"] if row["reconnects"] else []),
    ]
    return listing(done) if done else f"had to {_NOTHING.get(row['client_had_to'], 'do nothing')}"


_NOTHING = {"speak Multipath TCP": "speak Multipath TCP"}
