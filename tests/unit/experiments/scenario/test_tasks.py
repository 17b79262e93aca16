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


BY_VM = {"vm1": ["192.168.9.51"], "vm2": ["192.168.9.52"]}
NAMED: dict[str, Any] = {
    **CONTENT,
    "name_server": {"on": "vm3", "ttl_s": 0},
    "tasks": {"web": {**TASK, "addresses": BY_VM}},
    "task_moves": [
        {
            **{"at_s": 1, "task": "web", "to": "vm2"},
            **{"connections": "close", "meanwhile": "drop", "late": "drop"},
        }
    ],
}


def test_a_vm_may_have_the_addresses_that_a_named_task_has_there() -> None:
    found = {vm.name: list(map(str, vm.claimable)) for vm in resolve(NAMED, "test", {}).vms()}
    assert found == {**BY_VM, "vm3": [], "other": []}
    once = as_mapping(resolve(NAMED, "test", {}))
    assert as_mapping(resolve(once, "test", {})) == once


@pytest.mark.parametrize(
    ("key", "value", "complaint"),
    [
        (
            "name_server",
            None,
            "clients find addresses given for each VM only by a name; add name_server: {on: a VM}",
        ),
        ("name_server.on", "vm9", "name_server.on: there is no VM 'vm9'"),
        ("name_server.on", "other", "other is in another virtual network than vm1"),
        ("name_server.ttl_s", -1, "name_server.ttl_s"),
        ("name_server.zone", "lab..test", "name_server.zone"),
        (
            "tasks.web.addresses",
            ["192.168.9.50"],
            "name_server: no task has other addresses in each VM",
        ),
        ("tasks.web.addresses.vm9", ["192.168.9.9"], "addresses.vm9: there is no VM 'vm9'"),
        ("tasks.web.addresses.vm2", ["192.168.9.51"], "vm2.0: web has 192.168.9.51 already"),
        ("tasks.web.addresses.vm2", ["fd77::9"], "vm2: give it as many as in vm1"),
        ("tasks.web.hosts", ["vm3"], "web has no address in vm3, where it may be; add vm3"),
        ("task_moves.0.connections", "migrate", "task_moves.0.connections: the addresses of web"),
        ("task_moves.0.meanwhile", "hold", "task_moves.0.meanwhile: the addresses of web do not"),
        ("task_moves.0.late", "forward", "task_moves.0.late: the addresses of web do not go"),
        ("traffic.0.family", "ipv6", "traffic.0.family: web has no address of IPv6"),
    ],
)
def test_each_mistake_with_names_has_its_sentence(key: str, value: object, complaint: str) -> None:
    with pytest.raises(ScenarioError) as refused:
        resolve(NAMED, "test", {key: value})
    assert complaint in str(refused.value)
