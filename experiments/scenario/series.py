"""A series: one entry of `moves` that stands for many.

    moves:
      - {series: 100, at_s: 2, every_s: 1.2, vm: vm1, to: [nve2, nve1], pause_ms: [0, 50, 500]}

Its n-th move, from 0, begins at `at_s + n * every_s`.  Where a key has a list, the moves take its
values in turn, over and over; lists of lengths without a common factor meet in every combination.
The resolved scenario lists the moves one by one, so a series is only a short way to write them.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from experiments.errors import ScenarioError
from experiments.scenario.errors import complaints


class Series(BaseModel):
    """The keys that make a series of an entry; all others are a move's."""

    model_config = ConfigDict(extra="allow", frozen=True)

    series: int = Field(ge=1, le=10_000)
    at_s: float = Field(ge=0, allow_inf_nan=False)
    every_s: float = Field(ge=0, allow_inf_nan=False)

    @model_validator(mode="after")
    def _has_values(self) -> Self:
        for key, value in (self.model_extra or {}).items():
            if value == []:
                raise ValueError(f"{key} is an empty list; give the values to take in turn")
        return self

    def moves(self) -> Iterator[dict[str, Any]]:
        for number in range(self.series):
            at_s = round(self.at_s + number * self.every_s, 6)
            yield {"at_s": at_s} | {
                key: value[number % len(value)] if isinstance(value, list) else value
                for key, value in (self.model_extra or {}).items()
            }


def _is_series(entry: Any) -> bool:
    return isinstance(entry, Mapping) and "series" in entry


def spelt_out(content: dict[str, Any], origin: str) -> tuple[dict[str, Any], list[str]]:
    """Return the content with every move of its series listed, and where each move was written.

    Raises ScenarioError.
    """
    given = content.get("moves")
    if not isinstance(given, list):
        return content, []
    moves: list[Any] = []
    written_at: list[str] = []
    for number, entry in enumerate(given):
        place = f"moves.{number}"
        try:
            listed = list(Series.model_validate(entry).moves()) if _is_series(entry) else [entry]
        except ValidationError as error:
            raise ScenarioError(f"{origin}: {place}.{complaints(error)}") from None
        moves += listed
        written_at += [place] * len(listed)
    return {**content, "moves": moves}, written_at
