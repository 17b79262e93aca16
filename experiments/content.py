"""A scenario before it is one: YAML read, keys changed, series of moves spelt out.

Nothing here knows what a scenario may say; that is `scenario`'s.  What is wrong with the text
itself is a sentence that names the file, or the option, and the place.

A *series* is one entry of `moves` that stands for many:

    moves:
      - {series: 100, at_s: 2, every_s: 1.2, vm: vm1, to: [nve2, nve1], pause_ms: [0, 50, 500]}

Its n-th move, from 0, begins at `at_s + n * every_s`.  Where a key has a list, the moves take its
values in turn, over and over; lists of lengths without a common factor meet in every combination.
The resolved scenario lists the moves one by one, so a series is only a short way to write them.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, model_validator

from experiments.errors import UsageError


class ScenarioError(UsageError):
    """The scenario cannot be run as it is; the message names file, field and remedy."""


# -- text ------------------------------------------------------------------------------------------


class _EachKeyOnce(yaml.SafeLoader):
    """YAML that does not let the second of two equal keys win without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = sorted({str(key) for key in keys if keys.count(key) > 1})
        if twice:
            raise yaml.constructor.ConstructorError(
                None, None, f"this key is there twice: {', '.join(twice)}", node.start_mark
            )
        return super().construct_mapping(node, deep)


def read(file: Path) -> dict[str, Any]:
    """A scenario file's content, not yet validated.  Raises ScenarioError."""
    try:
        content = yaml.load(file.read_text(encoding="utf-8"), _EachKeyOnce)
    except yaml.YAMLError as error:
        raise ScenarioError(f"{file}: this is not YAML: {_on_one_line(error)}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ScenarioError(f"{file}: {error}") from None
    if not isinstance(content, dict):
        raise ScenarioError(f"{file}: a scenario is a mapping of keys such as name and topology")
    return content


def _on_one_line(error: yaml.YAMLError) -> str:
    """What the parser found and where, without the drawing."""
    mark = getattr(error, "problem_mark", None)
    what = getattr(error, "problem", None) or str(error)
    place = f" (line {mark.line + 1}, column {mark.column + 1})" if mark else ""
    return " ".join(what.split()) + place


# -- changes ---------------------------------------------------------------------------------------


def setting(text: str) -> tuple[str, Any]:
    """`a.b=value` as given to --set.  Raises ScenarioError."""
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise ScenarioError(f"--set {text}: write it as key=value, such as overlay.in_flight=drop")
    try:
        return key, yaml.safe_load(value)
    except yaml.YAMLError:
        raise ScenarioError(f"--set {text}: {value!r} is not a YAML value") from None


def varied(text: str) -> tuple[str, list[Any]]:
    """`a.b=1,2,3` as given to --vary: a key and the values to try.  Raises ScenarioError."""
    key, equals, values = text.partition("=")
    if not key or not equals or not values:
        raise ScenarioError(f"--vary {text}: write it as key=value,value…, such as seed=1,2,3")
    try:
        listed = yaml.safe_load(f"[{values}]")
    except yaml.YAMLError:
        listed = None
    if not isinstance(listed, list) or not listed:
        raise ScenarioError(f"--vary {text}: {values!r} is no list of YAML values")
    if len({str(value) for value in listed}) < len(listed):
        raise ScenarioError(f"--vary {text}: a value is there twice")
    return key, listed


def matrix(texts: Sequence[str]) -> dict[str, list[Any]]:
    """All that is given to --vary.  Raises ScenarioError."""
    given = [varied(text) for text in texts]
    found = dict(given)
    if len(found) < len(given):
        raise ScenarioError("--vary: a key is there twice; give all its values at once")
    return found


def changed(content: Any, path: list[str], value: Any, what: str) -> Any:
    """A copy of nested mappings and lists with one value replaced.  Raises ScenarioError.

    `*` in place of a list's number means every entry that has the key: traffic.*.rate_pps.
    """
    here, *rest = path
    if isinstance(content, list) and here == "*" and rest:
        concerned = [isinstance(entry, dict) and rest[0] in entry for entry in content]
        if not any(concerned):
            raise ScenarioError(f"{what}: no entry of the list has {rest[0]!r}")
        return [
            changed(entry, rest, value, what) if its else entry
            for entry, its in zip(content, concerned, strict=True)
        ]
    if isinstance(content, list):
        if not here.isdigit() or int(here) >= len(content):
            raise ScenarioError(f"{what}: {here!r} is no place in a list of {len(content)}")
        place = int(here)
        replaced = changed(content[place], rest, value, what) if rest else value
        return [*content[:place], replaced, *content[place + 1 :]]
    if not isinstance(content, dict):
        raise ScenarioError(f"{what}: there is nothing below {content!r}")
    inner = changed(content.get(here, {}), rest, value, what) if rest else value
    return {**content, here: inner}


# -- series ----------------------------------------------------------------------------------------


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


def is_series(entry: Any) -> bool:
    return isinstance(entry, Mapping) and "series" in entry
