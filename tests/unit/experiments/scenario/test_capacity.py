"""What servers have and VMs take in a scenario: refused in a sentence before anything is built."""

from typing import Any

import pytest

from experiments.scenario import load
from experiments.scenario.load import as_mapping
from nve.resources import UNLIMITED, Capacity, Resources
from tests.helpers.scenarios import GOOD, assert_a_sentence, complaint, resolved

GUEST = {"memory_mb": 64, "disk_mb": 8}
STAR = {"kind": "star", "nves": 3}


def tenants(**vm1: Any) -> list[dict[str, Any]]:
    return [{"vni": 5000, "vms": {"vm1": {"nve": "nve1", **vm1}, "vm2": "nve2"}}]


def limited(**servers: dict[str, Any]) -> dict[str, Any]:
    return {**STAR, "servers": servers}


ONE_MOVE = [{"at_s": 1, "vm": "vm1", "to": "nve2"}]
MISTAKES: dict[str, tuple[dict[str, Any], str, str]] = {
    # what: (changes, the field that is named, the remedy or what is wrong)
    "unknown server": (
        {"topology": limited(nve9={"cpu": 1})},
        *("topology.servers.nve9", "there are nve1, nve2, nve3"),
    ),
    "unknown resource of a server": (
        {"topology": limited(nve1={"gpu": 1})},
        *("topology.servers.nve1", "there is no resource 'gpu'; there are cpu, memory_mb"),
    ),
    "unknown resource of a VM": (
        {"tenants": tenants(resources={"gpu": 1})},
        *("tenants.0.vms.vm1.resources", "there is no resource 'gpu'; there are cpu, memory_mb"),
    ),
    "less than nothing": (
        {"tenants": tenants(resources={"cpu": -1})},
        *("tenants.0.vms.vm1.resources", "cpu is -1.0; give a number from 0 to 4096"),
    ),
    "less than the guest": (
        {"tenants": tenants(guest=GUEST, resources={"memory_mb": 63})},
        *("tenants.0.vms.vm1", "resources.memory_mb (63) is less than guest.memory_mb (64)"),
    ),
    "no room at the start": (
        {"tenants": tenants(guest=GUEST), "topology": {**STAR, "server": {"memory_mb": 63}}},
        *("topology.servers.nve1", "no room for vm1, which starts there: 64 MB of memory wanted"),
    ),
    "no room at a destination": (
        {"tenants": tenants(guest=GUEST), "topology": limited(nve2={"storage_mb": 7})},
        *("moves.0.to", "nve2 has no room for vm1: 8 MB of storage wanted, 7 free; give topology"),
    ),
    "nobody knows": (
        {"topology": limited(nve2={"cpu": 1}), "overlay": {"kind": "flood-and-learn"}},
        *("topology.servers", "does not know the resources of servers; leave it out"),
    ),
}


@pytest.mark.parametrize(("changes", "field", "remedy"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_a_sentence_with_file_field_and_remedy(
    changes: dict[str, Any], field: str, remedy: str
) -> None:
    told = complaint({**GOOD, "traffic": []}, variants={}, **{"moves": ONE_MOVE, **changes})
    assert_a_sentence(told, field, remedy)


def test_a_full_server_refuses_moves_and_may_be_what_one_wants_to_see() -> None:
    changes = {
        "tenants": [{"vni": 5000, "vms": {n: {"nve": "nve1", "guest": GUEST} for n in ("a", "b")}}],
        "topology": limited(nve2={"memory_mb": 100}),
        "traffic": [],
        "variants": {},
    }
    moves = [
        {"at_s": 1, "vm": "a", "to": "nve2"},
        {"at_s": 5, "vm": "b", "to": "nve2", "expect": "refused"},
        {"at_s": 9, "vm": "a", "to": "nve3"},
        {"at_s": 15, "vm": "b", "to": "nve2"},
    ]
    found = load.resolve(GOOD, "good", {**changes, "moves": moves})
    assert [move.expect for move in found.moves] == [
        *("completed", "refused", "completed", "completed")
    ]
    moves[2]["to"] = "nve1"
    moves[3]["at_s"] = 5.2
    assert_a_sentence(
        complaint(GOOD, **changes, moves=[*moves[:2], moves[3]]), "moves.2.to", "nve2 has no room"
    )


def test_a_server_is_as_all_are_but_for_what_is_said() -> None:
    topology = {**STAR, "server": {"cpu": 4, "memory_mb": 512}, "servers": {"nve2": {"cpu": 8}}}
    found = resolved(topology=topology)

    capacities = found.topology.fabric().capacities
    assert capacities["nve1"] == Capacity(cpu=4, memory_mb=512)
    assert capacities["nve2"] == Capacity(cpu=8, memory_mb=512)
    assert load.resolve(as_mapping(found), "again") == found
    assert set(resolved().topology.fabric().capacities.values()) == {UNLIMITED}


def test_a_vm_takes_what_its_guest_has_and_what_is_asked_for_besides() -> None:
    asked = {"cpu": 0.5, "memory_mb": 100, "processes": 50}
    found = {
        vm.name: vm.resources
        for given in ({}, {"resources": asked})
        for vm in resolved(tenants=tenants(guest=GUEST, **given), moves=[], traffic=[]).vms()
        if vm.name == "vm1" or not given
    }
    assert found["vm2"] == Resources()
    assert found["vm1"] == Resources(cpu=0.5, memory_mb=100, storage_mb=8, processes=50)
