"""A valid scenario for tests to make mistakes in, and the error message of a mistake."""

from typing import Any

import pytest

from experiments.errors import ScenarioError
from experiments.scenario import load
from experiments.scenario.schema import Scenario

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
    """Return the valid scenario with some keys (dotted, `__` for a dot) changed."""
    return load.resolve(
        GOOD, "good.yaml", {key.replace("__", "."): value for key, value in changes.items()}
    )


def complaint(content: dict[str, Any], **changes: Any) -> str:
    """Return the error message about a scenario, of `my.yaml`, that has to be refused."""
    with pytest.raises(ScenarioError) as refused:
        load.resolve(content, "my.yaml", changes)
    return str(refused.value)


def assert_a_sentence(told: str, field: str, remedy: str) -> None:
    """Assert that a message names the file, the field and the remedy, in one line without
    pydantic's words.
    """
    assert told.startswith("my.yaml: "), told
    assert field in told, f"{field!r} is not named in {told!r}"
    assert remedy in told, f"{remedy!r} is not said in {told!r}"
    assert "\n" not in told, told
    assert "pydantic" not in told, told
