"""What a scenario is made from: a YAML mapping, and values to change in it (--set, --vary)."""

import os
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
        (b"name: [", "line 2, column 1"),
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


TYPES = {
    # as it is written: what it is by the core schema of YAML 1.2
    "010": 10, "0o10": 8, "0x1F": 31, "-3": -3, "1_000": "1_000", "1:30": "1:30",
    "yes": "yes", "no": "no", "on": "on", "off": "off", "true": True, "FALSE": False, "y": "y",
    "1e3": 1000.0, ".5": 0.5, "1.": 1.0, "-.inf": float("-inf"), "2026-11-25": "2026-11-25",
    "~": None, "null": None, "": None, "'3'": "3",
}  # fmt: skip


@pytest.mark.parametrize("text", TYPES)
def test_what_a_value_is_says_yaml_1_2(tmp_path: Path, text: str) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(f"key: {text}\n", encoding="utf-8")

    assert contents.read(file) == {"key": TYPES[text]}
    assert contents.setting(f"a={text}") == ("a", TYPES[text])
    assert type(contents.setting(f"a={text}")[1]) is type(TYPES[text])


def test_values_that_are_varied_are_what_they_are_in_a_file() -> None:
    assert contents.varied("moves.0.pause_ms=010,050,100") == ("moves.0.pause_ms", [10, 50, 100])


def test_shared_parts_are_merged_and_own_keys_win(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(
        "x-move: &move {pause_ms: 50, to: nve2}\nmoves:\n- {<<: *move, to: nve3}\n", "utf-8"
    )
    assert contents.read(file)["moves"] == [{"pause_ms": 50, "to": "nve3"}]


SCENARIO = """\
name: mine
x-shared: &probe {kind: udp-probe, to: no}
topology: {kind: star, nves: 2}
tenants:
  - {vni: 5000, vms: {no: nve1, vm2: nve1}}
traffic:
  - {<<: *probe, from: vm2, rate_pps: 010}
moves:
  - {at_s: 1, vm: no, to: nve2}
duration_s: 3
"""


def test_a_vm_may_be_called_no_and_shared_parts_have_no_meaning(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(SCENARIO, encoding="utf-8")
    scenario = load.resolve(contents.read(file), str(file))

    assert [vm.name for vm in scenario.vms()] == ["no", "vm2"]
    assert scenario.flows[0].destination == "no"
    assert scenario.traffic[0].model_dump()["rate_pps"] == 10


@pytest.mark.parametrize(
    ("wrong", "place", "what"),
    [
        (("vni: 5000", "vni: yes"), "tenants.0.vni (line 5, column 11)", "valid integer"),
        (("at_s: 1,", "at_s: true,"), "moves.0.at_s (line 9, column 12)", "true is not a number"),
        (("at_s: 1,", "at_s: 1:30,"), "moves.0.at_s (line 9, column 12)", "valid number"),
        (("at_s: 1,", "at_s: 1, a: 1,"), "moves.0.a (line 9, column 18)", "no such key"),
        (("duration_s: 3", "duration_s: false"), "duration_s (line 10, column 13)", "greater than"),
        (("rate_pps: 010", "size_bytes: 1"), "traffic.0", "greater than"),
        (("to: no}", "to: vm9}"), "traffic.0.to (line 2, column 40)", "no VM 'vm9'"),
    ],
)
def test_what_is_wrong_is_told_with_line_and_column(
    tmp_path: Path, wrong: tuple[str, str], place: str, what: str
) -> None:
    file = tmp_path / "mine.yaml"
    assert wrong[0] in SCENARIO
    file.write_text(SCENARIO.replace(*wrong), encoding="utf-8")
    with pytest.raises(ScenarioError) as refused:
        load.resolve(contents.read(file), str(file))

    assert str(refused.value).startswith(f"{file}: {place}")
    assert what in str(refused.value)


def test_what_was_set_is_not_sought_in_the_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(SCENARIO, encoding="utf-8")
    with pytest.raises(ScenarioError, match=r": moves\.0\.at_s: true is not a number"):
        load.resolve(contents.read(file), str(file), {"moves.0.at_s": True})


def test_a_pipe_is_a_file(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.write(writing, SCENARIO.encode())
    os.close(writing)
    file = load.find(f"/dev/fd/{reading}")

    assert contents.read(file)["name"] == "mine"
    os.close(reading)
    with pytest.raises(ScenarioError, match="there is no such file"):
        load.find(f"{tmp_path}/")


def test_a_broken_file_says_why_where_others_say_what_they_are(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("says: '[pps]'", encoding="utf-8")
    (tmp_path / "b.yaml").write_text("says: [", encoding="utf-8")

    assert contents.says(tmp_path / "a.yaml") == "[pps]"
    assert "this is not YAML" in contents.says(tmp_path / "b.yaml")


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
        (
            "moves.2.to",
            "--set moves.2.to: '2' is not the number of an entry; the list has 2, counted from 0",
        ),
        (
            "moves.first.to",
            "--set moves.first.to: 'first' is not the number of an entry; the list has 2, "
            "counted from 0",
        ),
        ("moves.*.speed", "--set moves.*.speed: no entry of the list has the key 'speed'"),
        ("name.first", "--set name.first: 'good' has no keys"),
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
    with pytest.raises(ScenarioError, match="twice; give all its values in one --vary"):
        contents.matrix(["seed=1", "seed=2"])
