"""How long VMs were suspended and how long their moves took, by how fast they write.

A point is a move of a VM with state.  Its position is how fast the guest writes, as a share of the
rate of its first round.  The lines are models of such a guest (`nve.transfer.model`): one that
never writes a page twice in a round, and one that writes random pages.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from experiments.measure.results import Result
from experiments.report.format import duration
from experiments.report.plots import _style
from experiments.report.plots._runs import runs_of
from experiments.report.plots._style import Preset
from nve.guest.spec import MB
from nve.transfer.convergence import TransferLimits
from nve.transfer.model import Expected, expected

QUESTION = "How do the pause and the time of a move depend on how fast its VM writes?"
PLACE = 35
LEAST_MOVES = 3
PANELS = {"pause_ms": "pause (ms)", "transfer_total_ms": "total time (ms)"}
_MODELS = {"writes no page twice": False, "writes random pages": True}
_ALMOST_NOTHING_MS = 1.0


def suits(result: Result) -> bool:
    """Return whether all VMs have the same size, which also decides how long a move takes."""
    moves = _moves(result)
    return len(moves) >= LEAST_MOVES and len({_state_bytes(move["guest"]) for move in moves}) == 1


def data(result: Result) -> pd.DataFrame:
    """Return a row for each move of a VM that writes, with what the models expect of it."""
    return pd.DataFrame([_row(move) for move in _moves(result)])


def _moves(result: Result) -> list[dict[str, Any]]:
    found = []
    for name, run in runs_of(result).items():
        rounds, guests = run.result.iterations, _guests(run.result)
        if rounds is None:
            continue
        moves = run.result.metrics.drop_duplicates("move")
        asked = run.result.scenario["moves"]
        for move in moves[moves["outcome"] == "completed"].to_dict("records"):
            mine = rounds[rounds["move"] == move["move"]]
            writes = (guests.get(move["vm"]) or {}).get("writes")
            if move["transfer"] != "pre-copy" or not writes or not len(mine):
                continue
            known = {str(key): value for key, value in move.items()}
            known["guest"] = guests[move["vm"]]
            known["limits"] = asked[int(move["move"]) - 1]["transfer"]
            known["mbps"] = float(mine["mbps"].iloc[0])
            found.append({**known, "run": name})
    return found


def _guests(result: Result) -> Mapping[str, Any]:
    places = [tenant["vms"] for tenant in result.scenario.get("tenants", ())]
    vms = {vm: place for each in places for vm, place in each.items()}
    return {vm: place.get("guest") for vm, place in vms.items() if isinstance(place, dict)}


def _row(move: Mapping[str, Any]) -> dict[str, Any]:
    bytes_s = move["mbps"] * 1e6 / 8
    writes_s = move["guest"]["writes"]["rate_mb_s"] * MB
    row = {key: move[key] for key in ("run", "move", "vm", "mbps", *PANELS)}
    row |= {"ratio": writes_s / bytes_s, "end": move["transfer_end"]}
    for label, uniform in (("linear", False), ("random", True)):
        model = _model(move, writes_s, bytes_s, uniform=uniform)
        row |= {f"{label}_pause_ms": model.pause_ms, f"{label}_total_ms": model.total_ms}
    return row


def _state_bytes(guest: Mapping[str, Any]) -> int:
    return int((guest["memory_mb"] + guest.get("disk_mb", 0)) * MB)


def _model(move: Mapping[str, Any], writes_s: float, bytes_s: float, *, uniform: bool) -> Expected:
    guest = move["guest"]
    working_set = (guest["writes"].get("working_set_mb") or guest["memory_mb"]) * MB
    limits = TransferLimits(**move["limits"])
    return expected(_state_bytes(guest), writes_s, working_set, bytes_s, limits, uniform=uniform)


def draw(result: Result, preset: Preset) -> Figure:
    moves = _moves(result)
    table = data(result)
    figure = _style.figure(preset, 30 * preset.em_in)
    panels = figure.subplots(2, 1, sharex=True)
    ratios = np.linspace(0.02, max(1.3, float(table["ratio"].max()) * 1.05), 400)
    usual = moves[0]
    bytes_s = float(np.median([move["mbps"] for move in moves])) * 1e6 / 8
    for axes, (column, label) in zip(panels, PANELS.items(), strict=True):
        lows = []
        for number, uniform in enumerate(_MODELS.values(), start=1):
            models = [_model(usual, ratio * bytes_s, bytes_s, uniform=uniform) for ratio in ratios]
            values = [m.pause_ms if column == "pause_ms" else m.total_ms for m in models]
            lows.append(min(values))
            axes.plot(
                *(ratios, np.maximum(values, _ALMOST_NOTHING_MS)),
                color=_style.colour(number),
                linestyle=_style.line(number),
                zorder=1,
            )
        for forced, number in ((False, 0), (True, 3)):
            chosen = table[(table["end"] == "forced") == forced]
            if chosen.empty:
                continue  # matplotlib takes unclipped nothing for something at the figure's corner
            _style.dots(
                *(axes, chosen["ratio"], chosen[column].clip(lower=_ALMOST_NOTHING_MS), preset),
                marker=number,
                colour=0,
            )
        highest = max(float(table[column].max()), float(axes.get_ylim()[1]))
        lowest = max(_ALMOST_NOTHING_MS, min(*lows, float(table[column].min()) / 1.3) / 1.3)
        _style.log(axes, "y", lowest, highest * 1.5, 6)
        axes.set_ylabel(label)
    _style.linear(panels[1], "x", 5 if preset.narrow else 8)
    panels[1].set_xlim(0, float(ratios[-1]))
    panels[1].set_xlabel("rate of writing ÷ rate of sending")
    _style.legend(figure, preset, _handles(preset, table))
    return figure


def _handles(preset: Preset, table: pd.DataFrame) -> list[Line2D]:
    handles = []
    if (table["end"] != "forced").any():
        handles.append(_style.point_handle(0, "measured", preset, line=False))
    if (table["end"] == "forced").any():
        forced = _style.point_handle(3, "measured, stopped by force", preset, line=False)
        forced.set_color(_style.colour(0))
        handles.append(forced)
    for number, label in enumerate(_MODELS, start=1):
        look = {"color": _style.colour(number), "linestyle": _style.line(number)}
        handles.append(Line2D([], [], label=f"model: {label}", **look))
    return handles


def caption(result: Result) -> str:
    table = data(result).sort_values("ratio")
    slow, fast = table.iloc[0], table.iloc[-1]
    said = (
        f"A VM that writes at {slow['ratio']:.2f} times the rate of sending stood still for "
        f"{duration(slow['pause_ms'])} and took {duration(slow['transfer_total_ms'])}; at "
        f"{fast['ratio']:.2f} times, {duration(fast['pause_ms'])} and "
        f"{duration(fast['transfer_total_ms'])}."
    )
    forced = int((table["end"] == "forced").sum())
    if forced:
        said += f" {forced} of {len(table)} moves had to be stopped by force."
    return (
        f"{said} The models' pause falls wherever they need one more round, which leaves less for "
        "the end."
    )
