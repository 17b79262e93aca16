"""A sweep: one scenario run with every combination of some values.

A sweep is a directory that grows:

    sweep.json      what is run; a sweep is only continued with the same plan
    cells/<name>/   the result of one combination: complete, or absent
    summary.csv     one row per cell and run: the whole run in one line
    flows.csv       one row per cell, run and flow
    moves.csv       one row per cell, run, move and flow
    plots/          how the figures depend on what was varied

The three tables begin with the values of the cell.  They are made anew from the cells' recorded
files, and replaced whole.  A cell that has a result is finished: to run it again, remove its
directory.
"""

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.measure.results import CELLS, PLAN, Result, ResultError, load
from experiments.measure.totals import RunTotals, of_run
from experiments.report.format import count, milliseconds
from experiments.report.text_table import ReportTable

if TYPE_CHECKING:
    import pandas as pd

SUMMARY, FLOWS, MOVES = "summary.csv", "flows.csv", "moves.csv"

_COLUMNS = {
    "moves": ("moves", count),
    "sent": ("sent", count),
    "lost": ("lost", count),
    "dup.": ("duplicated", count),
    "out of\norder": ("reordered", count),
    "recov.\np99 ms": ("recovery_excess_p99_ms", milliseconds),
    "max\nms": ("recovery_excess_max_ms", milliseconds),
    "silence\nmax ms": ("blackout_max_ms", milliseconds),
    "conv.\nmax ms": ("convergence_max_ms", milliseconds),
}


@dataclass(frozen=True)
class Cell:
    """One combination: a name that can be a directory's, and the value of every key."""

    name: str
    settings: Mapping[str, Any]


def cells(varied: Mapping[str, Sequence[Any]]) -> list[Cell]:
    """Return every combination of the values; the last key changes fastest."""
    short = _short(list(varied))
    found: dict[str, Cell] = {}
    for values in product(*varied.values()):
        settings = dict(zip(varied, values, strict=True))
        name = ",".join(f"{short[key]}={_slug(value)}" for key, value in settings.items())
        if name in found:  # two values with the same text: {a: 1} and [a, 1]
            name = f"{name},{len(found) + 1}"
        found[name] = Cell(name, settings)
    return list(found.values())


def _short(keys: Sequence[str]) -> dict[str, str]:
    """Return the last part of each dotted key if that is unique, and otherwise the whole key."""
    last = [key.rpartition(".")[2] for key in keys]
    return {
        key: own if last.count(own) == 1 else _slug(key)
        for key, own in zip(keys, last, strict=True)
    }


def _slug(value: Any) -> str:
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return re.sub(r"[^A-Za-z0-9_.+-]+", "-", text).strip("-")[:60]


class Sweep:
    """A sweep's directory."""

    def __init__(self, path: Path, matrix: Sequence[Cell]) -> None:
        self.path = path
        self.cells = matrix

    @classmethod
    def begin(cls, path: Path, matrix: Sequence[Cell], plan: Mapping[str, Any]) -> "Sweep":
        """Begin a sweep or continue one.  Raises ResultError if something else is at `path`."""
        file = path / PLAN
        wanted = json.loads(json.dumps(plan, default=str))
        if not path.exists():
            try:
                (path / CELLS).mkdir(parents=True)
            except OSError as error:
                raise ResultError(
                    f"{path} cannot be written ({error.strerror}); name another with --out"
                ) from None
            _replace(file, json.dumps(wanted, indent=2, ensure_ascii=False) + "\n")
        elif not file.is_file():
            raise ResultError(
                f"{path} exists and is not a sweep; name another directory with --out"
            )
        elif json.loads(file.read_text(encoding="utf-8")) != wanted:
            raise ResultError(
                f"{path} holds a sweep of something else; to go on with it, give the scenario and "
                "the options that it was begun with, or name another directory with --out"
            )
        return cls(path, matrix)

    def place_of(self, cell: Cell) -> Path:
        return self.path / CELLS / cell.name

    def is_finished(self, cell: Cell) -> bool:
        return self.place_of(cell).exists()

    def problems(self, cell: Cell) -> list[str]:
        """Return why a finished cell's figures must not be trusted.  Raises ResultError."""
        runs = load(self.place_of(cell)).runs
        return [
            f"{name}: {problem}"
            for name, run in runs.items()
            for problem in run.manifest["problems"]
        ]

    def finished(self) -> dict[str, Result]:
        """Return the available results, by the names of their cells.  Raises ResultError."""
        return {
            cell.name: load(self.place_of(cell)) for cell in self.cells if self.is_finished(cell)
        }

    def aggregate(self) -> "pd.DataFrame":
        """Write the three tables; return the summary."""
        import pandas as pd

        summaries, flows, moves = [], [], []
        for settings, run_name, run in self._runs():
            words = {**settings, "run": run_name}
            totals = asdict(of_run(run.totals, run.metrics))
            valid = bool(run.manifest.get("valid", True))
            summaries.append({**words, "valid": valid, **totals})
            flows.append(_labelled(run.totals, words))
            moves.append(_labelled(run.metrics, words))
        keys = list(self.cells[0].settings)
        columns = [*keys, "run", "valid", *(field.name for field in fields(RunTotals))]
        summary = pd.DataFrame(summaries, columns=columns)
        _replace(self.path / SUMMARY, summary.to_csv(index=False))
        for name, tables in ((FLOWS, flows), (MOVES, moves)):
            whole = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()
            _replace(self.path / name, whole.to_csv(index=False))
        return summary

    def _runs(self) -> Iterator[tuple[Mapping[str, Any], str, Result]]:
        results = self.finished()
        for cell in self.cells:
            if cell.name in results:
                for run_name, run in results[cell.name].runs.items():
                    yield cell.settings, run_name, run


def table(summary: "pd.DataFrame", keys: Iterable[str]) -> ReportTable:
    """Return the summary for the terminal, in which runs that are not valid are marked."""
    words = [*keys, "run"]
    short = _short(words)
    rows = [
        (
            *(str(row[word]) for word in words[:-1]),
            str(row["run"]) + ("" if row["valid"] else " !"),
            *(write(row[column]) for column, write in _COLUMNS.values()),
        )
        for row in summary.to_dict("records")
    ]
    return ReportTable(
        "Every combination in one line (recovery: above the underlay's own delay; !: not valid)",
        (*(short[word] for word in words), *_COLUMNS),
        rows,
        text_columns=len(words),
    )


def _labelled(frame: "pd.DataFrame", words: Mapping[str, Any]) -> "pd.DataFrame":
    """Return the table with the cell's values in front, as text, because a value may be a list."""
    labelled = frame.copy()
    for place, (key, value) in enumerate(words.items()):
        labelled.insert(place, key, str(value))
    return labelled


def _replace(file: Path, text: str) -> None:
    """Replace a file in one step, so that no reader sees half of it."""
    unfinished = file.with_name(f".{file.name}.{os.getpid()}.partial")
    unfinished.write_text(text, encoding="utf-8")
    unfinished.rename(file)
