"""A scenario before it is one: YAML read, keys changed.

Nothing here knows what a scenario may say; that is `scenario`'s.  What is wrong with the text
itself is a sentence that names the file, or the option, and the place.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from experiments.errors import ScenarioError

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
