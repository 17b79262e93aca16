"""Turns a name into a scenario, and a scenario back into plain values.

    name or path --find--> file --yaml_source.read--> content --resolve--> Scenario
                                                              <--as_mapping--

A scenario is *resolved* when `--set` is applied, series are spelt out, defaults filled in and all
of it is found valid.  It is written like this beside the results: running it again repeats the run.
A file with variants stands for several scenarios, each the content with some keys changed.
"""

import difflib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from experiments.errors import ScenarioError
from experiments.scenario.errors import as_written, complaints
from experiments.scenario.schema import Scenario
from experiments.scenario.series import spelt_out
from experiments.scenario.yaml_source import Source, changed

SHARED = "x-"
"""The prefix of keys that only hold values for others to refer to (`<<: *shared`)."""
FOLDER = Path(__file__).parents[1] / "scenarios"


def find(name: str) -> Path:
    """Return the file of a scenario that is given by name or path.  Raises ScenarioError."""
    given = Path(name)
    if given.suffix in (".yaml", ".yml") or "/" in name:
        if not given.exists() or given.is_dir():  # /dev/stdin and <(…) are pipes
            raise ScenarioError(f"{name}: there is no such file")
        return given
    file = FOLDER / f"{name}.yaml"
    if not file.is_file():
        known = sorted(path.stem for path in FOLDER.glob("*.yaml"))
        near = difflib.get_close_matches(name, known, 1)
        hint = f", did you mean {near[0]}?" if near else ";"
        raise ScenarioError(f"there is no scenario {name!r}{hint} there are {', '.join(known)}")
    return file


def resolve(
    content: dict[str, Any], origin: str, settings: Mapping[str, Any] | None = None
) -> Scenario:
    """Return the scenario, with `settings` (dotted key -> value) applied.  Raises ScenarioError."""
    edited = {key: value for key, value in content.items() if not str(key).startswith(SHARED)}
    for key, value in (settings or {}).items():
        edited = changed(edited, key.split("."), value, f"--set {key}")
    listed, written_at = spelt_out(edited, origin)

    def position(place: str) -> str:
        if not isinstance(content, Source) or any(place.startswith(key) for key in settings or ()):
            return ""
        return content.position(place)

    try:
        scenario = Scenario.model_validate(listed)
    except ValidationError as error:
        raise ScenarioError(f"{origin}: {complaints(error, written_at, position)}") from None
    for place, value in _truths_as_numbers(listed, as_mapping(scenario)):
        told = as_written(place, written_at)
        raise ScenarioError(f"{origin}: {told}{position(told)}: {value} is not a number; give one")
    return scenario


def _truths_as_numbers(given: Any, understood: Any, place: str = "") -> Iterator[tuple[str, str]]:
    """Yield the places where `true` or `false` was taken for 1 or 0."""
    if isinstance(given, bool) and type(understood) in (int, float):
        yield place, str(given).lower()
    elif isinstance(given, dict) and isinstance(understood, dict):
        for key, value in given.items():
            yield from _truths_as_numbers(value, understood.get(key), f"{place}.{key}".lstrip("."))
    elif isinstance(given, list) and isinstance(understood, list):
        for number, (value, its) in enumerate(zip(given, understood, strict=False)):
            yield from _truths_as_numbers(value, its, f"{place}.{number}")


def variants(
    content: dict[str, Any], origin: str, settings: Mapping[str, Any]
) -> dict[str, Scenario]:
    """Return the scenarios of a file by variant name; a file without variants has one, named ''."""
    whole = resolve(content, origin, settings)
    plain = changed(content, ["variants"], {}, "variants")
    if isinstance(content, Source):
        plain = Source(plain, content.node)
    if not whole.variants:
        return {"": whole}
    return {
        name: resolve(plain, f"{origin}: variant {name}", {**settings, **changes})
        for name, changes in whole.variants.items()
    }


def as_mapping(scenario: Scenario) -> dict[str, Any]:
    """Return the resolved scenario in plain values: as YAML, a file that reproduces it."""
    content = scenario.model_dump(mode="json", by_alias=True)
    topology, overlay = content["topology"], content["overlay"]
    content["topology"] = {"kind": topology["kind"], **topology["parameters"]}
    content["overlay"] = {"kind": overlay["kind"], **overlay["settings"]}
    return content
