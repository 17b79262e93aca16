"""From a name to a scenario, and back to plain values.

    name or path --find--> file --content.read--> content --resolve--> Scenario
                                                          <--as_mapping--

A scenario is *resolved* when `--set` is in place, series are spelt out, defaults filled in and all
of it is found valid.  It is written like this beside the results: running it again repeats the run.
A file with variants stands for several scenarios, each the content with some keys changed.
"""

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from experiments.errors import ScenarioError
from experiments.scenario.errors import complaints
from experiments.scenario.schema import Scenario
from experiments.scenario.series import spelt_out
from experiments.scenario.yaml_source import changed

FOLDER = Path(__file__).parents[1] / "scenarios"


def find(name: str) -> Path:
    """The file of a scenario that is named, or given as a path.  Raises ScenarioError."""
    given = Path(name)
    if given.suffix in (".yaml", ".yml") or "/" in name:
        if not given.is_file():
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
    """The scenario, with `settings` (dotted key -> value) in place.  Raises ScenarioError."""
    edited = content
    for key, value in (settings or {}).items():
        edited = changed(edited, key.split("."), value, f"--set {key}")
    listed, written_at = spelt_out(edited, origin)
    try:
        return Scenario.model_validate(listed)
    except ValidationError as error:
        raise ScenarioError(f"{origin}: {complaints(error, written_at)}") from None


def variants(
    content: dict[str, Any], origin: str, settings: Mapping[str, Any]
) -> dict[str, Scenario]:
    """The scenarios of a file by variant name; a file without variants has one, named ''."""
    whole = resolve(content, origin, settings)
    plain = changed(content, ["variants"], {}, "variants")
    if not whole.variants:
        return {"": whole}
    return {
        name: resolve(plain, f"{origin}: variant {name}", {**settings, **changes})
        for name, changes in whole.variants.items()
    }


def as_mapping(scenario: Scenario) -> dict[str, Any]:
    """The resolved scenario in plain values: as YAML, a file that reproduces it."""
    content = scenario.model_dump(mode="json", by_alias=True)
    topology, overlay = content["topology"], content["overlay"]
    content["topology"] = {"kind": topology["kind"], **topology["parameters"]}
    content["overlay"] = {"kind": overlay["kind"], **overlay["settings"]}
    return content
