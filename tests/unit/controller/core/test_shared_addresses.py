"""Addresses that one VM takes over from another, by announcing them."""

from ipaddress import IPv4Address, IPv6Address

import pytest

from controller.core import snapshot
from controller.core.dissemination import strategy
from nve.messages import AnswerArp
from nve.model import IPAddress, VmSpec
from nve.pipeline.rules import Output, Purpose
from tests.helpers import frames
from tests.helpers.authority import VM1, VM2, VM3
from tests.helpers.fabric import Fabric
from tests.helpers.tenants import RED, vteps

SHARED: frozenset[IPAddress] = frozenset({IPv4Address("192.168.9.50"), IPv6Address("fd77::50")})
V4, V6 = sorted(SHARED, key=lambda address: address.version)


@pytest.fixture
def network() -> Fabric:
    """vm1 at nve1 and vm2 at nve2 may have them; vm3 at nve1 may not."""
    made = Fabric(vteps(), strategy("push", None))
    for each in (VM1, VM2, VM3):
        made.associate(each, claimable=SHARED if each is not VM3 else frozenset())
    made.settle()
    return made


def announce(at: Fabric, vm: VmSpec, address: IPAddress) -> Purpose | None:
    if address.version == 4:
        said = frames.arp(vm, address, arp_spa=str(address))
    else:
        said = frames.advertisement(vm, ipv6_nd_target=str(address))
    verdict = at.send(vm.name, said)
    at.settle()
    return verdict.last.purpose if verdict.last else None


def owner(at: Fabric, address: IPAddress) -> object:
    found = at.authority.directory.find_address(RED, address)
    return found.system if found else None


@pytest.mark.shows("R4.1.2", "R4.1.6")
@pytest.mark.parametrize("address", [V4, V6], ids=["ipv4", "ipv6"])
def test_the_mapping_moves_to_who_announces_it(network: Fabric, address: IPAddress) -> None:
    """And each neighbour hears it once, at its port, from the NVA."""
    assert owner(network, address) is None
    for vm, others in ((VM1, [VM2, VM3]), (VM2, [VM1, VM3]), (VM1, [VM2, VM3])):
        network.emitted.clear()
        announce(network, vm, address)
        announce(network, vm, address)
        assert owner(network, address) == vm.tenant_system
        told = {(emit.nve, emit.way, emit.frame[:6].hex(":")) for emit in network.emitted}
        ports = {each: Output(network.port(each.name)) for each in others}
        assert told == {(each.nve, way, each.mac) for each, way in ports.items()}
        assert len(network.emitted) == len(others)
        assert all(bytes.fromhex(vm.mac.replace(":", "")) in emit.frame for emit in network.emitted)
    assert network.events().count("address-claimed") == 3


@pytest.mark.shows("R9.2")
@pytest.mark.parametrize("address", [V4, V6], ids=["ipv4", "ipv6"])
def test_who_may_not_have_it_is_refused(network: Fabric, address: IPAddress) -> None:
    announce(network, VM1, address)

    assert announce(network, VM3, address) is Purpose.SPOOFED
    assert announce(network, VM2, VM1.ipv4) is Purpose.SPOOFED
    assert owner(network, address) == VM1.tenant_system
    assert owner(network, VM1.ipv4) == VM1.tenant_system


def test_who_asks_is_told_of_the_one_that_has_it_also_after_a_move_and_a_restart(
    network: Fabric,
) -> None:
    announce(network, VM1, V4)
    announce(network, VM2, V4)
    network.move("vm2", "nve3")
    network.kill()
    network.connect_all()
    network.settle()
    network.answered.clear()
    network.send("vm3", frames.arp(VM3, V4))
    network.settle()
    assert [each.mac for each in network.answered if isinstance(each, AnswerArp)] == [VM2.mac]
    kept = snapshot.merged(map(snapshot.decode, network.journal))
    assert [V4 in each.addresses for each in kept.bindings] == [False, True, False]
    announce(network, VM1, V4)
    assert owner(network, V4) == VM1.tenant_system
