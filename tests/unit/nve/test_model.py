"""Values of the overlay: what is accepted, and in which form it is kept."""

import contextlib
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nve.model import MAX_VNI, TenantSystem, link_local, mac, vni, vtep
from tests.helpers.examples import CHARACTERS
from tests.helpers.tenants import BLUE, RED, vm


@pytest.mark.parametrize("number", [1, 5000, MAX_VNI])
def test_a_vni_has_24_bits(number: int) -> None:
    assert vni(number) == number


@pytest.mark.shows("R9.1")
@pytest.mark.parametrize("number", [-1, 0, MAX_VNI + 1])
def test_a_vni_outside_is_refused_with_its_range(number: int) -> None:
    """A VNI that VXLAN cannot carry is never used."""
    with pytest.raises(ValueError, match=rf"VNI {number} is not in 1\.\.{MAX_VNI}"):
        vni(number)


def test_a_mac_address_is_kept_in_lower_case() -> None:
    assert mac("02:00:00:00:AB:cd") == "02:00:00:00:ab:cd"


@pytest.mark.parametrize(
    "text", ["", "02:00:00:00:00", "02-00-00-00-00-01", "02:00:00:00:00:0g", " 02:00:00:00:00:01"]
)
def test_what_is_no_mac_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a MAC address such as"):
        mac(text)


@pytest.mark.parametrize("text", ["01:00:5e:00:00:01", "ff:ff:ff:ff:ff:ff", "33:33:00:00:00:01"])
def test_a_group_address_is_no_vms(text: str) -> None:
    with pytest.raises(ValueError, match="group address"):
        mac(text)


@given(st.text(CHARACTERS))
def test_any_text_is_a_mac_address_or_refused(text: str) -> None:
    with contextlib.suppress(ValueError):
        assert len(mac(text)) == 17


def test_link_local_addresses_follow_rfc_4291() -> None:
    assert link_local(mac("02:00:00:00:00:01")) == IPv6Address("fe80::ff:fe00:1")
    assert link_local(mac("00:12:34:56:78:9a")) == IPv6Address("fe80::212:34ff:fe56:789a")


@pytest.mark.shows("R3.1", "R3.2")
def test_a_vm_owns_three_addresses() -> None:
    """Both families, and the link-local address that IPv6 cannot do without."""
    owner = vm("vm1", 1, "nve1")

    assert owner.addresses == {owner.ipv4, owner.ipv6, link_local(owner.mac)}


@pytest.mark.shows("R4.1.8")
def test_the_same_mac_in_two_networks_is_two_tenant_systems() -> None:
    red, blue = vm("vm1", 1, "nve1", RED), vm("vm2", 1, "nve1", BLUE)

    assert red.mac == blue.mac
    assert red.tenant_system != blue.tenant_system
    assert len({red.tenant_system, blue.tenant_system}) == 2
    assert str(TenantSystem(RED, red.mac)) == "02:00:00:00:00:01@5000"


@pytest.mark.shows("R5.3")
@pytest.mark.parametrize(
    ("text", "address"),
    [("10.1.0.1", IPv4Address("10.1.0.1")), ("fd00::1", IPv6Address("fd00::1"))],
)
def test_vteps_are_of_either_family(text: str, address: object) -> None:
    assert vtep(text) == address
