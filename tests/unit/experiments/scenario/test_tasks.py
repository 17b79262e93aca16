"""What a scenario may say of tasks, and what is said to who says something else."""

from typing import Any

import pytest

from experiments.errors import ScenarioError
from experiments.scenario.load import as_mapping, resolve

TASK = {"on": "vm1", "program": "http-server", "addresses": ["192.168.9.50", "fd77::9:50"]}
CONTENT: dict[str, Any] = {
    "name": "tasks",
    "topology": {"kind": "star", "nves": 2},
    "tenants": [
        {"vni": 5000, "vms": {"vm1": "nve1", "vm2": "nve2", "vm3": "nve2"}},
        {"vni": 6000, "vms": {"other": "nve2"}},
    ],
    "tasks": {"web": TASK},
    "traffic": [{"kind": "download", "from": "vm3", "task": "web"}],
    "task_moves": [{"at_s": 1, "task": "web", "to": "vm2"}],
    "duration_s": 4,
}


def test_the_vms_that_a_task_visits_may_have_its_addresses() -> None:
    found = {vm.name: set(map(str, vm.claimable)) for vm in resolve(CONTENT, "test", {}).vms()}
    own = set(TASK["addresses"])
    assert found == {"vm1": own, "vm2": own, "vm3": set(), "other": set()}
    named = resolve(CONTENT, "test", {"tasks.web.hosts": ["vm3"]})
    assert {vm.name for vm in named.vms() if vm.claimable} == {"vm1", "vm2", "vm3"}


def test_it_is_the_same_when_it_is_read_again() -> None:
    once = as_mapping(resolve(CONTENT, "test", {}))
    assert as_mapping(resolve(once, "test", {})) == once


@pytest.mark.parametrize(
    ("key", "value", "complaint"),
    [
        ("tasks.web.on", "vm9", "tasks.web.on: there is no VM 'vm9'"),
        ("tasks.web.hosts", ["vm9"], "tasks.web.hosts: there is no VM 'vm9'"),
        ("tasks.web.addresses", ["10.0.0.1"], "10.0.0.1 is not the address of a host"),
        ("tasks.web.addresses", ["192.168.0.1"], "vm1 has 192.168.0.1 already"),
        ("tasks.web.addresses", [], "tasks.web.addresses"),
        (
            "tasks.vm2",
            {**TASK, "addresses": ["fd77::9"]},
            "tasks.vm2: a VM or another node has this name",
        ),
        ("task_moves.0.task", "mail", "task_moves.0.task: there is no task 'mail'; there are web"),
        ("task_moves.0.to", "nve2", "task_moves.0.to: there is no VM 'nve2'"),
        ("task_moves.0.to", "vm1", "web is at vm1 already; name another VM"),
        ("task_moves.0.to", "other", "other is in another virtual network than vm1"),
        ("task_moves.0.at_s", 4, "this is after the end; raise duration_s above 4"),
        ("task_moves.0.meanwhile", "queue", "task_moves.0.meanwhile"),
        (
            "task_moves",
            [{"at_s": 1, "task": "web", "to": "vm2"}, {"at_s": 1.2, "task": "web", "to": "vm1"}],
            "task_moves.1.at_s: web is still being moved; the earliest is 1.5",
        ),
        ("traffic.0.task", "mail", "traffic.0.task: there is no task 'mail'"),
        ("traffic.0.from", "vm9", "traffic.0.from: there is no VM 'vm9'"),
        ("tasks.web.addresses", ["fd77::9:50"], "traffic.0.family: web has no address of IPv4"),
    ],
)
def test_each_mistake_has_its_sentence(key: str, value: object, complaint: str) -> None:
    with pytest.raises(ScenarioError) as refused:
        resolve(CONTENT, "test", {key: value})
    assert complaint in str(refused.value)
