"""A run's time axis, and a move drawn into it: where the VM stood still, and what happened when."""

from matplotlib.axes import Axes

from experiments.measure import totals
from experiments.measure.attribution import settled_ns
from experiments.measure.results import Result
from experiments.measure.trace import MoveTrace, TraceEvent, moves_of
from experiments.report.plots._style import FAINT, INK, PAUSE

NS_PER_S = 1e9

MARKED = {
    "move-requested": "requested",
    "move-redirected": "redirected",
    "vm-paused": "paused",
    "vm-resumed": "resumed",
    "mapping-confirmed": "confirmed",
    "entry-pulled": "{nve} pulled",
    "move-converged": "converged",
    "in-flight-ended": "in-flight rule ended",
}
"""The events drawn in a close-up, and what is written beside them."""

MOST_TITLED = 8
"""So many moves are named where they are drawn into a whole run; more would cover each other."""
NAME_LINES = 3
_NAME_WIDTH = 0.28
"""How much of the width of the axes the names of a group of events may take."""


class Timeline:
    """Seconds since the traffic of a run began."""

    def __init__(self, run: Result) -> None:
        started = [event.t_ns for event in run.events if event.name == "traffic-started"]
        self.start_ns = started[0] if started else int(run.packets["sent_ns"].min())
        self.moves: list[MoveTrace] = moves_of(run.events)

    def seconds(self, t_ns: int) -> float:
        return (t_ns - self.start_ns) / NS_PER_S


def shown_moves(run: Result, most: int) -> list[MoveTrace]:
    """The moves of a run to be drawn from close by: all, or of many those that harmed most."""
    moves = moves_of(run.events)
    if len(moves) <= most:
        return moves
    told = totals.worst(run.metrics, most)
    return [move for move in moves if move.number in told]


def label_of(event: TraceEvent) -> str | None:
    wording = MARKED.get(event.name)
    return wording.format_map({"nve": "an NVE", **event.details}) if wording else None


def shade_pause(axes: Axes, move: MoveTrace, origin_ns: int) -> None:
    paused_ns, resumed_ns = move.time_of("vm-paused"), move.time_of("vm-resumed")
    if paused_ns is not None and resumed_ns is not None:
        axes.axvspan(
            (paused_ns - origin_ns) / NS_PER_S,
            (resumed_ns - origin_ns) / NS_PER_S,
            color=PAUSE,
            linewidth=0,
            zorder=0,
        )


def draw_moves(axes: Axes, timeline: Timeline, *, titled: bool) -> None:
    """Each move as a line where it was requested and a tint until it has settled."""
    few = len(timeline.moves) <= MOST_TITLED
    for move in timeline.moves:
        requested_s = timeline.seconds(move.requested_ns)
        axes.axvline(
            requested_s,
            color=INK if few else FAINT,
            linewidth=1.2 if few else 0.4,
            linestyle=":",
            zorder=2 if few else 0,
        )
        axes.axvspan(
            requested_s, timeline.seconds(settled_ns(move)), color="#f2efe4", linewidth=0, zorder=-1
        )
        shade_pause(axes, move, timeline.start_ns)
        if titled and few:
            axes.annotate(
                f"{move.vm} {move.source_nve}→{move.destination_nve}",
                (requested_s, 1.0),
                xycoords=axes.get_xaxis_transform(),
                xytext=(4, -4),
                textcoords="offset points",
                va="top",
                fontsize=12,
                color=INK,
            )


def draw_events(axes: Axes, move: MoveTrace, origin_ns: int, latest_ns: int) -> None:
    """The events of one move as lines, named above the axes; those close together share a name."""
    shown = [
        ((event.t_ns - origin_ns) / NS_PER_S, label)
        for event in move.events
        if event.t_ns <= latest_ns and (label := label_of(event)) is not None
    ]
    first_s, last_s = axes.get_xlim()
    for cluster in _clusters(shown, (last_s - first_s) * _NAME_WIDTH):
        for at_s, _ in cluster:
            axes.axvline(at_s, color=FAINT, linewidth=0.9, linestyle=":", zorder=0)
        axes.annotate(
            _stacked([label for _, label in cluster]),
            (cluster[0][0], 1.0),
            xycoords=axes.get_xaxis_transform(),
            xytext=(2, 4),
            textcoords="offset points",
            fontsize=10,
            color=INK,
        )


def _clusters(shown: list[tuple[float, str]], width_s: float) -> list[list[tuple[float, str]]]:
    """Events in groups, so that the names of two groups do not overlap."""
    clusters: list[list[tuple[float, str]]] = []
    for at_s, label in shown:
        if clusters and at_s - clusters[-1][0][0] < width_s:
            clusters[-1].append((at_s, label))
        else:
            clusters.append([(at_s, label)])
    return clusters


def _stacked(labels: list[str]) -> str:
    """The names in their order, on as many lines as there is room for."""
    per_line = -(-len(labels) // NAME_LINES)
    lines = [labels[start : start + per_line] for start in range(0, len(labels), per_line)]
    return ",\n".join(", ".join(line) for line in lines)
