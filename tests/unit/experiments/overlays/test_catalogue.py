"""An overlay is one file, and a scenario that names it knows its keys and no other's."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from experiments import overlays
from experiments.cli import app
from experiments.scenario.load import as_mapping
from tests.helpers.overlays import KIND, added_overlay
from tests.helpers.scenarios import GOOD, complaint, resolved


@pytest.fixture(autouse=True)
def one_more(tmp_path: Path) -> Iterator[None]:
    with added_overlay(tmp_path):
        yield


def test_an_overlay_that_is_added_is_found_by_its_file_alone() -> None:
    assert KIND in overlays.names()
    assert overlays.DEFAULT in overlays.names()
    listed = json.loads(CliRunner().invoke(app, ["list", "--json"]).stdout)
    assert listed["overlays"][KIND] == "Nothing is sent to anybody."


def test_a_scenario_says_which_overlay_it_has() -> None:
    assert resolved(overlay={}).overlay.kind == overlays.DEFAULT

    written = as_mapping(resolved(overlay={"kind": KIND, "colour": "blue"}))
    assert written["overlay"] == {"kind": KIND, "colour": "blue"}


def test_a_key_of_another_overlay_is_refused_by_name() -> None:
    assert complaint(GOOD, overlay={"kind": KIND, "hold": True}) == (
        "my.yaml: overlay.hold: does-nothing has no such key, nvo3 has; remove it"
    )
    assert complaint(GOOD, overlay={"kind": KIND, "hue": 1}) == (
        "my.yaml: overlay.hue: does-nothing has no such key; check the spelling or remove it"
    )


def test_a_name_that_only_another_overlay_takes_is_free() -> None:
    assert "another node has this name" in complaint(GOOD, **{"tenants.0.vms.nva": "nve1"})

    resolved(overlay={"kind": KIND}, **{"tenants.0.vms.nva": "nve1"})
