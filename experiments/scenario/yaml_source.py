"""Reads the YAML of a scenario and changes keys, before the scenario is validated.

Nothing here knows what a scenario may contain; that is for `schema`.  A mistake in the text itself
is a sentence that names the file, or the option, and the place.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from experiments.errors import ScenarioError

# -- text ------------------------------------------------------------------------------------------


class _Yaml12(yaml.CSafeLoader):  # the parser in C: a tenth of the time
    """YAML with the types of version 1.2 (its core schema).

    `010` is ten, and `yes`, `no`, `on` and `1:30` are texts.  Merge keys (`<<: *shared`) are
    supported, and a key may occur only once.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        own = [key for key, _ in node.value if key.tag != _MERGE]
        keys = [self.construct_object(key, deep=True) for key in own]
        for number, key in enumerate(keys):
            if key in keys[:number]:
                raise yaml.constructor.ConstructorError(
                    None, None, f"this key occurs twice: {key}", own[number].start_mark
                )
        return super().construct_mapping(node, deep)


_MERGE = "tag:yaml.org,2002:merge"
_Yaml12.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
    ("merge", r"<<", ["<"]),
):
    _Yaml12.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(rf"^(?:{_pattern})$"), _first
    )


def _integer(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    text = loader.construct_scalar(node)
    base = {"0o": 8, "0x": 16}.get(text[:2], 10)
    return int(text[2:] if base != 10 else text, base)


_Yaml12.add_constructor("tag:yaml.org,2002:int", _integer)


class Source(dict[str, Any]):
    """A file's content, and where in it each part is."""

    def __init__(self, content: dict[str, Any], node: yaml.Node | None) -> None:
        super().__init__(content)
        self.node = node

    def position(self, place: str) -> str:
        """Return ` (line 3, column 9)` for a dotted place, or for as much of it as the file has."""
        node = self.node
        for part in place.split(".") if place else ():
            inner = _inner(node, part)
            if inner is None:
                break
            node = inner
        if node is None or node is self.node:
            return ""
        return f" (line {node.start_mark.line + 1}, column {node.start_mark.column + 1})"


def _inner(node: yaml.Node | None, part: str) -> yaml.Node | None:
    if isinstance(node, yaml.SequenceNode):
        entries: list[yaml.Node] = node.value
        return entries[int(part)] if part.isdigit() and int(part) < len(entries) else None
    if not isinstance(node, yaml.MappingNode):
        return None
    pairs: list[tuple[yaml.Node, yaml.Node]] = node.value
    for key, value in pairs:
        if key.tag != _MERGE and key.value == part:
            return value
    for key, value in pairs:
        if key.tag == _MERGE:
            merged = value.value if isinstance(value, yaml.SequenceNode) else [value]
            for each in merged:
                if found := _inner(each, part):
                    return found
    return None


def read(file: Path) -> Source:
    """Return a scenario file's content, not yet validated.  Raises ScenarioError."""
    try:
        text = file.read_text(encoding="utf-8")
        loader = _Yaml12(text)
        node = loader.get_single_node()
        content = loader.construct_document(node) if node else None
    except yaml.YAMLError as error:
        raise ScenarioError(f"{file}: this is not YAML: {_on_one_line(error)}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ScenarioError(f"{file}: {error}") from None
    if not isinstance(content, dict):
        raise ScenarioError(f"{file}: a scenario is a mapping of keys such as name and topology")
    return Source(content, node)


def says(file: Path) -> str:
    """Return a scenario's description of itself, or why it cannot be read."""
    try:
        return str(read(file).get("says", ""))
    except ScenarioError as error:
        return str(error)


def _on_one_line(error: yaml.YAMLError) -> str:
    """Return what the parser found and where, without the drawing."""
    mark = getattr(error, "problem_mark", None)
    what = getattr(error, "problem", None) or str(error)
    place = f" (line {mark.line + 1}, column {mark.column + 1})" if mark else ""
    return " ".join(what.split()) + place


# -- changes ---------------------------------------------------------------------------------------


def setting(text: str) -> tuple[str, Any]:
    """Parse `a.b=value` as given to --set.  Raises ScenarioError."""
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise ScenarioError(f"--set {text}: write it as key=value, such as overlay.in_flight=drop")
    try:
        return key, yaml.load(value, _Yaml12)
    except yaml.YAMLError:
        raise ScenarioError(f"--set {text}: {value!r} is not a YAML value") from None


def varied(text: str) -> tuple[str, list[Any]]:
    """Parse `a.b=1,2,3` as given to --vary: a key and the values to try.  Raises ScenarioError."""
    key, equals, values = text.partition("=")
    if not key or not equals or not values:
        raise ScenarioError(f"--vary {text}: write it as key=value,value…, such as seed=1,2,3")
    try:
        listed = yaml.load(f"[{values}]", _Yaml12)
    except yaml.YAMLError:
        listed = None
    if not isinstance(listed, list) or not listed:
        raise ScenarioError(f"--vary {text}: {values!r} is not a list of YAML values")
    if len({str(value) for value in listed}) < len(listed):
        raise ScenarioError(f"--vary {text}: a value occurs twice")
    return key, listed


def matrix(texts: Sequence[str]) -> dict[str, list[Any]]:
    """Parse all that is given to --vary.  Raises ScenarioError."""
    given = [varied(text) for text in texts]
    found = dict(given)
    if len(found) < len(given):
        raise ScenarioError("--vary: a key occurs twice; give all its values in one --vary")
    return found


def changed(content: Any, path: list[str], value: Any, what: str) -> Any:
    """Return a copy of nested mappings and lists with one value replaced.  Raises ScenarioError.

    `*` in place of a list's number means every entry that has the key: traffic.*.rate_pps.
    """
    here, *rest = path
    if isinstance(content, list) and here == "*" and rest:
        concerned = [isinstance(entry, dict) and rest[0] in entry for entry in content]
        if not any(concerned):
            raise ScenarioError(f"{what}: no entry of the list has the key {rest[0]!r}")
        return [
            changed(entry, rest, value, what) if its else entry
            for entry, its in zip(content, concerned, strict=True)
        ]
    if isinstance(content, list):
        if not here.isdigit() or int(here) >= len(content):
            raise ScenarioError(
                f"{what}: {here!r} is not the number of an entry; the list has {len(content)}, "
                "counted from 0"
            )
        place = int(here)
        replaced = changed(content[place], rest, value, what) if rest else value
        return [*content[:place], replaced, *content[place + 1 :]]
    if not isinstance(content, dict):
        raise ScenarioError(f"{what}: {content!r} has no keys")
    inner = changed(content.get(here, {}), rest, value, what) if rest else value
    return {**content, here: inner}
