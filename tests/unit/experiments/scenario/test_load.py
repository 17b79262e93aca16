"""From a name to a scenario: found, resolved variant by variant; what is right, round-trips."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from experiments.errors import ScenarioError
from experiments.scenario import load
from experiments.scenario import yaml_source as contents
from experiments.scenario.load import FOLDER
from tests.helpers.examples import examples
from tests.helpers.scenarios import GOOD, resolved
from topologies import catalogue

FILES = sorted(FOLDER.glob("*.yaml"))


# -- files -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_scenario_file_resolves(file: Path) -> None:
    found = load.variants(contents.read(file), str(file), {})

    assert all(each.name == file.stem for each in found.values())
    assert all(each.says.endswith((".", "?")) for each in found.values())


def test_a_scenario_is_found_by_name_or_path(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump(GOOD))

    assert load.find("demo") == FOLDER / "demo.yaml"
    assert load.find(str(file)) == file
    assert load.resolve(contents.read(file), str(file)) == resolved()


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
        load.find(name)

    assert str(refused.value).startswith(sentence)


# -- variants --------------------------------------------------------------------------------------


def test_every_variant_is_a_scenario_of_its_own() -> None:
    found = load.variants(GOOD, "my.yaml", {"duration_s": 30})

    written = {name: load.as_mapping(each)["overlay"] for name, each in found.items()}
    assert {name: overlay["in_flight"] for name, overlay in written.items()} == {
        "drop": "drop",
        "tunnel": "tunnel",
    }
    assert all(each.duration_s == 30 and each.variants == {} for each in found.values())


def test_a_scenario_without_variants_is_its_only_one() -> None:
    plain = {**GOOD, "variants": {}}

    assert load.variants(plain, "my.yaml", {}) == {"": load.resolve(plain, "my.yaml")}


def test_a_mistake_in_a_variant_names_it() -> None:
    wrong = {**GOOD, "variants": {"odd": {"overlay.in_flight": "bounce"}}}

    with pytest.raises(ScenarioError, match=r"^my\.yaml: variant odd: overlay\.in_flight: "):
        load.variants(wrong, "my.yaml", {})


# -- round trip ------------------------------------------------------------------------------------

EVERY_FILE = pytest.mark.parametrize(
    "file",
    [
        pytest.param(
            file, id=file.stem, marks=() if file.stem in ("demo", "ila") else pytest.mark.thorough
        )
        for file in FILES
    ],
)


@EVERY_FILE
def test_the_resolved_scenario_reproduces_itself(file: Path) -> None:
    """What is written beside the results repeats the run."""
    for each in load.variants(contents.read(file), str(file), {}).values():
        written = yaml.safe_dump(load.as_mapping(each), sort_keys=False)
        assert load.resolve(yaml.safe_load(written), "written") == each


@EVERY_FILE
def test_what_is_written_beside_several_runs_repeats_them_all(file: Path) -> None:
    """Also where a variant has moves of its own, and the file has a series."""
    content = contents.read(file)
    written = yaml.safe_dump(load.as_mapping(load.resolve(content, "file")))

    again = load.variants(yaml.safe_load(written), "written", {})

    assert again == load.variants(content, "file", {})


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


@examples(25)
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
    once = load.resolve(given_, "my.yaml")
    written = yaml.safe_dump(load.as_mapping(once))

    assert load.resolve(yaml.safe_load(written), "written") == once
