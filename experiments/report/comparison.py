"""Compares several results: a row for each of their runs.

Runs are compared within a *kind* only: the same datapath, the same emulation of links, and the same
pauses asked for.  A difference between kinds may be due to that and to nothing else, so each kind
has a table of its own, which names the kind.  Other differences are listed.

Everything is computed from recorded files.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.measure.results import Result, ResultError, load
from experiments.measure.totals import of_run
from experiments.report.format import MISSING, count, listing, milliseconds, things
from experiments.report.text_table import ReportTable

if TYPE_CHECKING:
    import pandas as pd

_SUMMARY_OF_A_SWEEP = "summary.csv"


@dataclass(frozen=True)
class Range:
    """The least, median and greatest value of a run's moves; None if there are no values."""

    min: float | None
    median: float | None
    max: float | None

    @classmethod
    def of(cls, values: "pd.Series") -> "Range":
        import pandas as pd

        there = pd.to_numeric(values).dropna()
        if not len(there):
            return cls(None, None, None)
        return cls(float(there.min()), float(there.median()), float(there.max()))


@dataclass(frozen=True)
class KindOfRun:
    """What runs have to have in common for their figures to be compared."""

    datapath: str
    links: str
    pauses_ms: tuple[float, ...]
    """The pauses that were asked for; empty without moves, for moves that bring state over, and in
    results from before they were recorded."""

    def __str__(self) -> str:
        asked = (
            listing([f"{pause:g}" for pause in self.pauses_ms]) + " ms" if self.pauses_ms else "-"
        )
        return f"datapath {self.datapath}, links by {self.links}, pauses asked for: {asked}"


@dataclass(frozen=True)
class ComparedRun:
    """The figures of one run; times in ms, those of moves over all flows."""

    name: str
    valid: bool
    kind: KindOfRun
    conditions: Mapping[str, str]
    """Other conditions that may explain a difference."""
    moves: int
    completed: int
    sent: int
    lost: int
    duplicated: int
    reordered: int
    lost_per_move: Range
    """Lost packets of all flows."""
    recovery_ms: Range
    """For each flow, the time that the network added after the VM ran again, above the underlay's
    delay."""
    silence_ms: Range
    """For each flow, the longest time in which nothing of it arrived."""
    pause_ms: Range


def compared(paths: Sequence[Path]) -> list[ComparedRun]:
    """Return the runs of results, in their order.

    Raises ResultError for anything that is no result.
    """
    results = [_load(path) for path in paths]
    names = [result.name for result in results]
    runs = []
    for result in results:
        label = result.name if names.count(result.name) == 1 else str(result.path)
        for run_name, run in result.runs.items():
            runs.append(_figures(run, f"{label}/{run_name}" if result.variants else label))
    return runs


def _load(path: Path) -> Result:
    if (path / _SUMMARY_OF_A_SWEEP).exists():
        raise ResultError(
            f"{path} is a sweep, whose {_SUMMARY_OF_A_SWEEP} compares its runs already; name "
            f"results, such as those in {path / 'cells'}"
        )
    return load(path)


def _figures(run: Result, name: str) -> ComparedRun:
    moves, totals = run.metrics, of_run(run.totals, run.metrics)
    each = moves.drop_duplicates("move")
    asked = sorted({float(pause) for pause in each["pause_asked_ms"].dropna()})
    return ComparedRun(
        name=name,
        valid=bool(run.manifest.get("valid", True)),
        kind=KindOfRun(
            str(run.manifest.get("datapath", MISSING)),
            str(run.manifest.get("link_emulator", MISSING)),
            tuple(asked),
        ),
        conditions=_conditions(run),
        moves=totals.moves,
        completed=totals.completed,
        sent=totals.sent,
        lost=totals.lost,
        duplicated=totals.duplicated,
        reordered=totals.reordered,
        lost_per_move=Range.of(moves.dropna(subset=["flow"]).groupby("move")["lost"].sum()),
        recovery_ms=Range.of(moves["recovery_excess_ms"]),
        silence_ms=Range.of(moves["blackout_ms"]),
        pause_ms=Range.of(each["pause_ms"]),
    )


def _conditions(run: Result) -> dict[str, str]:
    """Return settings and machine of a run, by name."""
    scenario, manifest = run.scenario, run.manifest
    topology = scenario.get("topology", {})
    rates = [sent["rate_pps"] for sent in scenario.get("traffic", ()) if "rate_pps" in sent]
    told = {
        "overlay": scenario.get("overlay", {}).get("kind"),
        "topology": topology.get("kind"),
        "link delay (ms)": (topology.get("link") or {}).get("delay_ms"),
        "packets/s": ", ".join(f"{rate:g}" for rate in sorted(set(rates))) or None,
        "announced by": ", ".join(_announcements(run)) or None,
        "kernel": manifest.get("kernel"),
        "CPUs": manifest.get("cpu_count"),
        "revision": str(manifest.get("git_revision") or "")[:12] or None,
    }
    return {
        name: MISSING if value is None else f"{value:g}" if isinstance(value, float) else str(value)
        for name, value in told.items()
    }


def _announcements(run: Result) -> list[str]:
    return sorted({str(form) for form in run.metrics["announce"].dropna() if form})


def tables(runs: Sequence[ComparedRun]) -> list[ReportTable]:
    """Return a table for each kind of run, and one of other differences."""
    kinds = list(dict.fromkeys(run.kind for run in runs))
    shown = [_of_kind(kind, [run for run in runs if run.kind == kind]) for kind in kinds]
    return [*shown, *_of_conditions(runs)]


def caveat(runs: Sequence[ComparedRun]) -> str | None:
    """Return why figures of different tables must not be compared; None for one table."""
    kinds = {run.kind for run in runs}
    if len(kinds) < 2:
        return None
    parts: dict[str, set[Any]] = {
        "datapath": {kind.datapath for kind in kinds},
        "emulation of links": {kind.links for kind in kinds},
        "pauses asked for": {kind.pauses_ms for kind in kinds},
    }
    different = listing([name for name, values in parts.items() if len(values) > 1])
    return (
        f"These are {things(len(kinds), 'kind')} of run, a table each: they differ in {different}, "
        "so a figure of one table is not to be compared with one of another."
    )


def _of_kind(kind: KindOfRun, runs: Iterable[ComparedRun]) -> ReportTable:
    headings = (
        "run", "moves", "sent", "lost", "dup.", "out of\norder",
        "lost/move\nmin", "\np50", "\nmax", "recov.\np50 ms", "max\nms",
        "silence\np50 ms", "max\nms", "pause\np50 ms", "max\nms",
    )  # fmt: skip
    rows: list[tuple[str, ...]] = [
        (
            run.name + ("" if run.valid else " !"),
            f"{run.completed}/{run.moves}",
            *map(count, (run.sent, run.lost, run.duplicated, run.reordered)),
            *map(count, (run.lost_per_move.min, run.lost_per_move.median, run.lost_per_move.max)),
            *(
                milliseconds(value)
                for spread in (run.recovery_ms, run.silence_ms, run.pause_ms)
                for value in (spread.median, spread.max)
            ),
        )
        for run in runs
    ]
    return ReportTable(f"Runs with {kind} (!: not valid)", headings, rows, text_columns=1)


def _of_conditions(runs: Sequence[ComparedRun]) -> list[ReportTable]:
    """Return a table of the conditions that are not the same in all runs; none if all are."""
    names = list(dict.fromkeys(name for run in runs for name in run.conditions))
    different = [name for name in names if len({run.conditions[name] for run in runs}) > 1]
    if not different:
        return []
    rows = [(run.name, *(run.conditions[name] for name in different)) for run in runs]
    headings = ("run", *different)
    return [ReportTable("What else is not the same", headings, rows, len(headings))]


def as_data(runs: Sequence[ComparedRun]) -> list[dict[str, Any]]:
    """Return the runs in plain values, for scripts."""
    return [asdict(run) for run in runs]
