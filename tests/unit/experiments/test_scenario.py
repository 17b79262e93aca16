"""Scenarios: a mistake is one sentence with file, field and remedy; what is right, round-trips."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments import content as contents
from experiments import scenario
from experiments.content import ScenarioError
from experiments.errors import UsageError
from experiments.scenario import FOLDER, GAP_S, Scenario
from topologies import catalogue

FILES = sorted(FOLDER.glob("*.yaml"))
GOOD: dict[str, Any] = {
    "name": "good",
    "topology": {"kind": "star", "nves": 3, "link": {"delay_ms": 1}},
    "tenants": [
        {"vni": 5000, "vms": {"vm1": "nve1", "vm2": "nve2"}},
        {"vni": 6000, "vms": {"other1": "nve1"}},
    ],
    "overlay": {"mapping_update": "pull", "lifetime_s": 2, "idle_s": 2},
    "traffic": [
        {"kind": "udp-probe", "from": "vm2", "to": "vm1", "family": "ipv6"},
        {"kind": "tcp-bulk", "from": "vm2", "to": "vm1", "rate_mbit": 10},
    ],
    "moves": [
        {"at_s": 1, "vm": "vm1", "to": "nve2"},
        {"at_s": 9, "vm": "vm1", "to": "nve3", "announce": "none"},
    ],
    "duration_s": 20,
    "variants": {"drop": {"overlay.in_flight": "drop"}, "tunnel": {"overlay.in_flight": "tunnel"}},
}


def resolved(**changes: Any) -> Scenario:
    """The good scenario with some keys (dotted, `__` for a dot) changed."""
    return scenario.resolve(
        GOOD, "good.yaml", {key.replace("__", "."): value for key, value in changes.items()}
    )


def complaint(content: dict[str, Any], **changes: Any) -> str:
    with pytest.raises(ScenarioError) as refused:
        scenario.resolve(content, "my.yaml", changes)
    return str(refused.value)


# -- mistakes --------------------------------------------------------------------------------------

CLIENT = {"kind": "diskless-client", "vm": "vm1"}
MISTAKES: dict[str, tuple[str, Any, str, str]] = {
    # what: (key, value, the field that is named, the remedy or what is wrong)
    "unknown key": ("speed", 3, "speed", "there is no such key here; check the spelling"),
    "unknown key inside": ("overlay.idel_s", 3, "overlay.idel_s", "there is no such key here"),
    "unknown key of a topology": ("topology.spines", 2, "topology.spines", "no such key here"),
    "name": ("name", "My Scenario", "name", "should match pattern"),
    "topology is a word": ("topology", "star", "topology", "kind: leaf-spine | star | two-site"),
    "topology without kind": ("topology", {"nves": 3}, "topology", "say which: kind:"),
    "unknown topology": ("topology.kind", "ring", "topology", "there are leaf-spine, star"),
    "too few NVEs": ("topology.nves", 1, "topology.nves", "greater than or equal to 2"),
    "NVEs in words": ("topology.nves", "three", "topology.nves", "valid integer"),
    "delay": ("topology.link.delay_ms", -1, "topology.link.delay_ms", "give milliseconds from 0"),
    "loss": ("topology.link.loss_pct", 101, "topology.link.loss_pct", "give a percentage from 0"),
    "control": ("control.delay_ms", -1, "control.delay_ms", "give milliseconds from 0"),
    "no tenants": ("tenants", [], "tenants", "at least 1 item"),
    "VNI": ("tenants.0.vni", 2**24, "tenants.0.vni", "less than or equal to 16777215"),
    "VNI twice": ("tenants.1.vni", 5000, "tenants.1.vni", "VNI 5000 is there twice"),
    "MTU of VMs": ("tenants.0.mtu", 1501, "tenants.0.mtu", "less than or equal to 1500"),
    "MTU below IPv6's": ("tenants.0.mtu", 1279, "tenants.0.mtu", "greater than or equal to 1280"),
    "MTU of a link": ("topology.link.mtu", 1349, "topology.link.mtu", "octets from 1350 to 9000"),
    "MTU of control": ("control.mtu", 1400, "control.mtu", "leave it out"),
    "no VMs": ("tenants.0.vms", {}, "tenants.0.vms", "at least 1 item"),
    "VM name": ("tenants.0.vms", {"VM1": "nve1"}, "tenants.0.vms.VM1", "a letter, then up to 6"),
    "VM name too long": ("tenants.0.vms.machine1", "nve1", "vms.machine1", "up to 6 letters"),
    "VM twice": ("tenants.1.vms", {"vm1": "nve1"}, "tenants.1.vms.vm1", "names are unique"),
    "VM at no NVE": (
        "tenants.0.vms.vm1",
        "nve4",
        "tenants.0.vms.vm1",
        "there are nve1, nve2, nve3",
    ),
    "overlay kind": ("overlay.kind", "evpn", "overlay.kind", "Input should be 'nvo3'"),
    "mapping": ("overlay.mapping_update", "gossip", "overlay", "none of pull, push"),
    "in flight": ("overlay.in_flight", "bounce", "overlay.in_flight", "'tunnel' or 'drop'"),
    "stop": ("overlay.stop", "never", "overlay.stop", "'idle' or 'timer'"),
    "idle time": ("overlay.idle_s", 0.5, "overlay.idle_s", "valid integer"),
    "push with lifetime": ("overlay.mapping_update", "push", "overlay", "leave lifetime_s out"),
    "holding dropped": (
        "overlay",
        {"hold": True, "in_flight": "drop"},
        "overlay",
        "use in_flight: tunnel",
    ),
    "traffic kind": ("traffic.0.kind", "ping", "traffic.0", "'udp-probe', 'tcp-bulk'"),
    "family": ("traffic.0.family", "ipv5", "traffic.0.family", "'ipv4' or 'ipv6'"),
    "rate": ("traffic.0.rate_pps", 0, "traffic.0.rate_pps", "greater than 0"),
    "rate in words": ("traffic.0.rate_pps", "fast", "traffic.0.rate_pps", "valid number"),
    "size": ("traffic.0.size_bytes", 9000, "traffic.0.size_bytes", "less than or equal to 1400"),
    "from nobody": ("traffic.0.from", "vm9", "traffic.0.from", "there are vm1, vm2, other1"),
    "to nobody": ("traffic.0.to", "vm9", "traffic.0.to", "there are vm1, vm2, other1"),
    "to itself": ("traffic.0.to", "vm2", "traffic.0", "vm2 would talk to itself"),
    "other tenant": ("traffic.0.to", "other1", "traffic.0", "in different virtual networks"),
    "flow without ends": ("traffic.0", {"kind": "udp-probe"}, "traffic.0.from", "add it"),
    "move of nobody": ("moves.0.vm", "vm9", "moves.0.vm", "there are vm1, vm2, other1"),
    "move to nowhere": ("moves.0.to", "nve9", "moves.0.to", "there are nve1, nve2, nve3"),
    "move to where it is": ("moves.0.to", "nve1", "moves.0.to", "name another NVE"),
    "move before the start": ("moves.0.at_s", -1, "moves.0.at_s", "greater than or equal to 0"),
    "move after the end": ("moves.1.at_s", 20, "moves.1.at_s", "raise duration_s above 20"),
    "move too early": ("moves.1.at_s", 1.2, "moves.1.at_s", "the earliest is 1.55"),
    "refused by nothing": ("moves.1.expect", "refused", "moves.1.expect", "while it stands still"),
    "expectation": ("moves.0.expect", "miracle", "moves.0.expect", "'completed' or 'refused'"),
    "link of no NVE": ("topology.links.nve9", {}, "topology.links.nve9", "there are nve1, nve2"),
    "link of an NVE": (
        "topology.links.nve3.delay_ms",
        -1,
        "topology.links.nve3.delay_ms",
        "give milliseconds from 0",
    ),
    "mode": ("moves.0.mode", "lukewarm", "moves.0.mode", "Input should be 'hot'"),
    "announcement": ("moves.0.announce", "shout", "moves.0.announce", "'garp', 'garp-reply'"),
    "repeated nothing": ("moves.1.announce_times", 3, "moves.1", "name a form"),
    "lost nothing": ("moves.1.announcement_lost", True, "moves.1", "name a form"),
    "announced too often": ("moves.0.announce_times", 11, "moves.0.announce_times", "equal to 10"),
    "never announced": ("moves.0.announce_times", 0, "moves.0.announce_times", "equal to 1"),
    "client nowhere": ("traffic.0", {**CLIENT, "vm": "vm9"}, "traffic.0.vm", "there are vm1"),
    "client without VM": ("traffic.0", {"kind": "diskless-client"}, "traffic.0.vm", "add it"),
    "two clients": ("traffic", [CLIENT] * 2, "traffic.1.vm", "has a diskless client already"),
    "no duration": ("duration_s", 0, "duration_s", "greater than 0"),
    "duration is no number": ("duration_s", float("nan"), "duration_s", "less than or equal"),
    "seed": ("seed", -1, "seed", "greater than or equal to 0"),
    "datapath": ("datapath", "dpdk", "datapath", "'auto', 'system' or 'netdev'"),
    "variants are a list": ("variants", ["drop"], "variants", "valid dictionary"),
}


@pytest.mark.parametrize(("key", "value", "field", "remedy"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_a_sentence_with_file_field_and_remedy(
    key: str, value: Any, field: str, remedy: str
) -> None:
    sentence = complaint(GOOD, **{key: value})

    assert sentence.startswith("my.yaml: ")
    assert field in sentence
    assert remedy in sentence
    assert "\n" not in sentence
    assert "pydantic" not in sentence


@pytest.mark.parametrize("key", ["name", "topology", "tenants", "duration_s"])
def test_what_is_missing_is_named(key: str) -> None:
    content = {name: value for name, value in GOOD.items() if name != key}

    assert complaint(content) == f"my.yaml: {key}: this is missing; add it"


def test_several_mistakes_are_told_at_once() -> None:
    sentence = complaint(GOOD, seed=-1, speed=3)

    assert "seed: " in sentence
    assert "speed: " in sentence


def test_a_mistake_is_the_users() -> None:
    """Exit code 2, and no traceback."""
    assert issubclass(ScenarioError, UsageError)


NOT_SEEN: dict[str, tuple[str, Any]] = {
    "a VM with the name of an underlay node": ("tenants.0.vms.core", "nve1"),
    "a VM with the name of the NVA": ("tenants.0.vms.nva", "nve1"),
    "a VM with the name of an NVE": ("tenants.0.vms.nve1", "nve1"),
    "an endless rate": ("traffic.1.rate_mbit", float("inf")),
    "a variant whose name leads out of the result": ("variants", {"../elsewhere": {}}),
    "a variant without a name": ("variants", {"": {}}),
}


@pytest.mark.parametrize(("key", "value"), NOT_SEEN.values(), ids=NOT_SEEN)
def test_a_mistake_is_seen_before_anything_is_started(key: str, value: Any) -> None:
    assert complaint(GOOD, **{key: value})


# -- files -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_scenario_file_resolves(file: Path) -> None:
    found = scenario.variants(contents.read(file), str(file), {})

    assert all(each.name == file.stem for each in found.values())
    assert all(each.says.endswith(".") for each in found.values())


def test_a_scenario_is_found_by_name_or_path(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump(GOOD))

    assert scenario.find("demo") == FOLDER / "demo.yaml"
    assert scenario.find(str(file)) == file
    assert scenario.resolve(contents.read(file), str(file)) == resolved()


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("demmo", "there is no scenario 'demmo', did you mean demo? there are "),
        ("xyz", "there is no scenario 'xyz'; there are "),
        ("gone.yaml", "gone.yaml: there is no such file"),
        ("./gone", "./gone: there is no such file"),
    ],
)
def test_a_scenario_that_is_not_there_is_answered_with_what_is(name: str, sentence: str) -> None:
    with pytest.raises(ScenarioError) as refused:
        scenario.find(name)

    assert str(refused.value).startswith(sentence)


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

    assert changed.overlay.in_flight == "drop"
    assert [move.to for move in changed.moves] == ["nve2", "nve1"]
    assert changed.control.delay_ms == 7


def test_a_star_reaches_every_entry_that_has_the_key() -> None:
    changed = scenario.resolve(GOOD, "my.yaml", {"traffic.*.from": "vm1", "traffic.*.to": "vm2"})

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


# -- variants --------------------------------------------------------------------------------------


def test_every_variant_is_a_scenario_of_its_own() -> None:
    found = scenario.variants(GOOD, "my.yaml", {"duration_s": 30})

    assert {name: each.overlay.in_flight for name, each in found.items()} == {
        "drop": "drop",
        "tunnel": "tunnel",
    }
    assert all(each.duration_s == 30 and each.variants == {} for each in found.values())


def test_a_scenario_without_variants_is_its_only_one() -> None:
    plain = {**GOOD, "variants": {}}

    assert scenario.variants(plain, "my.yaml", {}) == {"": scenario.resolve(plain, "my.yaml")}


def test_a_mistake_in_a_variant_names_it() -> None:
    wrong = {**GOOD, "variants": {"odd": {"overlay.in_flight": "bounce"}}}

    with pytest.raises(ScenarioError, match=r"^my\.yaml: variant odd: overlay\.in_flight: "):
        scenario.variants(wrong, "my.yaml", {})


# -- what follows from it --------------------------------------------------------------------------


@pytest.mark.shows("R4.1.8")
def test_tenants_number_their_vms_alike() -> None:
    """Two networks with the same addresses, in every scenario with two tenants."""
    vm1, vm2, other1 = resolved().vms()

    assert (vm1.mac, str(vm1.ipv4), str(vm1.ipv6)) == (
        "02:00:00:00:00:01",
        "192.168.0.1",
        "fd77::1",
    )
    assert (vm2.mac, str(vm2.ipv4)) == ("02:00:00:00:00:02", "192.168.0.2")
    assert other1.addresses == vm1.addresses
    assert other1.vni != vm1.vni


def test_many_vms_have_addresses_of_their_own() -> None:
    vms = {f"v{number}": "nve1" for number in range(1000)}
    found = resolved(tenants=[{"vni": 1, "vms": vms}], traffic=[], moves=[]).vms()

    assert len({vm.mac for vm in found}) == len({vm.ipv4 for vm in found}) == 1000


def test_the_next_move_of_a_vm_waits_until_it_has_arrived() -> None:
    """Not until the leftovers of the move before are gone: those may overlap."""
    next_s = 1 + 0.05 + GAP_S
    resolved(moves__1__at_s=next_s)

    with pytest.raises(ScenarioError, match=f"the earliest is {next_s:g}"):
        resolved(moves__1__at_s=next_s - 0.01)


def test_a_move_while_the_vm_stands_still_may_be_expected_to_be_refused() -> None:
    """It changes neither where the VM is nor when it may move next."""
    moves = [
        {"at_s": 1, "vm": "vm1", "to": "nve2", "pause_ms": 1000},
        {"at_s": 1.5, "vm": "vm1", "to": "nve3", "pause_ms": 60_000, "expect": "refused"},
        {"at_s": 2.5, "vm": "vm1", "to": "nve3"},
    ]
    assert [move.expect for move in resolved(moves=moves).moves].count("refused") == 1


def test_moves_are_checked_in_the_order_of_time() -> None:
    moves = [{"at_s": 10, "vm": "vm1", "to": "nve1"}, {"at_s": 1, "vm": "vm1", "to": "nve3"}]

    assert [move.at_s for move in resolved(moves=moves).moves] == [10, 1]


# -- series ----------------------------------------------------------------------------------------

SERIES: dict[str, Any] = {
    "series": 5,
    "at_s": 1,
    "every_s": 1.2,
    "vm": "vm1",
    "to": ["nve2", "nve3"],
    "pause_ms": [0, 50, 500],
    "announce": "na",
}


def test_a_series_is_listed_move_by_move() -> None:
    listed = resolved(moves=[SERIES, {"at_s": 9, "vm": "vm1", "to": "nve1"}]).moves

    assert [move.at_s for move in listed] == [1, 2.2, 3.4, 4.6, 5.8, 9]
    assert [move.to for move in listed] == ["nve2", "nve3", "nve2", "nve3", "nve2", "nve1"]
    assert [move.pause_ms for move in listed[:5]] == [0, 50, 500, 0, 50]
    assert {move.announce for move in listed[:5]} == {"na"}


def test_a_series_may_take_vms_in_turn_and_all_at_once() -> None:
    vms = {f"v{number}": "nve1" for number in range(10)}
    series = {"series": 10, "at_s": 1, "every_s": 0, "vm": list(vms), "to": "nve2"}
    listed = resolved(tenants=[{"vni": 1, "vms": vms}], traffic=[], moves=[series]).moves

    assert {(move.at_s, move.to) for move in listed} == {(1.0, "nve2")}
    assert [move.vm for move in listed] == list(vms)


def test_settings_reach_into_a_series_as_it_was_written() -> None:
    changed = resolved(moves=[SERIES], moves__0__series=2, moves__0__pause_ms=7)

    assert [move.pause_ms for move in changed.moves] == [7, 7]


SERIES_MISTAKES: dict[str, tuple[dict[str, Any], str]] = {
    "none": ({"series": 0}, "moves.1.series: Input should be greater than or equal to 1"),
    "no interval": ({"every_s": None}, "moves.1.every_s: Input should be a valid number"),
    "endless": ({"every_s": float("inf")}, "moves.1.every_s: Input should be a finite number"),
    "empty list": ({"to": []}, "moves.1.to is an empty list; give the values to take in turn"),
    "key": ({"sped": 1}, "moves.1.sped: there is no such key here"),
    "value": ({"pause_ms": [0, -1]}, "moves.1.pause_ms: Input should be greater than or equal"),
    "too fast": ({"every_s": 0.9}, "moves.1.at_s: vm1 is still being moved at 12.7; the earliest"),
    "nowhere": ({"to": ["nve2", "nve8"]}, "moves.1.to: there is no NVE 'nve8'"),
    "to itself": ({"to": "nve2"}, "moves.1.to: vm1 is at nve2 already"),
}


@pytest.mark.parametrize(("changes", "sentence"), SERIES_MISTAKES.values(), ids=SERIES_MISTAKES)
def test_a_mistake_in_a_series_names_it_where_it_was_written(
    changes: dict[str, Any], sentence: str
) -> None:
    first = {"at_s": 1, "vm": "vm2", "to": "nve3"}
    told = complaint(GOOD, moves=[first, {**SERIES, "at_s": 10, **changes}])

    assert told.startswith(f"my.yaml: {sentence}")
    assert told.count("moves.1") == 1, "once, not once for every move of the series"


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


# -- round trip ------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_the_resolved_scenario_reproduces_itself(file: Path) -> None:
    """What is written beside the results repeats the run."""
    for each in scenario.variants(contents.read(file), str(file), {}).values():
        written = yaml.safe_dump(scenario.as_mapping(each), sort_keys=False)
        assert scenario.resolve(yaml.safe_load(written), "written") == each


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_what_is_written_beside_several_runs_repeats_them_all(file: Path) -> None:
    """Also where a variant has moves of its own, and the file has a series."""
    content = contents.read(file)
    written = yaml.safe_dump(scenario.as_mapping(scenario.resolve(content, "file")))

    again = scenario.variants(yaml.safe_load(written), "written", {})

    assert again == scenario.variants(content, "file", {})


links = st.fixed_dictionaries(
    {
        "delay_ms": st.floats(0, 100),
        "jitter_ms": st.just(0),
        "loss_pct": st.floats(0, 100),
        "rate_mbit": st.one_of(st.none(), st.floats(1, 1000)),
    }
)
overlays = st.one_of(
    st.fixed_dictionaries(
        {"mapping_update": st.just("push"), "hold": st.booleans(), "idle_s": st.integers(1, 5)}
    ),
    st.fixed_dictionaries(
        {
            "mapping_update": st.just("pull"),
            "lifetime_s": st.integers(1, 5),
            "in_flight": st.sampled_from(["tunnel", "drop"]),
            "stop": st.sampled_from(["idle", "timer"]),
        }
    ),
)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    kind=st.sampled_from(catalogue.names()),
    underlay=st.sampled_from(["ipv4", "ipv6"]),
    link=links,
    control=links,
    overlay=overlays,
    seed=st.integers(0, 2**31 - 1),
)
def test_any_scenario_reproduces_itself(
    kind: str, underlay: str, link: Any, control: Any, overlay: Any, seed: int
) -> None:
    given_ = {
        **GOOD,
        "topology": {"kind": kind, "underlay": underlay, "link": link},
        "control": control,
        "overlay": overlay,
        "seed": seed,
    }
    once = scenario.resolve(given_, "my.yaml")
    written = yaml.safe_dump(scenario.as_mapping(once))

    assert scenario.resolve(yaml.safe_load(written), "written") == once


def test_vms_have_the_mtu_of_their_tenant() -> None:
    wanted = resolved(**{"tenants.0.mtu": 1400})

    assert {vm.vni: vm.mtu for vm in wanted.vms()} == {5000: 1400, 6000: None}
