"""What a scenario needs is known before anything is built."""

import itertools
import re
from dataclasses import replace
from typing import Any

import pytest

from experiments import resources
from experiments.resources import NEIGHBOURS_OF_A_NODE, NEIGHBOURS_OF_OTHERS, Available, Needs
from experiments.scenario.load import resolve
from experiments.scenario.schema import Scenario


def crowd(vms: int, flows: list[dict[str, Any]], **changes: Any) -> Scenario:
    names = [f"v{number}" for number in range(vms)]
    content = {
        "name": "crowd",
        "topology": {"kind": "star", "nves": 3},
        "tenants": [{"vni": 5000, "vms": dict.fromkeys(names, "nve1")}],
        "traffic": flows,
        "duration_s": 10,
    }
    return resolve({**content, **changes}, "test")


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


NEEDED = Needs(open_files=100, memory_mib=1000, disk_mib=50, made_of="3 VMs, 9 packets")
PLENTY = Available(open_files=1000, memory_mib=10_000, disk_mib=500, disk="results/r")


def test_a_run_with_plenty_of_everything_is_not_told_anything() -> None:
    unknown = Available(open_files=None, memory_mib=None, disk_mib=None)
    for available in (PLENTY, unknown):
        assert resources.fit(NEEDED, available) == resources.Fit([], [])


@pytest.mark.parametrize(
    ("what", "tight", "too_little", "says", "remedy"),
    [
        ("open_files", 110, 99, "100 open files", "ulimit -Hn"),
        ("memory_mib", 1100, 999, "1,000 MiB of memory", "rate_pps"),
        ("disk_mib", 55, 49, "50 MiB of disk for results/r", "--out"),
    ],
)
def test_what_there_is_too_little_of_is_named_with_the_remedy(
    what: str, tight: int, too_little: int, says: str, remedy: str
) -> None:
    less: dict[str, Any] = {what: tight}
    warned = resources.fit(NEEDED, replace(PLENTY, **less))
    less = {what: too_little}
    refused = resources.fit(NEEDED, replace(PLENTY, **less))
    assert (len(warned.warnings), len(warned.refusals)) == (1, 0)
    assert (len(refused.warnings), len(refused.refusals)) == (0, 1)
    (told,) = refused.refusals
    assert re.search(rf"needs about {says} .*3 VMs, 9 packets.* there are {too_little}; ", told)
    assert remedy in told


def test_more_packets_need_more_memory_and_more_disk() -> None:
    small = resources.of([crowd(3, [flow(0, 1)])])
    large = resources.of([crowd(3, [{**flow(0, 1), "rate_pps": 20_000}], duration_s=3600)])
    packets = 20_000 * 3600
    assert large.memory_mib - small.memory_mib == pytest.approx(packets * 300 / 2**20, abs=1)
    assert large.disk_mib - small.disk_mib == pytest.approx(packets * 76 / 2**20, abs=1)
    assert "72,000,000 packets" in large.made_of


def test_results_add_up_and_memory_does_not() -> None:
    scenario = crowd(3, [{**flow(0, 1), "rate_pps": 20_000}], duration_s=600)
    one, three = resources.of([scenario]), resources.of([scenario] * 3)
    assert three.memory_mib == one.memory_mib
    packets = 20_000 * 600
    assert three.disk_mib - one.disk_mib == pytest.approx(2 * (packets * 20 / 2**20 + 5), abs=1)


def test_captures_need_disk() -> None:
    scenario = crowd(3, [{**flow(0, 1), "rate_pps": 1000}], duration_s=100)
    without, captured = resources.of([scenario]), resources.of([scenario], pcap=True)
    assert captured.disk_mib - without.disk_mib == pytest.approx(2 * 1e5 * 210 / 2**20, abs=1)


def test_vms_that_visit_more_nves_need_more_open_files() -> None:
    stays = crowd(3, [])
    moves = crowd(3, [], moves=[{"at_s": 1, "vm": "v1", "to": "nve2"}])
    assert resources.of([moves]).open_files > resources.of([stays]).open_files
    assert resources.of([crowd(300, [])]).open_files > 1024
