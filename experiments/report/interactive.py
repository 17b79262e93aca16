"""The data of the interactive time line in report.html: packets, phases of moves and events.

Of many packets it has as many as a screen can show: every n-th of each flow, and those that are
slow.  Lost packets are included up to a limit.  Times are seconds since the traffic of the run
began, as little-endian floats in base64, so that a million packets remain a page of a few MB.
"""

import base64
from typing import Any

import numpy as np

from experiments.measure.results import Result
from experiments.measure.trace import KNOWN
from experiments.report.plots import _incidents, _moves, _style
from experiments.report.plots._runs import (
    Floats,
    TracedRun,
    flow_looks,
    groups_of,
    runs_of,
    title_of,
)

MOST_POINTS = 120_000
"""The largest number of points in the whole page."""
MOST_RUNS = 12
MOST_LOST = 6_000
"""The largest number of lost packets of one flow."""


def time_line(result: Result) -> list[dict[str, Any]]:
    """Return what the page draws, one entry per run; of very many runs, only the first."""
    runs = [run for run in runs_of(result).values() if run.flows][:MOST_RUNS]
    repeated = any(len(group.runs) > 1 for group in groups_of(result))
    return [
        {
            "name": title_of(result, run) if repeated else run.name,
            "end_s": run.end_s,
            "flows": _flows(run, MOST_POINTS // len(runs)),
            "phases": [
                [run.seconds(start_ns), run.seconds(end_ns), colour, _style.DARK[colour]]
                for move in run.moves
                for start_ns, end_ns, colour in _moves.phases(move)
            ],
            "named_phases": _named_phases(run),
            "marks": _marks(run),
            "events": _events(run),
        }
        for run in runs
    ]


def _flows(run: TracedRun, most: int) -> list[dict[str, Any]]:
    looks = flow_looks([run])
    found = []
    for flow, samples in run.flows.items():
        sent_s, delay_ms = run.delays(flow, most // len(run.flows))
        lost_s = run.lost_s(flow)
        shown = lost_s[:: -(-len(lost_s) // MOST_LOST) or 1]
        found.append(
            {
                "name": flow,
                "colour": _style.colour(looks.numbers[flow][0]),
                "sent": len(samples),
                "lost": len(lost_s),
                "at": _packed(sent_s),
                "delay": _packed(delay_ms),
                "lost_at": _packed(shown),
            }
        )
    return found


def _named_phases(run: TracedRun) -> list[list[str]]:
    """Return the two colours, light and dark, and the name of each kind of phase."""
    shaded = {colour for move in run.moves for _, _, colour in _moves.phases(move)}
    return [
        [colour, _style.DARK[colour], words]
        for colour, words in _moves.PHASES.items()
        if colour in shaded
    ]


def _marks(run: TracedRun) -> list[list[Any]]:
    """Return time, letter and words of each failure, of its end, and of each take-over."""
    letters = _incidents.letters([run])
    return [
        [round(run.seconds(each.t_ns), 6), letters[each.words], each.words]
        for each in _incidents.of_run(run)
    ]


def _events(run: TracedRun) -> list[list[Any]]:
    """Return time, name and meaning of each event between the beginning and the end of the
    traffic.
    """
    return [
        [
            round(run.seconds(event.t_ns), 6),
            " ".join(filter(None, (event.name, event.subject, event.details.get("nve")))),
            KNOWN.get(event.name, ""),
        ]
        for event in run.result.events
        if -1 <= run.seconds(event.t_ns) <= run.end_s + 1
    ][:3000]


def _packed(values: Floats) -> str:
    return base64.b64encode(np.asarray(values, dtype="<f4").tobytes()).decode()
