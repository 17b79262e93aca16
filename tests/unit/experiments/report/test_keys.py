"""What figures call the keys of a scenario."""

from collections.abc import Iterator

import pytest

from experiments import overlays
from experiments.catalogue import WORKLOADS
from experiments.report import keys
from experiments.report.keys import KeyWords, words_of, words_of_all
from experiments.scenario.schema import Scenario
from topologies import catalogue


@pytest.mark.parametrize(
    ("key", "axis"),
    [
        ("moves.*.pause_ms", "pause asked for (ms)"),
        ("moves.0.pause_ms", "pause asked for (ms)"),
        ("topology.links.nve1.delay_ms", "one-way delay of nve1's link (ms)"),
        ("tenants.0.vms.vm1.guest.memory_mb", "memory of the VM (MiB)"),
        ("overlay.in_flight", "packets in flight"),
        ("overlay.end_marker_s", "end marker (s)"),  # not in the table
        ("overlay.on_expiry", "on expiry"),
        ("tenants.0.vms.vm1.guest.disk_writes_mb_s", "disk writes (MiB/s)"),
        ("pause_ms", "pause (ms)"),
    ],
)
def test_a_key_has_a_name_and_a_unit(key, axis):
    assert words_of(key).axis == axis


def test_keys_of_one_name_are_told_apart():
    words = words_of_all(["traffic.0.rate_pps", "traffic.1.rate_pps", "seed"])
    assert len({each.name for each in words.values()}) == 3
    assert words["seed"] == KeyWords("seed", "")
    assert words["seed"].with_value("7") == "seed: 7"
    assert words_of("moves.0.pause_ms").with_value("50") == "pause asked for: 50 ms"


def test_every_key_of_the_table_is_one_of_a_scenario():
    known = set(_fields(Scenario.model_json_schema()))
    for kind in overlays.names():
        known |= set(overlays.get(kind).settings.model_fields)
    for name in catalogue.names():
        known |= set(_fields(catalogue.get(name).parameters.model_json_schema()))
    for workload in WORKLOADS.all().values():
        known |= set(workload.Settings.model_fields)
    assert "pause_ms" in known
    assert {pattern.rpartition(".")[2] for pattern in keys.KNOWN} <= known | {"kind"}


def _fields(schema: object) -> Iterator[str]:
    """The names of all fields of a schema and of its parts."""
    if isinstance(schema, dict):
        yield from schema.get("properties", {})
        for each in schema.values():
            yield from _fields(each)
    elif isinstance(schema, list):
        for each in schema:
            yield from _fields(each)
