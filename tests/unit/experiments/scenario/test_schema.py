"""Scenarios: a mistake is one sentence with file, field and remedy.

Tenants, flows, moves, series, attacks and failures have tests of their own.
"""

from typing import Any

import pytest

from controller.core import dissemination
from experiments import overlays
from nve.model import MAX_VNI
from tests.helpers.scenarios import GOOD, assert_a_sentence, complaint
from topologies import catalogue

STRATEGIES = ", ".join(dissemination.names())
OVERLAYS = ", ".join(overlays.names())
TOPOLOGIES = ", ".join(catalogue.names())
KINDS = " | ".join(catalogue.names())
"""Whatever there is: a new one is one new file, and no change here."""

MISTAKES: dict[str, tuple[str, Any, str, str]] = {
    # what: (key, value, the field that is named, the remedy or what is wrong)
    "unknown key": ("speed", 3, "speed", "there is no such key here; check the spelling"),
    "unknown key inside": ("overlay.idel_s", 3, "overlay.idel_s", "nvo3 has no such key; check"),
    "unknown key of a topology": ("topology.spines", 2, "topology.spines", "no such key here"),
    "name": ("name", "My Scenario", "name", "should match pattern"),
    "topology is a word": ("topology", "star", "topology", f"say which: kind: {KINDS}"),
    "topology without kind": ("topology", {"nves": 3}, "topology", "say which: kind:"),
    "unknown topology": ("topology.kind", "no-such", "topology", f"there are {TOPOLOGIES}"),
    "too few NVEs": ("topology.nves", 1, "topology.nves", "greater than or equal to 2"),
    "NVEs in words": ("topology.nves", "three", "topology.nves", "valid integer"),
    "delay": ("topology.link.delay_ms", -1, "topology.link.delay_ms", "give milliseconds from 0"),
    "loss": ("topology.link.loss_pct", 101, "topology.link.loss_pct", "give a percentage from 0"),
    "control": ("control.delay_ms", -1, "control.delay_ms", "give milliseconds from 0"),
    "no tenants": ("tenants", [], "tenants", "give at least one"),
    "VNI": ("tenants.0.vni", 2**24, "tenants.0.vni", f"less than or equal to {MAX_VNI}"),
    "VNI twice": (
        "tenants.1.vni",
        5000,
        "tenants.1.vni",
        "two tenants have VNI 5000; give each its own",
    ),
    "MTU of VMs": ("tenants.0.mtu", 1501, "tenants.0.mtu", "less than or equal to 1500"),
    "MTU below IPv6's": ("tenants.0.mtu", 1279, "tenants.0.mtu", "greater than or equal to 1280"),
    "MTU of a link": ("topology.link.mtu", 1349, "topology.link.mtu", "octets from 1350 to 9000"),
    "MTU of control": ("control.mtu", 1400, "control.mtu", "leave it out"),
    "no VMs": ("tenants.0.vms", {}, "tenants.0.vms", "give at least one"),
    "VM name": ("tenants.0.vms", {"VM1": "nve1"}, "tenants.0.vms.VM1", "a letter, then up to 6"),
    "VM name too long": ("tenants.0.vms.machine1", "nve1", "vms.machine1", "up to 6 letters"),
    "VM twice": ("tenants.1.vms", {"vm1": "nve1"}, "tenants.1.vms.vm1", "two VMs have this name"),
    "VM at no NVE": (
        "tenants.0.vms.vm1",
        "nve4",
        "tenants.0.vms.vm1",
        "there are nve1, nve2, nve3",
    ),
    "another VM's address": (
        "tenants.0.vms.vm1",
        {"nve": "nve1", "addresses": ["192.168.0.2"]},
        "tenants.0.vms.vm1.addresses.0",
        "vm2 has 192.168.0.2 already; choose another",
    ),
    "an address elsewhere": (
        "tenants.0.vms.vm1",
        {"nve": "nve1", "addresses": ["fd78::1"]},
        "tenants.0.vms.vm1.addresses.0",
        "is not the address of a host in 192.168.0.0/16 or fd77::/64",
    ),
    "a network's address": (
        "tenants.0.vms.vm1",
        {"nve": "nve1", "addresses": ["192.168.255.255"]},
        "tenants.0.vms.vm1.addresses.0",
        "is not the address of a host",
    ),
    "an address of words": (
        "tenants.0.vms.vm1",
        {"nve": "nve1", "addresses": ["here"]},
        "tenants.0.vms.vm1.addresses.0",
        "address",
    ),
    "a VM without its NVE": (
        "tenants.0.vms.vm1",
        {"addresses": []},
        "tenants.0.vms.vm1.nve",
        "this is missing; add it",
    ),
    "overlay kind": ("overlay.kind", "evpn", "overlay.kind", f"there are {OVERLAYS}"),
    "mapping": ("overlay.mapping_update", "gossip", "overlay", f"'gossip'; there are {STRATEGIES}"),
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
    "link of no NVE": ("topology.links.nve9", {}, "topology.links.nve9", "there are nve1, nve2"),
    "link of an NVE": (
        "topology.links.nve3.delay_ms",
        -1,
        "topology.links.nve3.delay_ms",
        "give milliseconds from 0",
    ),
    "no duration": ("duration_s", 0, "duration_s", "greater than 0"),
    "duration is not a number": ("duration_s", float("nan"), "duration_s", "less than or equal"),
    "seed": ("seed", -1, "seed", "greater than or equal to 0"),
    "datapath": ("datapath", "dpdk", "datapath", "'auto', 'system' or 'netdev'"),
    "variants are a list": ("variants", ["drop"], "variants", "give keys with their values"),
}


@pytest.mark.parametrize(("key", "value", "field", "remedy"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_a_sentence_with_file_field_and_remedy(
    key: str, value: Any, field: str, remedy: str
) -> None:
    assert_a_sentence(complaint(GOOD, **{key: value}), field, remedy)


NOT_SEEN: dict[str, tuple[str, Any]] = {
    "a VM with the name of an underlay node": ("tenants.0.vms.core", "nve1"),
    "a VM with the name of the NVA": ("tenants.0.vms.nva", "nve1"),
    "a VM with the name of an NVE": ("tenants.0.vms.nve1", "nve1"),
    "a variant whose name leads out of the result": ("variants", {"../elsewhere": {}}),
    "a variant without a name": ("variants", {"": {}}),
}


@pytest.mark.parametrize(("key", "value"), NOT_SEEN.values(), ids=NOT_SEEN)
def test_a_mistake_is_seen_before_anything_is_started(key: str, value: Any) -> None:
    assert complaint(GOOD, **{key: value})
