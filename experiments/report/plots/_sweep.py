"""The data of a sweep's figures: the three tables that `vmmlab sweep` writes."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from experiments.measure.results import PLAN, ResultError
from experiments.report.keys import KeyWords, words_of_all

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

    @cached_property
    def words(self) -> Mapping[str, KeyWords]:
        """What each factor is called in a figure."""
        return words_of_all(self.varied)

    def values(self, factor: str) -> list[str]:
        """Return the values of a factor as the tables have them: numbers by size, others in the
        order of the sweep.
        """
        values = [str(value) for value in self.varied[factor]]
        return sorted(values, key=float) if self.is_numeric(factor) else values

    def is_numeric(self, factor: str) -> bool:
        """Return whether all values of a factor are finite numbers."""
        return all(
            isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
            for value in self.varied[factor]
        )

    @property
    def unfinished(self) -> int:
        """How many combinations have no result yet."""
        planned = 1
        for values in self.varied.values():
            planned *= len(values)
        return planned - len(self.summary[list(self.varied)].drop_duplicates())


def is_sweep(path: Path) -> bool:
    return (path / PLAN).is_file()


def _table(file: Path, words: Mapping[str, Any]) -> pd.DataFrame:
    try:
        return pd.read_csv(file, dtype=dict(words), keep_default_na=True)
    except (OSError, pd.errors.EmptyDataError):
        return pd.DataFrame(columns=list(words))
