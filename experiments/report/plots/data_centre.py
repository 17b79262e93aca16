"""The data centre: underlay, NVEs, VMs where they begin, and the paths of those that move."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from experiments.measure.results import Result
from experiments.measure.task_moves import task_moves_of
from experiments.report.format import listing, things
from experiments.report.plots import _style
from experiments.report.plots._runs import TracedRun, runs_of
from experiments.report.plots._style import Preset
from topologies import catalogue

QUESTION = "What stands where?"
PLACE = 10
MOST_NVES = {"column": 5, "page": 10, "slide": 9, "screen": 10}
MOST_VMS = 10
"""How many VMs of an NVE are named."""
MOST_ROUTES = 6


@dataclass(frozen=True)
class Site:
    """The parts of a picture of the data centre."""

    nves: tuple[str, ...]
    upper: tuple[str, ...]
    """The switches and routers of the underlay."""
    links: tuple[tuple[str, str], ...]
    homes: Mapping[str, str]


def suits(result: Result) -> bool:
    return any(run.result.homes for run in runs_of(result).values())


def site_of(scenario: Mapping[str, Any], homes: Mapping[str, str]) -> Site:
    """Return the site of a scenario as recorded.

    A topology that this vmmlab does not know, or knows with other parameters, is drawn as its NVEs
    on one underlay.
    """
    given = dict(scenario.get("topology", {}))
    kind = str(given.pop("kind", "star"))
    try:
        topology = catalogue.get(kind)
        fabric = topology.build(topology.parameters.model_validate(given))
    except ValueError:
        nves = tuple(sorted(set(homes.values())))
        return Site(nves, ("underlay",), tuple((nve, "underlay") for nve in nves), homes)
    upper = tuple(node.name for node in fabric.nodes if node.kind != "nve")
    return Site(fabric.nves, upper, tuple((link.a, link.b) for link in fabric.links), homes)


def _chosen(result: Result) -> TracedRun:
    """Return the run that is drawn: the one in which most was moved, of equals the first."""
    runs = [run for run in runs_of(result).values() if run.result.homes]
    return max(runs, key=lambda run: len({(vm, to) for vm, _, to, _ in _ways(run)}))


def _ways(run: TracedRun) -> list[tuple[str, str, str, int]]:
    """Return VM or task, source, destination and count of the moves that ended at their
    destination.
    """
    counted = Counter(
        (move.vm, move.source_nve, move.destination_nve)
        for move in run.moves
        if move.outcome in ("completed", "lost", "unfinished")
    )
    homes = run.result.homes
    counted.update(
        (f"task {move.task}", homes.get(move.source_vm, "?"), homes.get(move.destination_vm, "?"))
        for move in task_moves_of(run.result.events)
        if move.outcome == "completed"
    )
    return [(*way, times) for way, times in counted.items()]


def _taken_over(run: TracedRun) -> set[tuple[str, str, str]]:
    """Return VM, source and destination of the take-overs by standbys."""
    return {
        (move.vm, move.source_nve, move.destination_nve) for move in run.moves if move.is_take_over
    }


def _tasks_of(run: TracedRun) -> dict[str, list[str]]:
    """Return the tasks by the VMs that they start in."""
    found: dict[str, list[str]] = {}
    for task, given in (run.result.scenario.get("tasks") or {}).items():
        found.setdefault(str(given.get("on")), []).append(task)
    return found


def _shown_nves(site: Site, run: TracedRun, most: int) -> list[str]:
    """Return all NVEs; of more than fit, first those that VMs are on or move to."""
    if len(site.nves) <= most:
        return list(site.nves)
    touched = {each for _, source, to, _ in _ways(run) for each in (source, to)}
    wanted = sorted(site.nves, key=lambda nve: (nve not in touched, nve not in site.homes.values()))
    return [nve for nve in site.nves if nve in wanted[:most]]


def draw(result: Result, preset: Preset) -> Figure:
    run = _chosen(result)
    site = site_of(run.result.scenario, run.result.homes)
    nves = _shown_nves(site, run, MOST_NVES[preset.name])
    vms = {nve: _vms_of(site, nve) for nve in nves}
    tallest = max([1, *(len(each) for each in vms.values())])
    ways = _ways(run)
    taken = _taken_over(run)
    routes = {
        (source, to, (vm, source, to) in taken)
        for vm, source, to, _ in ways
        if source in nves and to in nves
    }
    arcs = 0.8 + 1.6 * min(len(routes), MOST_ROUTES) if routes else 0.5
    levels = _levels(site, nves)
    rows = len(set(levels.values()))
    height = 3.4 * rows + 3.2 + 1.5 * tallest + arcs + 2
    figure = _style.figure(preset, height * preset.em_in)
    axes = figure.subplots()
    axes.set_axis_off()
    places = {nve: float(place) for place, nve in enumerate(nves)}
    _draw_underlay(axes, site, levels, places, preset)
    _draw_nves(axes, vms, places, run, preset)
    floor = -(1.6 + 1.5 * tallest)
    _draw_ways(axes, ways, taken, places, floor, preset)
    axes.set_xlim(-0.55, len(nves) - 0.45)
    axes.set_ylim(floor - arcs, 3.4 * rows + 1.4)
    return figure


def _vms_of(site: Site, nve: str) -> list[str]:
    vms = [vm for vm, home in site.homes.items() if home == nve]
    return vms if len(vms) <= MOST_VMS else [*vms[: MOST_VMS - 1], f"+{len(vms) - MOST_VMS + 1}"]


def _levels(site: Site, nves: Sequence[str]) -> dict[str, int]:
    """Return how many links a node of the underlay is from the nearest NVE."""
    level = dict.fromkeys(site.nves, 0)
    frontier = list(site.nves)
    while frontier:
        following = []
        for node in frontier:
            for a, b in site.links:
                other = b if node == a else a if node == b else None
                if other is not None and other not in level:
                    level[other] = level[node] + 1
                    following.append(other)
        frontier = following
    return {node: level.get(node, 1) for node in site.upper}


def _draw_underlay(
    axes: Axes,
    site: Site,
    levels: Mapping[str, int],
    nves: Mapping[str, float],
    preset: Preset,
) -> None:
    """Draw each node above the middle of the nodes linked to it from below."""
    at: dict[str, tuple[float, float]] = {nve: (x, 0.0) for nve, x in nves.items()}
    for level in sorted(set(levels.values())):
        here = [node for node in site.upper if levels[node] == level]
        wish = {}
        for node in here:
            below = [
                at[other][0]
                for link in site.links
                if node in link
                for other in link
                if other != node and other in at and levels.get(other, 0) < level
            ]
            if below or level > 1:
                wish[node] = sum(below) / len(below) if below else (len(nves) - 1) / 2
        ordered = sorted(wish, key=lambda node: wish[node])
        crowded = len({round(wish[node], 2) for node in ordered}) < len(ordered)
        for number, node in enumerate(ordered):
            spread = (number + 0.5) / len(ordered) * len(nves) - 0.5
            at[node] = (spread if crowded else wish[node], 3.4 * level)
    for a, b in site.links:
        if a in at and b in at:
            (x, y), (other_x, other_y) = at[a], at[b]
            axes.plot(
                [x, other_x], [y, other_y], color=_style.FAINT, linewidth=preset.line_pt, zorder=0
            )
    for node, (x, y) in at.items():
        if node in levels:
            _box(axes, x, y, node, preset, fill="#f2f2f2", edge=_style.FAINT)


def _draw_nves(
    axes: Axes,
    vms: Mapping[str, Sequence[str]],
    places: Mapping[str, float],
    run: TracedRun,
    preset: Preset,
) -> None:
    moving = list(dict.fromkeys(move.vm for move in run.moves))
    tasks = _tasks_of(run)
    for nve, x in places.items():
        _box(axes, x, 0.0, nve, preset, fill="#dbe9f6", edge=_style.colour(0), bold=True)
        for row, vm in enumerate(vms[nve], start=1):
            look = moving.index(vm) if vm in moving else None
            axes.text(
                x,
                -0.5 - 1.5 * row,
                f"{vm}: {', '.join(tasks[vm])}" if vm in tasks else vm,
                ha="center",
                va="center",
                fontsize=preset.small_pt,
                color=_style.INK if look is None else _style.colour(_way_colour(look)),
                weight="normal" if look is None else "bold",
            )


def _way_colour(number: int) -> int:
    return (number + 1) % _style.MOST_TOLD_APART


def _draw_ways(
    axes: Axes,
    ways: Sequence[tuple[str, str, str, int]],
    taken: Collection[tuple[str, str, str]],
    places: Mapping[str, float],
    floor: float,
    preset: Preset,
) -> None:
    """Draw an arrow below the NVEs for each path, with the VM's name and the count; dashed, if a
    standby takes over.
    """
    vms = list(dict.fromkeys(vm for vm, *_ in ways))
    by_route: dict[tuple[str, str, bool], list[tuple[str, int]]] = {}
    for vm, source, to, times in ways:
        if source in places and to in places:
            route = source, to, (vm, source, to) in taken
            by_route.setdefault(route, []).append((vm, times))
    for number, ((source, to, take_over), those) in enumerate(list(by_route.items())[:MOST_ROUTES]):
        y = floor - 1.2 - 1.6 * number
        start, end = places[source], places[to]
        alone = len({vm for vm, _ in those}) == 1
        colour = _style.colour(_way_colour(vms.index(those[0][0]))) if alone else _style.INK
        axes.add_patch(
            FancyArrowPatch(
                (start, y),
                (end, y),
                arrowstyle="-|>",
                mutation_scale=preset.text_pt,
                linestyle="--" if take_over else "-",
                linewidth=preset.line_pt * 1.3,
                color=colour,
                shrinkA=0,
                shrinkB=0,
            )
        )
        axes.plot([start], [y], marker="o", markersize=preset.small_pt * 0.4, color=colour)
        words = listing([vm if times == 1 else f"{vm} ×{times}" for vm, times in those])
        room = preset.characters(abs(end - start) / len(places)) - (11 if take_over else 0)
        if len(words) > room:
            words = f"{len(those)} VMs"
        if take_over:
            words = f"take-over: {words}"
        axes.text(
            (start + end) / 2,
            y + 0.1,
            words,
            ha="center",
            va="bottom",
            fontsize=preset.small_pt,
            color=colour,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.3, "alpha": 0.8},
        )


def _box(
    axes: Axes,
    x: float,
    y: float,
    words: str,
    preset: Preset,
    *,
    fill: str,
    edge: str,
    bold: bool = False,
) -> None:
    axes.add_patch(
        FancyBboxPatch(
            (x - 0.36, y - 0.75),
            0.72,
            1.5,
            boxstyle="round,pad=0,rounding_size=0.08",
            mutation_aspect=6,
            facecolor=fill,
            edgecolor=edge,
            linewidth=preset.line_pt * 0.8,
            zorder=1,
        )
    )
    axes.text(
        x,
        y,
        words,
        ha="center",
        va="center",
        fontsize=preset.small_pt,
        weight="bold" if bold else "normal",
        zorder=2,
    )


def caption(result: Result) -> str:
    run = _chosen(result)
    site = site_of(run.result.scenario, run.result.homes)
    standing = f"{things(len(site.nves), 'NVE')} and {things(len(site.homes), 'VM')}."
    of_run = f" The figure shows the run {run.name}." if len(runs_of(result)) > 1 else ""
    shown = len(_shown_nves(site, run, MOST_NVES["screen"]))
    cut = f" {shown} of the NVEs are drawn." if shown < len(site.nves) else ""
    said = _moved(run) or ["No VM was moved."]
    return f"{standing}{of_run}{cut} {' '.join(said)}"


def _moved(run: TracedRun) -> list[str]:
    """Return sentences: which VMs and tasks move where, and which standbys take over."""
    paths: dict[str, list[str]] = {}
    taken: dict[str, dict[str, list[str]]] = {}
    for move in run.moves:
        if move.is_take_over:
            at = taken.setdefault(move.source_nve, {})
            at.setdefault(move.destination_nve, []).append(move.vm)
        elif move.outcome in ("completed", "lost", "unfinished"):
            paths.setdefault(move.vm, [move.source_nve]).append(move.destination_nve)
    for task_move in task_moves_of(run.result.events):
        if task_move.outcome == "completed":
            path = paths.setdefault(f"task {task_move.task}", [task_move.source_vm])
            path.append(task_move.destination_vm)
    alike: dict[str, list[str]] = {}
    for name, path in paths.items():
        way = "→".join(path)
        if len(path) > 5:
            way = f"{len(path) - 1} times, from {path[0]}, and end at {path[-1]}"
        alike.setdefault(way, []).append(name)
    said = [
        f"{_few(names)} {'moves' if len(names) == 1 else 'move'} {_singular(way, names)}."
        for way, names in list(alike.items())[:6]
    ]
    if len(alike) > 6:
        said.append(f"{things(sum(map(len, list(alike.values())[6:])), 'other')} move, too.")
    for source, places in taken.items():
        there = "; ".join(f"of {_few(vms)} at {to}" for to, vms in places.items())
        said.append(f"When {source} is lost, standbys take over: {there}.")
    return [
        sentence[0].upper() + sentence[1:] if sentence.startswith("task") else sentence
        for sentence in said
    ]


def _few(names: Sequence[str]) -> str:
    return listing(names if len(names) <= 6 else [*names[:5], f"{len(names) - 5} more"])


def _singular(way: str, names: Sequence[str]) -> str:
    return way.replace("and end at", "and ends at") if len(names) == 1 else way


def data(result: Result) -> pd.DataFrame:
    """Return each VM's NVE before the first move and after the last, in every run."""
    rows = []
    for name, run in runs_of(result).items():
        place = dict(run.result.homes)
        for move in run.moves:
            if move.outcome == "completed":
                place[move.vm] = move.destination_nve
        for vm, before in run.result.homes.items():
            moves = sum(move.vm == vm for move in run.moves)
            rows.append((name, vm, before, place[vm], moves))
    return pd.DataFrame(rows, columns=["run", "vm", "nve_before", "nve_after", "moves"])
