"""What a scenario needs is known before anything is built."""

import itertools
from typing import Any

import pytest

from experiments import resources
from experiments.resources import NEIGHBOURS_OF_A_NODE, NEIGHBOURS_OF_OTHERS
from experiments.scenario.load import resolve
from experiments.scenario.schema import Scenario


def crowd(vms: int, flows: list[dict[str, Any]]) -> Scenario:
    names = [f"v{number}" for number in range(vms)]
    content = {
        "name": "crowd",
        "topology": {"kind": "star", "nves": 3},
        "tenants": [{"vni": 5000, "vms": dict.fromkeys(names, "nve1")}],
        "traffic": flows,
        "duration_s": 10,
    }
    return resolve(content, "test")


def flow(source: int, destination: int, family: str = "ipv4") -> dict[str, Any]:
    ends = {"from": f"v{source}", "to": f"v{destination}"}
    return {"kind": "udp-probe", **ends, "family": family, "rate_pps": 10}


def fixed(scenario: Scenario) -> int:
    nodes = len(scenario.vms()) + len(scenario.topology.fabric().nodes)
    return NEIGHBOURS_OF_A_NODE * nodes + NEIGHBOURS_OF_OTHERS


def test_both_ends_of_a_flow_know_each_other_once() -> None:
    scenario = crowd(3, [flow(0, 1), flow(1, 0), flow(0, 2, "ipv6")])
    assert resources.neighbours(scenario, "ipv4") == fixed(scenario) + 2
    assert resources.neighbours(scenario, "ipv6") == fixed(scenario) + 2


def test_36_vms_that_all_talk_to_all_need_more_than_linux_has() -> None:
    pairs = itertools.permutations(range(36), 2)
    scenario = crowd(36, [flow(*pair) for pair in pairs])
    entries = resources.neighbours(scenario, "ipv4")
    assert entries == fixed(scenario) + 36 * 35
    needed = resources.settings(scenario)
    assert needed["net/ipv4/neigh/default/gc_thresh3"] > entries > 1024
    assert needed["net/ipv4/neigh/default/gc_thresh2"] == entries


@pytest.mark.parametrize(("vms", "raised"), [(3, 0), (36, 6)])
def test_at_a_prompt_all_may_talk_to_all(vms: int, raised: int) -> None:
    assert len(resources.settings(crowd(vms, []))) == raised
