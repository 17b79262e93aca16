"""What tenants' TCP had of their path while state moved, over it or over another path."""

from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from experiments.measure.results import Result
from experiments.report.format import listing
from experiments.report.plots import _style, _throughput
from experiments.report.plots._runs import TracedRun, runs_of
from experiments.report.plots._style import Preset

QUESTION = "What was left to tenants of their path while state moved over it, or over another?"
PLACE = 38


def suits(result: Result) -> bool:
    return bool(_shown(result))


def _shown(result: Result) -> list[TracedRun]:
    return [
        run
        for run in runs_of(result).values()
        if run.result.iterations is not None and _throughput.of_run(run) is not None
    ]


def _state(run: TracedRun) -> pd.DataFrame:
    """Return begin and end of each round in seconds, and its rate."""
    rounds = run.result.iterations
    assert rounds is not None
    began_s = (rounds["began_ns"] - run.start_ns) / 1e9
    ended_s = began_s + rounds["took_ms"] / 1e3
    table = rounds[["move", "vm", "iteration", "mbps"]]
    return table.assign(began_s=began_s, ended_s=ended_s)


def _tenants(run: TracedRun) -> pd.DataFrame:
    """Return the sum of all flows at the end of each interval."""
    table = _throughput.of_run(run)
    assert table is not None
    whole = table.assign(at_s=(table["at_s"] * 10).round() / 10)
    return whole.groupby("at_s")["mbit_per_s"].sum().reset_index()


def _networks(run: TracedRun) -> dict[int, str]:
    """What the state of each move went over, where that was recorded."""
    moves = run.result.moves.drop_duplicates("move")
    if "transfer_network" not in moves:
        return {}
    return dict(moves.set_index("move")["transfer_network"].dropna())


def data(result: Result) -> pd.DataFrame:
    """Return the mean throughput of tenants before, during and between the moves."""
    found = []
    for run in _shown(result):
        tenants, state = _tenants(run), _state(run)
        networks = _networks(run)
        during = pd.Series(False, index=tenants.index)
        for number, rounds in ((int(str(each)), rows) for each, rows in state.groupby("move")):
            begin_s, end_s = rounds["began_s"].min(), rounds["ended_s"].max()
            mine = tenants["at_s"].between(begin_s, end_s)
            during |= mine
            took_s = rounds["ended_s"] - rounds["began_s"]
            found.append(
                {
                    "run": run.name,
                    "move": number,
                    "network": networks.get(number, "underlay"),
                    "tenants_mbit_per_s": tenants[mine]["mbit_per_s"].mean(),
                    "state_mbit_per_s": (rounds["mbps"] * took_s).sum() / took_s.sum(),
                    "seconds": end_s - begin_s,
                }
            )
        alone = tenants[~during]["mbit_per_s"].mean()
        found.append({"run": run.name, "move": None, "tenants_mbit_per_s": alone})
    return pd.DataFrame(found)


def draw(result: Result, preset: Preset) -> Figure:
    runs = _shown(result)[: preset.panels]
    figure = _style.figure(preset, (len(runs) * 20 + 6) * preset.em_in)
    grid = list(figure.subplots(len(runs), 1, sharex=True, squeeze=False)[:, 0])
    for axes, run in zip(grid, runs, strict=True):
        tenants = _tenants(run)
        axes.plot(tenants["at_s"], tenants["mbit_per_s"], color=_style.colour(0))
        state, networks = _state(run), _networks(run)
        for number, rounds in ((int(str(each)), rows) for each, rows in state.groupby("move")):
            look = _look(networks.get(number, "underlay"))
            axes.bar(
                *(rounds["began_s"], rounds["mbps"], rounds["ended_s"] - rounds["began_s"]),
                align="edge",
                **look,
            )
            axes.annotate(
                f"move {number}",
                (float(rounds["began_s"].min()), float(rounds["mbps"].max())),
                xytext=(1, 1),
                textcoords="offset points",
                fontsize=preset.small_pt,
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.4, "alpha": 0.8},
            )
        axes.set_ylabel("Mbit/s")
        axes.set_ylim(bottom=0)
        _style.linear(axes, "y", 5)
        if len(runs) > 1:
            _style.title(axes, preset, run.name)
    grid[-1].set_xlabel("time since the traffic began (s)")
    grid[-1].set_xlim(0, max(run.end_s for run in runs))
    _style.linear(grid[-1], "x", 6 if preset.narrow else 10)
    used = {each for run in runs for each in _networks(run).values()} or {"underlay"}
    moving = [
        Patch(label=label, **_look(network))
        for network, label in _NETWORKS.items()
        if network in used
    ]
    tenants_too = Line2D([], [], color=_style.colour(0), label="tenants")
    _style.legend(figure, preset, [tenants_too, *moving])
    return figure


_NETWORKS = {
    "underlay": "state over the tenants' path, mean of a round",
    "migration": "state over the migration network, mean of a round",
}


def _look(network: str) -> dict[str, Any]:
    if network == "underlay":
        return {"color": _style.colour(1), "alpha": 0.35, "linewidth": 0}
    colour = _style.colour(2)
    return {"facecolor": "none", "edgecolor": colour, "hatch": "//", "linewidth": 0.5}


def caption(result: Result) -> str:
    said = []
    for run, rows in data(result).groupby("run", sort=False):
        moves, alone = rows[rows["move"].notna()], rows[rows["move"].isna()]
        parts = [
            f"{row.tenants_mbit_per_s:.0f} Mbit/s while move {row.move:g} sent state at "
            f"{row.state_mbit_per_s:.0f} Mbit/s for {row.seconds:.1f} s"
            f"{' over the migration network' if row.network == 'migration' else ''}"
            for row in moves.itertuples()
        ]
        alone_mbit = float(alone["tenants_mbit_per_s"].iloc[0])
        said.append(f"{run}: tenants had {listing(parts)}; otherwise {alone_mbit:.0f} Mbit/s.")
    return " ".join(said)
