"""How all plots look: readable from the back row, and by those who do not tell red from green.

The colours are Okabe and Ito's; a flow is told apart by colour (its correspondent) *and* by marker
(its address family), a run by colour *and* by its place.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from experiments.measure.attribution import FlowEndpoints

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7A6A00", "#000000")
INK, FAINT, PAUSE = "#222222", "#8a8a8a", "#d9d9d9"
LOST = "#B22222"
MARKERS = {"ipv4": "o", "ipv6": "^"}
LINES = {"ipv4": "-", "ipv6": "--"}
MOST_RUNS = 6
"""As many runs as a time plot shows under each other; the tables show all."""

_SETTINGS: Any = {
    "font.size": 13,
    "axes.titlesize": 14,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 13,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.8,
    "legend.frameon": False,
    "legend.fontsize": 12,
    "lines.linewidth": 2.0,
    "figure.facecolor": "white",
    "figure.constrained_layout.use": True,
    "savefig.dpi": 140,
    "svg.hashsalt": "vmmlab",  # identifiers that do not change from run to run
    "svg.fonttype": "path",  # looks the same where the font is not installed
}


@dataclass(frozen=True)
class FlowLook:
    """The look of one flow, the same in every plot of a result."""

    colour: str
    marker: str
    line: str


@contextmanager
def applied() -> Iterator[None]:
    with mpl.rc_context(_SETTINGS):
        yield


def looks(flows: Iterable[str]) -> dict[str, FlowLook]:
    """Flows of one pair of VMs share a colour."""
    looks: dict[str, FlowLook] = {}
    pairs: dict[tuple[str, str], str] = {}
    for flow in sorted(flows):
        ends = FlowEndpoints.of(flow)
        pair = (ends.source, ends.destination)
        colour = pairs.setdefault(pair, PALETTE[len(pairs) % len(PALETTE)])
        looks[flow] = FlowLook(colour, MARKERS.get(ends.family, "s"), LINES.get(ends.family, ":"))
    return looks


def handles(looks: Mapping[str, FlowLook]) -> list[Line2D]:
    """Legend entries for plots that draw flows as points."""
    return [
        Line2D(
            [],
            [],
            linestyle="none",
            marker=look.marker,
            markersize=8,
            color=look.colour,
            label=flow,
        )
        for flow, look in looks.items()
    ]


def legend_columns(looks: Mapping[str, FlowLook]) -> int:
    """One column per colour: the flows of one pair of VMs under each other."""
    return min(4, len({look.colour for look in looks.values()}))


def run_colours(runs: Iterable[str]) -> dict[str, str]:
    order = (PALETTE[1], PALETTE[0], *PALETTE[2:])
    return {run: order[place % len(order)] for place, run in enumerate(runs)}


def figure(width: float, height: float) -> Figure:
    """Without pyplot: no window system, and nothing to close."""
    return Figure(figsize=(width, height))


def save(drawn: Figure, file: Path) -> None:
    """Without a date in the file: the same figure is the same file."""
    drawn.savefig(file, metadata={"Date": None} if file.suffix == ".svg" else None)
    drawn.set_layout_engine("none")  # laid out once, which takes long, for all formats


def label_log_ms(axes: Axes, axis: str) -> None:
    """0.1, 1, 10 instead of powers of ten."""
    chosen = axes.xaxis if axis == "x" else axes.yaxis
    chosen.set_major_formatter(lambda value, _: f"{value:g}")
