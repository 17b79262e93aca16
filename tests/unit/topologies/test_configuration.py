"""What each node of a data centre is told."""

from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address

import pytest

from nve.model import VmSpec, mac, vni
from nve.ovs.bridge import PHYSICAL
from topologies import leaf_spine, star
from topologies.configuration import NIC, Configuration
from topologies.spec import LinkSpec

VM = VmSpec(
    "vm1",
    vni(5000),
    mac("02:00:00:00:00:01"),
    IPv4Address("10.0.0.1"),
    IPv6Address("fd00::1"),
    "nve1",
)
STAR = star.build(star.Parameters())
ROUTED = leaf_spine.build(leaf_spine.Parameters())


def test_everything_has_a_role() -> None:
    roles = Configuration(STAR, (VM,), None, "nva").roles

    assert roles == {
        **{"nve1": "nve", "nve2": "nve", "nve3": "nve", "core": "switch"},
        **{"nva": "control", "ctl": "switch", "wire": "wire", "vm1": "vm"},
    }


@pytest.mark.parametrize(
    ("vm", "complaint"),
    [
        (replace(VM, name="Vm1"), "a letter and up to six"),
        (replace(VM, name="machine1"), "a letter and up to six"),
        (replace(VM, name="nva"), "has this name already"),
        (replace(VM, name="core"), "has this name already"),
        (replace(VM, nve="nve4"), "no NVE nve4; this topology has nve1, nve2, nve3"),
    ],
)
def test_a_vm_that_does_not_fit_is_refused(vm: VmSpec, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        Configuration(STAR, (vm,), None, "nva").check()


def test_two_vms_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="vm1: a node of the data centre has this name already"):
        Configuration(STAR, (VM, VM), None).check()


def test_the_vtep_address_is_on_the_bridge_of_the_userspace_datapath() -> None:
    kernel, userspace = (Configuration(STAR, (VM,), device) for device in (None, PHYSICAL))

    assert "addr add 10.1.0.1/16 dev to-core" in kernel.configure("nve1")
    assert "addr add 10.1.0.1/16 dev br-phy" in userspace.configure("nve1")


def test_a_router_shares_load_and_an_nve_does_not() -> None:
    told = Configuration(ROUTED, (), None, "nva")

    assert "route add 10.3.0.0/16 nexthop via 10.4.0.2 nexthop via 10.5.0.2" in told.configure(
        "leaf1"
    )
    assert "route add 10.3.0.0/16 via 10.1.0.2" in told.configure("nve1")
    assert told.sysctls("leaf1")["ipv4/ip_forward"] == 1
    assert "ipv4/ip_forward" not in told.sysctls("nve1")


def test_the_nva_knows_every_nve_and_they_know_it() -> None:
    told = Configuration(STAR, (VM,), None, "nva")
    assert told.control

    (address, *neighbours) = told.configure("nva")

    assert address == "addr add 198.18.0.1/16 dev to-ctl"
    assert [command.split()[2] for command in neighbours] == [
        *("198.18.1.1", "198.18.1.2", "198.18.1.3")
    ]
    for nve in STAR.nves:
        assert (
            f"neigh replace 198.18.0.1 lladdr {told.control.mac('nva')} dev to-ctl nud permanent"
            in (told.configure(nve))
        )


def test_servers_know_each_other_on_the_migration_network() -> None:
    migration = LinkSpec(mtu=9000)
    told = Configuration(replace(STAR, migration=migration), (VM,), PHYSICAL, "nva")

    assert told.roles["mig"] == "switch"
    configured = told.configure("nve2")
    assert "addr add 198.19.1.2/16 dev to-mig" in configured
    neighbours = [line.split() for line in configured if line.endswith("dev to-mig nud permanent")]
    assert [line[2] for line in neighbours] == ["198.19.1.1", "198.19.1.3"]
    assert not [line for line in told.configure("nva") if "to-mig" in line]
    assert "link set to-mig addrgenmode none mtu 9000 up" in told.bring_up("nve2")
    assert "link set to-nve3 master br0 mtu 9000 up" in told.bring_up("mig")
    assert not any("mig" in name for name in Configuration(STAR, (VM,), None, "nva").roles)


def test_a_nic_has_the_vms_addresses_and_the_tunnels_mtu() -> None:
    commands = Configuration(STAR, (VM,), None).bring_up("vm1")

    assert "addr add fd00::1/64 dev eth0 nodad" in commands
    assert "link set eth0 mtu 1450 addrgenmode eui64" in commands
    assert commands[1].startswith("link add eth0 address 02:00:00:00:00:01 type bridge")


def test_a_link_has_its_mtu_at_both_ends_and_the_control_network_the_usual_one() -> None:
    narrow = star.build(star.Parameters.model_validate({"links": {"nve2": {"mtu": 1400}}}))
    told = Configuration(narrow, (VM,), None, "nva")

    assert "link set to-core mtu 1400 up" in told.bring_up("nve2")
    assert "link set to-nve2 master br0 mtu 1400 up" in told.bring_up("core")
    assert "link set to-core mtu 1500 up" in told.bring_up("nve1")
    assert "link set to-ctl mtu 1500 up" in told.bring_up("nve2")
    assert "link set eth0 mtu 1350 addrgenmode eui64" in told.bring_up("vm1")


def test_a_vm_may_have_an_mtu_that_does_not_fit_everywhere() -> None:
    told = Configuration(STAR, (replace(VM, mtu=1500),), None)

    assert "link set eth0 mtu 1500 addrgenmode eui64" in told.bring_up("vm1")


def test_a_vm_does_not_take_an_icmp_error_for_forged() -> None:
    assert Configuration(STAR, (VM,), None).sysctls("vm1")["ipv4/conf/all/rp_filter"] == 0


def test_a_vm_gets_its_secondary_addresses() -> None:
    more = (IPv4Address("10.0.9.9"), IPv6Address("fd00::99"))
    commands = Configuration(STAR, (replace(VM, secondary=more),), None, "nva").bring_up("vm1")

    assert f"addr add 10.0.9.9/16 dev {NIC}" in commands
    assert f"addr add fd00::99/64 dev {NIC} nodad" in commands
