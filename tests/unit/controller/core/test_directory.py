"""The directory: who is where, by MAC and by IP address, and what an update may change."""

from ipaddress import IPv4Address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.core.directory import AddressInUse, Directory, RebindOutcome
from nve.model import Binding, VmSpec
from tests.helpers.tenants import BLUE, RED, vm

VM1, VM2, NAMESAKE = vm("vm1", 1, "nve1"), vm("vm2", 2, "nve2"), vm("blue", 1, "nve3", BLUE)


def registered(*vms: VmSpec) -> Directory:
    directory = Directory()
    for each in vms:
        directory.register(each.tenant_system, each.addresses, each.nve)
    return directory


@pytest.mark.shows("R4.1.2", "R4.1.6")
def test_a_binding_is_found_by_mac_and_by_each_address() -> None:
    """(VM IPv4/IPv6, VM MAC, NVE)."""
    directory = registered(VM1, VM2)
    binding = Binding(VM1.tenant_system, VM1.addresses, "nve1", 1, number=1, home="nve1")

    assert directory.find(VM1.tenant_system) == binding
    assert all(directory.find_address(RED, each) == binding for each in VM1.addresses)


def test_what_nobody_has_is_not_found() -> None:
    directory = registered(VM1)

    assert directory.find(VM2.tenant_system) is None
    assert directory.find_address(RED, VM2.ipv4) is None
    assert directory.find_address(BLUE, VM1.ipv4) is None


@pytest.mark.shows("R4.1.8")
def test_the_same_addresses_in_two_networks_are_two_bindings() -> None:
    directory = registered(VM1, NAMESAKE)

    assert [each.nve for each in directory] == ["nve1", "nve3"]
    for address in VM1.addresses & NAMESAKE.addresses:
        assert directory.find_address(RED, address) == directory.find(VM1.tenant_system)
        assert directory.find_address(BLUE, address) == directory.find(NAMESAKE.tenant_system)
    assert directory.members(RED) == {"nve1"}
    assert directory.members(BLUE) == {"nve3"}


@pytest.mark.shows("R9.2")
def test_an_address_of_another_vm_is_refused_and_nothing_changes() -> None:
    directory = registered(VM1, VM2)
    before = list(directory)

    with pytest.raises(AddressInUse, match=rf"{VM1.ipv4} in VNI {RED} belongs to {VM1.mac}"):
        directory.register(VM2.tenant_system, VM2.addresses | {VM1.ipv4}, "nve3")

    assert list(directory) == before
    assert directory.find_address(RED, VM1.ipv4) == directory.find(VM1.tenant_system)


def test_a_vm_that_is_entered_anew_gives_its_old_addresses_back() -> None:
    directory = registered(VM1)
    other = IPv4Address("192.168.7.7")

    binding = directory.register(VM1.tenant_system, frozenset({other}), "nve1")

    assert binding.sequence == 2
    assert directory.find_address(RED, VM1.ipv4) is None
    assert directory.find_address(RED, other) == binding


@pytest.mark.parametrize(
    ("sequence", "nve", "outcome"),
    [
        (0, "nve2", RebindOutcome.STALE),
        (1, "nve2", RebindOutcome.STALE),
        (0, "nve1", RebindOutcome.STALE),
        (1, "nve1", RebindOutcome.CONFIRMED),
        (2, "nve1", RebindOutcome.CONFIRMED),
        (2, "nve2", RebindOutcome.CHANGED),
    ],
)
def test_only_a_newer_update_changes_a_binding(
    sequence: int, nve: str, outcome: RebindOutcome
) -> None:
    directory = registered(VM1)
    before = directory.find(VM1.tenant_system)

    assert directory.rebind(VM1.tenant_system, nve, sequence) is outcome

    after = directory.find(VM1.tenant_system)
    assert (after != before) == (outcome is RebindOutcome.CHANGED)
    assert after is not None
    assert (after.nve == nve) == (nve == "nve1" or outcome is RebindOutcome.CHANGED)


def test_a_vm_that_was_never_registered_cannot_be_bound() -> None:
    with pytest.raises(KeyError):
        Directory().rebind(VM1.tenant_system, "nve1", 1)


updates = st.tuples(st.sampled_from(["nve1", "nve2", "nve3"]), st.integers(0, 8))


@settings(derandomize=True)
@given(st.lists(updates, max_size=12))
def test_sequence_numbers_only_grow(updates: list[tuple[str, int]]) -> None:
    """An older message can never replace a newer one, in whatever order they come."""
    directory = registered(VM1)
    highest = 1
    for nve, sequence in updates:
        outcome = directory.rebind(VM1.tenant_system, nve, sequence)
        binding = directory.find(VM1.tenant_system)
        assert binding is not None
        assert binding.sequence >= highest
        if outcome is RebindOutcome.CHANGED:
            assert (binding.nve, binding.sequence) == (nve, sequence)
        highest = binding.sequence
