"""How long clients were cut off from a task that is found by its name, over the TTL of the name.

A mark is a client in a move, and a line is the TTL itself: a client that looks the name up between
the end of its connection and the name server's update believes the old address for that long.
"""

from dataclasses import asdict

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from experiments.measure import visits
from experiments.measure.results import Result
from experiments.report.format import duration, listing, span
from experiments.report.plots import _style
from experiments.report.plots._runs import runs_of
from experiments.report.plots._style import Preset

QUESTION = "What does the TTL of a task's name cost its clients?"
PLACE = 43
_WIDTH = 0.6
"""The width of a TTL's marks together; 1 is the distance to those of the next TTL."""
COLUMNS = ("run", "move", "flow", "ttl_s", "wait_ms", "lookups")


def suits(result: Result) -> bool:
    """Return whether there are several TTLs to compare."""
    return data(result)["ttl_s"].nunique() > 1


def data(result: Result) -> pd.DataFrame:
    """A row for each client in each move."""
    rows = [
        {"run": name, **asdict(wait)}
        for name, run in runs_of(result).items()
        for wait in visits.name_waits(run.result.events, run.result.rows("ask"))
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def draw(result: Result, preset: Preset) -> Figure:
    table = data(result)
    ttls_s = sorted(table["ttl_s"].unique())
    places = table["ttl_s"].map(ttls_s.index)
    # The clients of one TTL stand beside each other.
    beside = table.groupby("ttl_s").cumcount()
    of_each = table.groupby("ttl_s")["ttl_s"].transform("size")
    places = places + _WIDTH * ((beside + 0.5) / of_each - 0.5)
    longest_s = max(float(table["wait_ms"].max()) / 1e3, ttls_s[-1])
    figure = _style.figure(preset, 22 * preset.em_in)
    axes = figure.subplots()
    for place, ttl_s in enumerate(ttls_s):
        ends = (place - _WIDTH / 2, place + _WIDTH / 2)
        axes.hlines(ttl_s, *ends, color=_style.FAINT, linewidth=preset.line_pt * 2, clip_on=False)
    _style.dots(axes, places, table["wait_ms"] / 1e3, preset, marker=0, colour=0)
    axes.set_xticks(range(len(ttls_s)), [_style.number(each) for each in ttls_s])
    axes.set_xlim(-0.5, len(ttls_s) - 0.5)
    axes.set_ylim(0, longest_s * 1.08)
    axes.grid(visible=False, axis="x")
    axes.set_xlabel("TTL of the name (s)")
    axes.set_ylabel("without an answer (s)")
    _style.linear(axes, "y", 6)
    ttl = Line2D([], [], color=_style.FAINT, linewidth=preset.line_pt * 2, label="the TTL itself")
    client = _style.point_handle(0, "a client in a move", preset, line=False)
    _style.legend(figure, preset, [client, ttl])
    return figure


def caption(result: Result) -> str:
    said = []
    for ttl_s, waits in data(result).groupby("ttl_s"):
        least, most = float(waits["wait_ms"].min()), float(waits["wait_ms"].max())
        cut_off = duration(least) if len(waits) == 1 else span(least, most)
        said.append(f"{cut_off} with a TTL of {ttl_s:g} s")
    return f"Clients were without an answer for {listing(said)}."
