"""A move in detail: delay and loss around it, its events numbered and listed beside it."""

from collections.abc import Sequence

import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import ScaledTranslation

from experiments.measure.attribution import settled_ns
from experiments.measure.results import Result
from experiments.measure.trace import MoveTrace, TraceEvent
from experiments.report.format import count
from experiments.report.narrative import what_happened
from experiments.report.plots import _incidents, _moves, _packets, _style
from experiments.report.plots._runs import (
    NS_PER_S,
    FlowLooks,
    RunGroup,
    TracedRun,
    flow_looks,
    groups_of,
    runs_of,
    title_of,
)
from experiments.report.plots._style import Preset

QUESTION = "What did the move look like?"
PLACE = 30
MOST_EVENTS_BELOW, MOST_EVENTS_BESIDE = 14, 18
"""How many events are listed below a picture, or beside it."""
_MARGIN = 0.12
"""The time shown before and after a move, as a part of its length."""
_LEAST_MARGIN_S = 0.05
_NOTICED = {"server-lost": "is taken for dead", "server-cut-off": "is out of reach"}
"""Why a standby takes over."""


def suits(result: Result) -> bool:
    return any(run.moves and run.flows for run in runs_of(result).values())


def _chosen(result: Result, preset: Preset) -> list[tuple[TracedRun, MoveTrace]]:
    """Return the moves that are drawn, as many as fit.

    From each group of runs the move that did most damage comes first, then further ones.
    """
    most = {"column": 2, "slide": 1}.get(preset.name, 4)
    first = [group.runs[0] for group in groups_of(result) if group.runs[0].moves]
    each = [_moves.shown(run, most) for run in first]
    chosen = [
        (run, moves[turn])
        for turn in range(most)
        for run, moves in zip(first, each, strict=True)
        if turn < len(moves)
    ][:most]
    while len(chosen) > 1 and _height_in(chosen, preset) > preset.most_height_in:
        chosen.pop()
    order = list(runs_of(result).values())
    return sorted(chosen, key=lambda pair: (order.index(pair[0]), pair[1].number))


def _heights_in(
    chosen: Sequence[tuple[TracedRun, MoveTrace]], preset: Preset
) -> list[tuple[float, float, float]]:
    """Return for each move the heights of its panel of delays, its strip of losses, and its
    list.
    """
    strip = max(
        _packets.strip_in(flow_looks([run]), RunGroup("", (run,)), preset) for run, _ in chosen
    )
    panel = (11 if preset.narrow else 13) * preset.em_in
    line = 1.42 * preset.small_pt / 72
    lists = [line * (len(_rows(run, move, preset)) + 0.8) for run, move in chosen]
    return [(panel, strip, tall) for tall in lists]


def _block_in(heights: tuple[float, float, float], preset: Preset) -> float:
    panel, strip, tall = heights
    picture = panel + strip + 7.5 * preset.em_in
    return picture + tall if preset.narrow else max(picture, tall)


def _height_in(chosen: Sequence[tuple[TracedRun, MoveTrace]], preset: Preset) -> float:
    blocks = [_block_in(heights, preset) for heights in _heights_in(chosen, preset)]
    return sum(blocks) + _style.legend_in(preset, _handles(chosen, preset)) + preset.em_in


def _handles(chosen: Sequence[tuple[TracedRun, MoveTrace]], preset: Preset) -> list[Artist]:
    shaded = _moves.phase_handles(move for _, move in chosen)
    return [_packets.lost_handle(preset), *shaded]


def draw(result: Result, preset: Preset) -> Figure:
    chosen = _chosen(result, preset)
    heights = _heights_in(chosen, preset)
    delays_ms = _packets.delay_range_ms([run for run, _ in chosen])
    figure = _style.figure(preset, _height_in(chosen, preset))
    blocks = [_block_in(each, preset) for each in heights]
    parts = figure.subfigures(len(chosen), 1, height_ratios=blocks, squeeze=False)[:, 0]
    for part, (run, move), (panel, strip, tall) in zip(parts, chosen, heights, strict=True):
        if preset.narrow:
            upper, lower, beside = part.subplots(3, 1, height_ratios=[panel, strip, tall])
        else:
            places = part.subplot_mosaic(
                [["upper", "beside"], ["lower", "beside"]],
                width_ratios=[1.9, 1],
                height_ratios=[max(panel, tall - strip - 7 * preset.em_in), strip],
            )
            upper, lower, beside = places["upper"], places["lower"], places["beside"]
        lower.sharex(upper)
        _draw_move(upper, lower, run, move, flow_looks([run]), preset, delays_ms)
        _number_events(upper, run, move, preset)
        _list_events(beside, run, move, preset)
        heading = f"{title_of(result, run)}: {move.number}. {_moves.route(move)}"
        _style.title(upper, preset, heading, 0.6, pad=preset.small_pt * 2.3)
        upper.tick_params(labelbottom=False)
    _style.legend(figure, preset, _handles(chosen, preset))
    return figure


def _origin(move: MoveTrace) -> tuple[int, str]:
    """Return the origin of time and its name: a rolled back move was never resumed at its
    destination.
    """
    for name, words in {
        "vm-resumed": "the VM was resumed",
        "move-rolled-back": "it was rolled back",
        "move-failed": "it failed",
    }.items():
        if (at_ns := move.time_of(name)) is not None:
            return at_ns, "the standby took over" if move.is_take_over else words
    return move.requested_ns, "it was requested"


def _window(run: TracedRun, move: MoveTrace) -> tuple[float, float]:
    """Return what is shown: from the request until the move has settled.

    If that takes much longer than the move itself, the time line shows the rest.  A take-over
    begins when nothing is heard of the server any more.
    """
    begin_s, origin_s = run.seconds(move.requested_ns), run.seconds(_origin(move)[0])
    if lost := _server_lost(run, move):
        begin_s = run.seconds(int(lost[0].details.get("since_ns", lost[0].t_ns)))
    elif (paused_ns := move.time_of("vm-paused")) is not None:
        paused_s = run.seconds(paused_ns)
        begin_s = max(begin_s, paused_s - max(5 * (origin_s - paused_s), 0.25))
    settled_s = run.seconds(max(settled_ns(move), move.requested_ns))
    end_s = max(min(settled_s, origin_s + max(2.5 * (origin_s - begin_s), 0.2)), origin_s)
    margin_s = max(_MARGIN * (end_s - begin_s), _LEAST_MARGIN_S)
    return begin_s - margin_s, end_s + margin_s


def _listed(run: TracedRun, move: MoveTrace, preset: Preset) -> tuple[list[tuple[int, str]], int]:
    """Return the events that are numbered and listed, and how many more there are.

    They are the move's own, and the failures that belong to it or fall into the window.
    """
    most = MOST_EVENTS_BELOW if preset.narrow else MOST_EVENTS_BESIDE
    begin_s, end_s = _window(run, move)
    failures = [
        (incident.t_ns, incident.words)
        for event in run.result.events
        if event.name in ("failure-injected", "failure-ended")
        for incident in [_incidents.of_failure(event)]
        if event.details.get("move") == move.number
        or begin_s <= run.seconds(incident.t_ns) <= end_s
    ]
    noticed = [
        (event.t_ns, f"{event.details.get('nve', '?')} {_NOTICED[event.name]}")
        for event in _server_lost(run, move)
    ]
    events = sorted([*_moves.named(move), *failures, *noticed], key=lambda each: each[0])
    return events[:most], len(events[most:])


def _server_lost(run: TracedRun, move: MoveTrace) -> list[TraceEvent]:
    """Return the event that made a standby take over, if one did."""
    if not move.is_take_over:
        return []
    return [
        event
        for event in run.result.events
        if event.name in _NOTICED and event.subject == move.vm and event.t_ns <= move.requested_ns
    ][-1:]


def _draw_move(
    upper: Axes,
    lower: Axes,
    run: TracedRun,
    move: MoveTrace,
    looks: FlowLooks,
    preset: Preset,
    delays_ms: tuple[float, float],
) -> None:
    origin_ns, words = _origin(move)
    window = _window(run, move)
    origin_s = run.seconds(origin_ns)
    unit_s, unit = (1e-3, "ms") if window[1] - window[0] < 5 else (1.0, "s")
    group = RunGroup(run.name, (run,))
    upper.set_xlim((window[0] - origin_s) / unit_s, (window[1] - origin_s) / unit_s)
    for drawing, axes in ((_packets.draw_delays, upper), (_packets.draw_lost, lower)):
        drawing(axes, group, looks, preset, window, origin_s=origin_s, unit_s=unit_s)
        _moves.shade(axes, [move], origin_ns, unit_s * NS_PER_S)
    low, high = delays_ms
    _style.log(upper, "y", low / 1.3, high * 1.3, 5)
    upper.set_ylabel("delay (ms)")
    _style.linear(lower, "x", 5 if preset.narrow else 8)
    lower.set_xlabel(f"time since {words} ({unit})")


def _number_events(axes: Axes, run: TracedRun, move: MoveTrace, preset: Preset) -> None:
    """Draw a line for each event within the window, and its number above it.

    Numbers that would overlap are moved apart.
    """
    first_s, last_s = _window(run, move)
    events, _ = _listed(run, move, preset)
    inside = [
        (number, (run.seconds(t_ns) - first_s) / (last_s - first_s))
        for number, (t_ns, _) in enumerate(events, start=1)
        if first_s <= run.seconds(t_ns) <= last_s
    ]
    for _, place in inside:
        axes.plot(
            [place, place],
            [0, 1],
            transform=axes.transAxes,
            color=_style.FAINT,
            linewidth=0.5,
            zorder=0,
        )
    labels = [(place, str(number)) for number, place in inside]
    _moves.label_above(axes, labels, preset, 0.8 if preset.narrow else 0.5)


def _rows(run: TracedRun, move: MoveTrace, preset: Preset) -> list[tuple[str, str, str]]:
    """The list of events: the number, the time as the panel counts it, and the words of each.
    Lines say which come before what the panel shows, and which after it."""
    origin_ns, _ = _origin(move)
    begin_s, end_s = _window(run, move)
    events, more = _listed(run, move, preset)
    room = preset.characters(0.75 if preset.narrow else 0.26)
    rows = [
        (str(number), f"{(t_ns - origin_ns) / 1e6:+,.1f}", _style.cut(words, room))
        for number, (t_ns, words) in enumerate(events, start=1)
    ]
    drawn = sum(run.seconds(t_ns) <= end_s for t_ns, _ in events)
    if drawn < len(rows):
        rows.insert(drawn, ("", "", "later than is drawn:"))
    if earlier := sum(run.seconds(t_ns) < begin_s for t_ns, _ in events):
        rows.insert(earlier, ("", "", "drawn:"))
        rows.insert(0, ("", "", "earlier than is drawn:"))
    if more:
        rows.append(("", "", f"and {more} more"))
    return [("", "ms", "event"), *rows]


def _list_events(axes: Axes, run: TracedRun, move: MoveTrace, preset: Preset) -> None:
    """Three columns of text."""
    axes.set_axis_off()
    lines = _rows(run, move, preset)
    for column, (at_em, alignment) in enumerate(((1.6, "right"), (7.6, "right"), (8.4, "left"))):
        axes.text(
            0.0,
            1.0,
            "\n".join(line[column] or " " for line in lines),
            transform=axes.transAxes
            + ScaledTranslation(at_em * preset.small_pt / 72, 0, axes.figure.dpi_scale_trans),
            fontsize=preset.small_pt,
            va="top",
            ha=alignment,
            linespacing=1.35,
        )


def caption(result: Result) -> str:
    """Return what happened in the moves that are drawn, and how long the phases took."""
    said = what_happened(result)
    runs = runs_of(result).values()
    moves = sum(len(run.moves) for run in runs)
    shown = len(_chosen(result, _style.PRESETS["screen"]))
    if moves > shown:
        said = [f"Of {count(moves)} moves, {count(shown)} are drawn.", *said[:shown]]
    return " ".join(said)


def data(result: Result) -> pd.DataFrame:
    """Return every event of every move, with times from its request and from the panel's origin."""
    rows = [
        {
            "run": name,
            "move": move.number,
            "after_request_ms": (event.t_ns - move.requested_ns) / 1e6,
            "after_origin_ms": (event.t_ns - _origin(move)[0]) / 1e6,
            "source": event.source,
            "event": event.name,
        }
        for name, run in runs_of(result).items()
        for move in run.moves
        for event in move.events
    ]
    return pd.DataFrame(rows)
