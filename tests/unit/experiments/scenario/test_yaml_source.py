"""What a scenario is made from: a YAML mapping, and values to change in it (--set, --vary)."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from experiments.errors import ScenarioError, UsageError
from experiments.scenario import load
from experiments.scenario import yaml_source as contents
from tests.helpers.scenarios import GOOD, complaint, resolved


def test_a_mistake_is_the_users() -> None:
    """Exit code 2, and no traceback."""
    assert issubclass(ScenarioError, UsageError)


# -- text ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"name: [", "line 1, column 8"),
        (b"\tname: x", "line 1, column 1"),
        (b"name: \xff", "utf-8"),
        (b"- a list", "a scenario is a mapping of keys such as name and topology"),
        (b"", "a scenario is a mapping"),
        (b"!!python/object:os.system {}", "could not determine a constructor"),
    ],
)
def test_a_file_that_is_no_yaml_mapping_is_refused(
    tmp_path: Path, content: bytes, what: str
) -> None:
    file = tmp_path / "mine.yaml"
    file.write_bytes(content)
    with pytest.raises(ScenarioError) as refused:
        contents.read(file)

    assert str(refused.value).startswith(f"{file}: ")
    assert what in str(refused.value)


def test_a_key_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("name: one\nname: two\n")
    with pytest.raises(ScenarioError):
        contents.read(file)


# -- --set -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("overlay.in_flight=drop", ("overlay.in_flight", "drop")),
        ("duration_s=3.5", ("duration_s", 3.5)),
        ("overlay.hold=true", ("overlay.hold", True)),
        ("says=a=b", ("says", "a=b")),
        ("moves=[]", ("moves", [])),
        ("control={delay_ms: 2}", ("control", {"delay_ms": 2})),
    ],
)
def test_a_setting_is_a_dotted_key_and_a_yaml_value(text: str, expected: tuple[str, Any]) -> None:
    assert contents.setting(text) == expected


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("drop", "write it as key=value, such as overlay.in_flight=drop"),
        ("=drop", "write it as key=value"),
        ("moves=[", "'[' is not a YAML value"),
    ],
)
def test_a_setting_that_is_none_is_refused(text: str, remedy: str) -> None:
    with pytest.raises(ScenarioError) as refused:
        contents.setting(text)

    assert str(refused.value).startswith(f"--set {text}: ")
    assert remedy in str(refused.value)


def test_settings_reach_into_mappings_and_lists() -> None:
    changed = resolved(overlay__in_flight="drop", moves__1__to="nve1", control__delay_ms=7)

    assert load.as_mapping(changed)["overlay"]["in_flight"] == "drop"
    assert [move.to for move in changed.moves] == ["nve2", "nve1"]
    assert changed.control.delay_ms == 7


def test_a_star_reaches_every_entry_that_has_the_key() -> None:
    changed = load.resolve(GOOD, "my.yaml", {"traffic.*.from": "vm1", "traffic.*.to": "vm2"})

    assert [(flow.source, flow.destination) for flow in changed.flows] == [("vm1", "vm2")] * 2


def test_a_star_passes_over_what_is_no_mapping() -> None:
    wrong = {**GOOD, "traffic": [3, *GOOD["traffic"]]}

    assert "traffic.0: " in complaint(wrong, **{"traffic.*.from": "vm1"})


def test_settings_leave_the_content_as_it_was() -> None:
    before = yaml.safe_dump(GOOD)
    resolved(moves__1__to="nve1", overlay__lifetime_s=1)

    assert yaml.safe_dump(GOOD) == before


@pytest.mark.parametrize(
    ("key", "sentence"),
    [
        ("moves.2.to", "--set moves.2.to: '2' is no place in a list of 2"),
        ("moves.first.to", "--set moves.first.to: 'first' is no place in a list of 2"),
        ("moves.*.speed", "--set moves.*.speed: no entry of the list has 'speed'"),
        ("name.first", "--set name.first: there is nothing below 'good'"),
    ],
)
def test_a_setting_that_leads_nowhere_is_refused(key: str, sentence: str) -> None:
    assert complaint(GOOD, **{key: 1}) == sentence


# -- --vary ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("seed=1,2,3", ("seed", [1, 2, 3])),
        ("topology.underlay=ipv4,ipv6", ("topology.underlay", ["ipv4", "ipv6"])),
        ("control={delay_ms: 1},{delay_ms: 2}", ("control", [{"delay_ms": 1}, {"delay_ms": 2}])),
        ("overlay.hold=true", ("overlay.hold", [True])),
    ],
)
def test_what_is_varied_is_a_key_and_its_values(text: str, expected: tuple[str, Any]) -> None:
    assert contents.varied(text) == expected


@pytest.mark.parametrize("text", ["seed", "seed=", "=1", "seed=[", "seed=1,1", "seed=1]"])
def test_what_cannot_be_varied_is_refused(text: str) -> None:
    with pytest.raises(ScenarioError) as refused:
        contents.varied(text)

    assert str(refused.value).startswith(f"--vary {text}: ")


def test_a_key_is_varied_once() -> None:
    assert contents.matrix(["seed=1,2", "name=a"]) == {"seed": [1, 2], "name": ["a"]}
    with pytest.raises(ScenarioError, match="twice; give all its values at once"):
        contents.matrix(["seed=1", "seed=2"])
