"""How soon each flow had its packets back, move after move; of one move, the close-up shows it."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from experiments.measure.results import Result
from experiments.measure.totals import Spread
from experiments.report.format import duration
from experiments.report.plots import _style

SAYS = (
    "Recovery of every flow after every move: what exceeds the packets' interval and the "
    "underlay's own delay."
)
PLACE = 35
REQUIRED_MS = 2.0
"""What the testbed asks of itself (docs/decisions/0013)."""


def suits(result: Result) -> bool:
    return any(_there(run) and run.metrics["move"].nunique() > 1 for run in result.runs.values())


def _there(run: Result) -> bool:
    return bool(len(run.metrics) and run.metrics["recovery_excess_ms"].notna().any())


def draw(result: Result) -> Figure:
    runs = dict(list(result.runs.items())[: _style.MOST_RUNS])
    looks = _style.looks(flow for run in runs.values() for flow in run.packets["flow"].unique())
    figure = _style.figure(13, 1.6 + 2.8 * len(runs))
    grid = figure.subplots(len(runs), 1, sharey=True, squeeze=False)[:, 0]
    measured = (run.metrics["recovery_excess_ms"] for run in runs.values() if _there(run))
    worst_ms = max((values.max() for values in measured), default=0.0)
    for axes, (name, run) in zip(grid, runs.items(), strict=True):
        _draw_run(axes, run, looks)
        axes.set_title(name)
        axes.set_ylabel("recovery beyond interval\nand underlay's delay (ms)")
    grid[-1].set_xlabel("move")
    grid[-1].set_ylim(0, max(2 * REQUIRED_MS, 1.2 * worst_ms))  # of all of them
    figure.legend(
        handles=_style.handles(looks), loc="outside upper right", ncols=_style.legend_columns(looks)
    )
    return figure


def _draw_run(axes: Axes, run: Result, looks: dict[str, _style.FlowLook]) -> None:
    """Linear below what is required, logarithmic above: 0 is where it belongs."""
    for flow, rows in run.metrics.groupby("flow"):
        look = looks[str(flow)]
        axes.plot(
            rows["move"],
            rows["recovery_excess_ms"],
            linestyle="none",
            marker=look.marker,
            markersize=5,
            markeredgewidth=0,
            alpha=0.7,
            color=look.colour,
            clip_on=False,
        )
    axes.axhline(REQUIRED_MS, color=_style.INK, linewidth=1.2, linestyle=":")
    axes.annotate(
        f"wanted: {REQUIRED_MS:g} ms",
        (1, REQUIRED_MS),
        xycoords=("axes fraction", "data"),
        xytext=(0, 3),
        textcoords="offset points",
        horizontalalignment="right",
        fontsize=10,
    )
    axes.set_yscale("symlog", linthresh=REQUIRED_MS, linscale=1.0)
    axes.set_xlim(0.5, run.metrics["move"].max() + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _style.label_log_ms(axes, "y")


def caption(result: Result) -> str:
    parts = []
    for name, run in result.runs.items():
        if not _there(run):
            continue
        values = run.metrics["recovery_excess_ms"].dropna()
        spread = Spread.of(values)
        slow = int((values > REQUIRED_MS).sum())
        parts.append(
            f"{name}: half within {duration(spread.p50)}, 99 % within {duration(spread.p99)}, all "
            f"within {duration(spread.max)}; {slow} of {len(values)} above {REQUIRED_MS:g} ms "
            "(dotted)."
        )
    return " ".join(parts)
