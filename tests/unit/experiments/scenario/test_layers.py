"""What a tenant of layer 3 may say, and what follows for its VMs and their moves."""

from ipaddress import ip_address
from typing import Any

import pytest

from experiments.scenario import layers, load
from experiments.scenario.tenants import VmPlace
from nve.model import RoutedNetwork
from tests.helpers.scenarios import GOOD, assert_a_sentence, complaint

ROUTED: dict[str, Any] = {
    **GOOD,
    "tenants": [
        {"vni": 5000, "layer": 3, "vms": {"vm1": "nve1", "vm2": "nve2", "vm3": "nve2"}},
        {"vni": 6000, "vms": {"other1": "nve1"}},
    ],
}

LOCATED: dict[str, Any] = {
    "tenants.0.encapsulation": "ila",
    "topology.underlay": "ipv6",
    "traffic.1.family": "ipv6",
}
"""What makes that a network with locators."""

MISTAKES: dict[str, tuple[dict[str, Any], str, str]] = {
    # what: (keys and values, the field that is named, the remedy or what is wrong)
    "another layer": ({"tenants.0.layer": 4}, "tenants.0.layer", "2 or 3"),
    "VLAN tags": ({"tenants.0.vlan_tags": True}, "tenants.0.vlan_tags", "layer 3 routes packets"),
    "subnets of layer 2": (
        {"tenants.1.subnets": "per-nve"},
        "tenants.1.subnets",
        "say layer: 3, or leave it out",
    ),
    "an MTU that does not follow": (
        {"tenants.0.encapsulation": "vxlan-l3", "tenants.0.mtu": 1400},
        "tenants.0.mtu",
        "with vxlan-l3 the underlay decides the MTU",
    ),
    "a prefix without locators": (
        {"tenants.0.sir_prefix": "fd51::/64"},
        "tenants.0.sir_prefix",
        "say encapsulation: ila, or leave it out",
    ),
    "locators on an IPv4 underlay": (
        LOCATED | {"topology.underlay": "ipv4"},
        "topology.underlay",
        "ila needs underlay: ipv6",
    ),
    "locators in the kernel": (
        LOCATED | {"datapath": "system"},
        "datapath",
        "say datapath: netdev, or leave it out",
    ),
    "end markers": (
        LOCATED | {"overlay": {"hold": True, "end_marker": True}},
        "overlay.end_marker",
        "say end_marker: false",
    ),
    "IPv4 traffic": (
        LOCATED | {"traffic.1.family": "ipv4"},
        "traffic.1.family",
        "ila carries IPv6 only; say family: ipv6",
    ),
    "an IPv4 address": (
        LOCATED | {"tenants.0.vms.vm1": {"nve": "nve1", "addresses": ["192.168.0.9"]}},
        "tenants.0.vms.vm1.addresses.0",
        "192.168.0.9 is not the address of a host in fd51:0:1388::/64",
    ),
    "an identifier outside the prefix": (
        LOCATED | {"tenants.0.shared": {"fd77::9": ["vm1"]}},
        "tenants.0.shared.fd77::9",
        "fd77::9 is not the address of a host in fd51:0:1388::/64",
    ),
    "a prefix that is none": (
        LOCATED | {"tenants.0.sir_prefix": "fd51::/48"},
        "tenants.0.sir_prefix",
        "fd51::/48 is not a /64",
    ),
    "a prefix among the locators": (
        LOCATED | {"tenants.0.sir_prefix": "fd10:0:7::/64"},
        "tenants.0.sir_prefix",
        "is among the locators (fd10::/32)",
    ),
    "a prefix of the underlay": (
        LOCATED | {"tenants.0.sir_prefix": "fd00:0:0:1::/64"},
        "tenants.0.sir_prefix",
        "is among the underlay's own (fd00::/48)",
    ),
    "a prefix of one link": (
        LOCATED | {"tenants.0.sir_prefix": "fe80::/64"},
        "tenants.0.sir_prefix",
        "choose one such as fd51::/64",
    ),
    "a prefix of groups": (
        LOCATED | {"tenants.0.sir_prefix": "ff02::/64"},
        "tenants.0.sir_prefix",
        "choose one such as fd51::/64",
    ),
    "the prefix of no address": (
        LOCATED | {"tenants.0.sir_prefix": "::/64"},
        "tenants.0.sir_prefix",
        "choose one such as fd51::/64",
    ),
    "two networks with one locator": (
        LOCATED
        | {
            "tenants.1.layer": 3,
            "tenants.1.encapsulation": "ila",
            "tenants.1.sir_prefix": "fd51:1388::/64",
        },
        "tenants.1.sir_prefix",
        "its locators would be those of tenants.0; choose another prefix",
    ),
    "an identifier of a task that is not behind the prefix": (
        LOCATED
        | {
            "tasks": {"web": {"on": "vm1", "program": "http-server", "addresses": ["fd77::9"]}},
        },
        "tasks.web.addresses.0",
        "fd77::9 is not the address of a host in fd51:0:1388::/64",
    ),
    "an announcement": (
        {"moves.0.announce": "garp"},
        "moves.0.announce",
        "a network of layer 3 carries no announcement (garp); leave announce out",
    ),
    "an overlay without routers": (
        {"overlay": {"kind": "flood-and-learn"}},
        "tenants.0.layer",
        "overlay flood-and-learn has no layer 3; nvo3 has",
    ),
    "a diskless client": (
        {"traffic": [{"kind": "diskless-client", "vm": "vm1"}]},
        "traffic",
        "vm1 asks by reverse ARP",
    ),
    "more VMs than a subnet has addresses": (
        {
            "tenants.0.subnets": "per-nve",
            "tenants.0.vms": {f"vm{number}": "nve1" for number in range(1, 256)},
        },
        "tenants.0.subnets",
        "nve1 has more VMs than a subnet of its own has addresses (254)",
    ),
}


@pytest.mark.parametrize("what", MISTAKES)
def test_a_mistake_is_one_sentence_with_the_remedy(what: str) -> None:
    changes, field, remedy = MISTAKES[what]
    assert_a_sentence(complaint(ROUTED, **changes), field, remedy)


def test_nothing_is_announced_at_layer_3_also_when_the_run_is_repeated() -> None:
    resolved = load.resolve(ROUTED, "my.yaml")
    again = load.resolve(load.as_mapping(resolved), "my.yaml")

    assert [move.announce for move in resolved.moves] == ["none", "none"]
    assert again == resolved


def test_only_the_vms_of_a_routed_tenant_are_routed() -> None:
    vms = {vm.name: vm for vm in load.resolve(ROUTED, "my.yaml").vms()}

    assert vms["vm1"].routed == RoutedNetwork()
    assert vms["other1"].routed is None


def test_a_subnet_of_its_own_for_each_nve() -> None:
    found = load.resolve(ROUTED, "my.yaml", {"tenants.0.subnets": "per-nve"}).vms()

    assert [(vm.ipv4, vm.ipv6) for vm in found[:3]] == [
        (ip_address("192.168.1.1"), ip_address("fd77:0:0:1::1")),
        (ip_address("192.168.2.1"), ip_address("fd77:0:0:2::1")),
        (ip_address("192.168.2.2"), ip_address("fd77:0:0:2::2")),
    ]


@pytest.mark.parametrize("encapsulation", ["vxlan", "vxlan-l3"])
def test_who_has_the_kernels_datapath_is_told_why_it_is_not_used(encapsulation: str) -> None:
    resolved = load.resolve(ROUTED, "my.yaml", {"tenants.0.encapsulation": encapsulation})
    told = [*layers.on_the_datapath(resolved, kernels_available=True)]

    assert len(told) == (encapsulation == "vxlan-l3")
    assert all("ran in userspace, for encapsulation vxlan-l3;" in each for each in told)
    assert [*layers.on_the_datapath(resolved, kernels_available=False)] == []


def test_with_locators_the_switch_is_the_userspace_one() -> None:
    resolved = load.resolve(ROUTED, "my.yaml", LOCATED)

    assert resolved.datapath == "netdev"
    vm1 = resolved.vms()[0]
    assert vm1.ipv6 == ip_address("fd51:0:1388::1")
    assert {each.version for each in vm1.addresses} == {6}


@pytest.mark.shows("R4.2.2", "R8.2")
def test_a_vm_that_comes_later_has_an_identifier_of_its_network() -> None:
    tenant, _ = load.resolve(ROUTED, "my.yaml", LOCATED).tenants
    later = tenant.vm(4, "vm4", VmPlace(nve="nve1"))

    assert later.ipv6 == ip_address("fd51:0:1388::4")
