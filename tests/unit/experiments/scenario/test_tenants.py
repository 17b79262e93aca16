"""Tenants: what their VMs are called on the network, and what they may have besides."""

import pytest

from tests.helpers.scenarios import resolved


@pytest.mark.shows("R4.1.8")
def test_tenants_number_their_vms_alike() -> None:
    """Two networks with the same addresses, in every scenario with two tenants."""
    vm1, vm2, other1 = resolved().vms()

    assert (vm1.mac, str(vm1.ipv4), str(vm1.ipv6)) == (
        "02:00:00:00:00:01",
        "192.168.0.1",
        "fd77::1",
    )
    assert (vm2.mac, str(vm2.ipv4)) == ("02:00:00:00:00:02", "192.168.0.2")
    assert other1.addresses == vm1.addresses
    assert other1.vni != vm1.vni


def test_many_vms_have_addresses_of_their_own() -> None:
    vms = {f"v{number}": "nve1" for number in range(1000)}
    found = resolved(tenants=[{"vni": 1, "vms": vms}], traffic=[], moves=[]).vms()

    assert len({vm.mac for vm in found}) == len({vm.ipv4 for vm in found}) == 1000


def test_vms_have_the_mtu_of_their_tenant() -> None:
    wanted = resolved(**{"tenants.0.mtu": 1400})

    assert {vm.vni: vm.mtu for vm in wanted.vms()} == {5000: 1400, 6000: None}


def test_a_vm_has_two_addresses_and_as_many_more_as_it_is_given() -> None:
    more = ["192.168.9.9", "fd77::99", "fe80::9c11:b9d2:57e0:4a93"]
    vm1, vm2 = resolved(
        tenants__0__vms={"vm1": {"nve": "nve1", "addresses": more}, "vm2": "nve2"}
    ).vms()[:2]

    assert [str(address) for address in vm1.secondary] == more
    assert vm1.addresses >= {vm1.ipv4, vm1.ipv6, *vm1.secondary}
    assert (vm1.nve, vm2.nve, vm2.secondary) == ("nve1", "nve2", ())
