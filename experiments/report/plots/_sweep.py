"""The data of a sweep's figures: the three tables that `vmmlab sweep` writes."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from experiments.measure.results import PLAN, ResultError

SUMMARY, MOVES = "summary.csv", "moves.csv"


@dataclass(frozen=True)
class SweepTables:
    """The tables of a sweep, finished or half finished."""

    path: Path
    varied: Mapping[str, Sequence[Any]]
    """The factors: the key of the scenario and the values that it takes."""
    summary: pd.DataFrame
    """One row per cell and run."""
    moves: pd.DataFrame
    """One row per cell, run, move and flow; empty if no cell has a move."""

    @classmethod
    def read(cls, path: Path) -> "SweepTables":
        """Read the tables.  Raises ResultError if there are none."""
        try:
            varied = json.loads((path / PLAN).read_text(encoding="utf-8"))["vary"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ResultError(
                f"{path / PLAN} cannot be read as a sweep's plan: {error!r}"
            ) from None
        if not (path / SUMMARY).is_file():
            raise ResultError(
                f"{path} has no {SUMMARY}: no combination is finished; the command that began the "
                "sweep goes on with it"
            )
        words = dict.fromkeys([*varied, "run"], str)
        return cls(path, varied, _table(path / SUMMARY, words), _table(path / MOVES, words))

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def factors(self) -> list[str]:
        """The factors that take several values, the one with most values first."""
        several = [key for key, values in self.varied.items() if len(values) > 1]
        return sorted(several or list(self.varied), key=lambda key: -len(self.varied[key]))

    def values(self, factor: str) -> list[str]:
        """Return the values of a factor as the tables have them, in the order of the sweep."""
        return [_as_text(value) for value in self.varied[factor]]

    @property
    def unfinished(self) -> int:
        """How many combinations have no result yet."""
        planned = 1
        for values in self.varied.values():
            planned *= len(values)
        return planned - len(self.summary[list(self.varied)].drop_duplicates())


def is_sweep(path: Path) -> bool:
    return (path / PLAN).is_file()


def short(key: str) -> str:
    """Return the last part of a key such as `topology.link.delay_ms`, as a heading."""
    return key.rpartition(".")[2]


def _table(file: Path, words: Mapping[str, Any]) -> pd.DataFrame:
    try:
        return pd.read_csv(file, dtype=dict(words), keep_default_na=True)
    except (OSError, pd.errors.EmptyDataError):
        return pd.DataFrame(columns=list(words))


def _as_text(value: Any) -> str:
    return str(value)
