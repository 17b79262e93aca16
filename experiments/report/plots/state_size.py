"""How long VMs were suspended and how long their moves took, by how much state they have."""

from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from experiments.measure.results import Result
from experiments.report.format import duration
from experiments.report.plots import _style
from experiments.report.plots._runs import runs_of
from experiments.report.plots._style import Preset
from nve.guest.spec import MB

QUESTION = "How do the pause and the time of a move depend on how much state its VM has?"
PLACE = 37
LEAST_SIZES = 3
PANELS = {"pause_ms": "pause (ms)", "transfer_total_ms": "total time (ms)"}
_LEAST_MS = 1.0


def suits(result: Result) -> bool:
    table = data(result)
    return len(table) > 0 and table["state_mb"].nunique() >= LEAST_SIZES


def data(result: Result) -> pd.DataFrame:
    """Return a row for each completed move of a VM with state."""
    rows: list[dict[str, Any]] = []
    for name, run in runs_of(result).items():
        metrics = run.result.metrics
        if not len(metrics):
            continue
        moves = metrics.drop_duplicates("move")
        done = moves[(moves["outcome"] == "completed") & moves["state_bytes"].notna()]
        for move in done.to_dict("records"):
            row = {key: move[key] for key in ("move", "vm", "transfer", *PANELS)}
            rows.append({"run": name, **row, "state_mb": move["state_bytes"] / MB})
    return pd.DataFrame(rows)


def draw(result: Result, preset: Preset) -> Figure:
    table = data(result)
    figure = _style.figure(preset, 30 * preset.em_in)
    panels = figure.subplots(2, 1, sharex=True)
    kinds = list(dict.fromkeys(table["transfer"]))
    for axes, (column, label) in zip(panels, PANELS.items(), strict=True):
        for number, kind in enumerate(kinds):
            mine = table[table["transfer"] == kind].sort_values("state_mb")
            axes.plot(
                *(mine["state_mb"], mine[column].clip(lower=_LEAST_MS)),
                color=_style.colour(number),
                linestyle=_style.line(number),
                marker=_style.marker(number),
                markersize=preset.marker_pt * 2.2,
                clip_on=False,
            )
        axes.set_ylabel(label)
        low, high = float(table[column].min()), float(table[column].max())
        _style.log(axes, "y", max(_LEAST_MS, low / 2), high * 2, 6)
    sizes = table["state_mb"]
    _style.log(panels[1], "x", float(sizes.min()) / 1.2, float(sizes.max()) * 1.2, 6)
    ticks = sorted(set(sizes))
    panels[1].set_xticks(ticks, [_style.number(each) for each in ticks])
    panels[1].set_xlabel("memory and disk (MiB)")
    handles = [_style.point_handle(number, kind, preset) for number, kind in enumerate(kinds)]
    _style.legend(figure, preset, handles)
    return figure


def caption(result: Result) -> str:
    table = data(result)
    said = []
    for kind in dict.fromkeys(table["transfer"]):
        rows = table[table["transfer"] == kind].sort_values("state_mb").to_dict("records")
        small, large = rows[0], rows[-1]
        said.append(
            f"By {kind}, {small['state_mb']:g} MiB took {duration(small['transfer_total_ms'])} "
            f"with a pause of {duration(small['pause_ms'])}, and {large['state_mb']:g} MiB "
            f"{duration(large['transfer_total_ms'])} with one of {duration(large['pause_ms'])}."
        )
    return " ".join(said)
