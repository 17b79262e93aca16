"""Tenants in a scenario: virtual networks, and the VMs that start in them.

Tenants number their VMs from 1, each tenant anew: the first VM of every virtual network has the
MAC address 02:00:00:00:00:01 and the same IP addresses.  So every scenario with two tenants shows
that they do not mix (R4.1.8).

What does not fit the layer of a network is in `experiments.scenario.layers`, and which addresses
two of its hosts would share in `experiments.scenario.consistency`.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from experiments.scenario.guests import Guest
from experiments.scenario.parts import Address, Name, Part
from experiments.scenario.standbys import StandbySpec
from nve import ila
from nve.model import MAX_VNI, Encapsulation, IPAddress, RoutedNetwork, VmSpec, mac, vni
from nve.resources import NO_RESOURCES, Resources, named
from topologies.configuration import TENANT_PREFIX_LENGTH
from topologies.mtu import LARGEST_VM_MTU, LEAST_VM_MTU

TENANT_IPV4 = IPv4Address("192.168.0.0")
TENANT_IPV6 = IPv6Address("fd77::")
_TENANT_NETWORKS = (
    IPv4Network((TENANT_IPV4, TENANT_PREFIX_LENGTH[4])),
    IPv6Network((TENANT_IPV6, TENANT_PREFIX_LENGTH[6])),
)


class VmPlace(Part):
    """Where a VM starts, its state, and its addresses besides the two that every VM has."""

    nve: Name
    addresses: tuple[Address, ...] = Field(default=(), max_length=8)
    guest: Guest | None = None
    """The VM's state; None if it has only a NIC, and what the traffic starts in it."""
    standby: StandbySpec | None = None
    resources: Annotated[Resources, BeforeValidator(named)] = NO_RESOURCES
    """The resources that it gets of its server; memory and storage default to the size of its
    guest."""

    @model_validator(mode="after")
    def _has_room_for_its_guest(self) -> Self:
        for key, least, of_guest in (
            ("memory_mb", self.guest.memory_mb if self.guest else 0, "guest.memory_mb"),
            ("storage_mb", self.guest.disk_mb if self.guest else 0, "guest.disk_mb"),
        ):
            asked = getattr(self.resources, key)
            if asked and asked < least:
                raise ValueError(
                    f"resources.{key} ({asked}) is less than {of_guest} ({least}); raise it, or "
                    "leave it out"
                )
        return self

    @property
    def takes(self) -> Resources:
        """All that it takes of its server."""
        if self.guest is None:
            return self.resources
        return replace(
            self.resources,
            memory_mb=self.resources.memory_mb or self.guest.memory_mb,
            storage_mb=self.resources.storage_mb or self.guest.disk_mb,
        )


def _place(given: object) -> object:
    """Accept an NVE's name as a place, which is enough for most VMs."""
    return {"nve": given} if isinstance(given, str) else given


class Tenant(Part):
    """A virtual network and where its VMs start."""

    vni: int = Field(ge=1, le=MAX_VNI)
    vms: dict[Name, Annotated[VmPlace, BeforeValidator(_place)]] = Field(
        min_length=1, max_length=1000
    )
    mtu: int | None = Field(None, ge=LEAST_VM_MTU, le=LARGEST_VM_MTU)
    """The MTU of the VMs' NICs; by default what the underlay carries everywhere."""
    layer: Literal[2, 3] = 2
    """At 3, the NVE is the router of its VMs: see docs/how-it-works/layer3.md."""
    encapsulation: Encapsulation = "vxlan"
    """At layer 3: how packets go from NVE to NVE."""
    sir_prefix: IPv6Network | None = None
    """With `ila`: the upper half of the VMs' addresses; by default every VNI has its own."""
    checksum: Literal["neutral", "adjusted"] = "neutral"
    """With `ila`: the method that keeps checksums of translated packets right (`nve.ila`)."""
    subnets: Literal["one", "per-nve"] = "one"
    """At layer 3: whether all VMs' addresses are in one subnet, or in that of the NVE where each
    starts."""
    vlan_tags: bool = False
    """Whether frames with VLAN tags are carried, or dropped and counted."""
    shared: dict[Address, tuple[Name, ...]] = Field(default_factory=dict)
    """Addresses that VMs take over from each other by announcing them, with the VMs that may do
    so."""

    def vm(
        self,
        number: int,
        name: str,
        place: VmPlace,
        claimable: Iterable[IPAddress] = (),
        addresses: tuple[IPv4Address, IPv6Address] | None = None,
    ) -> VmSpec:
        """Return the VM with that number in the network.

        It may take over the `shared` addresses that name it, and those that are `claimable`.
        Unless `addresses` are given, its addresses are derived from its number.
        """
        return VmSpec(
            name,
            vni(self.vni),
            mac(f"02:00:00:00:{number >> 8:02x}:{number & 255:02x}"),
            *(addresses or self._numbered(number)),
            place.nve,
            self.mtu,
            place.addresses,
            self.vlan_tags,
            (*(address for address, vms in self.shared.items() if name in vms), *claimable),
            place.takes,
            place.resources,
            self.routed,
        )

    @property
    def routed(self) -> RoutedNetwork | None:
        """The parameters of its layer 3 network, or None at layer 2."""
        if self.layer != 3:
            return None
        if self.encapsulation != "ila":
            return RoutedNetwork(self.encapsulation)
        prefix = self.sir_prefix or ila.usual_sir_prefix(vni(self.vni))
        return RoutedNetwork("ila", prefix, self.checksum)

    @property
    def networks(self) -> tuple[IPv4Network | IPv6Network, ...]:
        """The networks that contain the addresses of its hosts."""
        prefix = self.routed.sir_prefix if self.routed else None
        return (prefix,) if prefix else _TENANT_NETWORKS

    def _numbered(self, number: int) -> tuple[IPv4Address, IPv6Address]:
        """Return the addresses that follow from a VM's number in the network alone."""
        prefix = self.routed.sir_prefix if self.routed else None
        return TENANT_IPV4 + number, prefix[number] if prefix else TENANT_IPV6 + number

    def addresses(self, nves: Sequence[str]) -> dict[str, tuple[IPv4Address, IPv6Address]]:
        """Return the addresses of each VM; `nves` are in the order of the topology."""
        located = self.routed is not None and self.routed.sir_prefix is not None
        if located or self.subnets == "one":
            return {vm: self._numbered(number) for number, vm in enumerate(self.vms, start=1)}
        seen: Counter[str] = Counter()
        found = {}
        for vm, place in self.vms.items():
            seen[place.nve] += 1
            subnet = nves.index(place.nve) + 1 if place.nve in nves else 0
            host = seen[place.nve]
            found[vm] = TENANT_IPV4 + (subnet << 8) + host, TENANT_IPV6 + (subnet << 64) + host
        return found
