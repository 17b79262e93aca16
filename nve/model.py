"""The nouns of the overlay, shared by the NVA, the NVEs and the experiments.

A *tenant system* (here: a VM) has one MAC address and some IP addresses inside one virtual network,
named by its VNI (RFC 7364, RFC 8014).  A *binding* says which NVE that tenant system is behind at
the moment; the NVA numbers bindings so that an older one can never replace a newer one. Everything
here is a value: frozen, hashable, and free of I/O.

The same MAC or IP address in two virtual networks means two different things (R4.1.8), which is why
every key below starts with the VNI.
"""

import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Literal, NewType, TypeAlias

from nve.resources import NO_RESOURCES, Resources

IPAddress: TypeAlias = IPv4Address | IPv6Address
Vtep: TypeAlias = IPv4Address | IPv6Address
Vni = NewType("Vni", int)
Mac = NewType("Mac", str)

FIRST_COPY_VNI = 0xFF0000
"""From here on, a VNI names one VM, for its copies of frames to a group
(`controller.core.groups`)."""
MAX_VNI = FIRST_COPY_VNI - 1
ETHERNET_BYTES = 14
BROADCAST = Mac("ff:ff:ff:ff:ff:ff")
NVE_MAC = Mac("02:ff:00:00:00:00")
"""The source of frames that an NVE itself sends: the same everywhere, and no VM's."""
GATEWAY_IPV4 = IPv4Address("169.254.1.1")
"""The NVE's address in a layer 3 network: every VM's default route leads there, whatever its
subnet."""
NAME = re.compile(r"[a-z][a-z0-9]{0,6}")
"""VM and NVE names: short, because an interface name made of one has 15 characters at most."""

_MAC = re.compile(r"([0-9a-f]{2}:){5}[0-9a-f]{2}")


def vni(number: int) -> Vni:
    """Return the number as the VNI of a tenant (RFC 7348: 24 bits).

    0 and the last 65,536 are not used for tenants.  Raises ValueError outside 1..MAX_VNI.
    """
    if not 1 <= number <= MAX_VNI:
        raise ValueError(f"VNI {number} is not in 1..{MAX_VNI}")
    return Vni(number)


def mac(text: str) -> Mac:
    """Return a unicast MAC address in its canonical lower-case form.  Raises ValueError."""
    lowered = text.lower()
    if not _MAC.fullmatch(lowered):
        raise ValueError(f"{text!r} is not a MAC address such as 02:00:00:00:00:01")
    if int(lowered[:2], 16) & 1:
        raise ValueError(f"{text!r} is a group address; a VM has a unicast one")
    return Mac(lowered)


def link_local(address: Mac) -> IPv6Address:
    """Return the IPv6 link-local address that a host derives from its MAC (RFC 4291 appendix A)."""
    octets = [int(octet, 16) for octet in address.split(":")]
    octets[0] ^= 2
    interface_id = bytes([*octets[:3], 0xFF, 0xFE, *octets[3:]])
    return IPv6Address(bytes([0xFE, 0x80, *[0] * 6]) + interface_id)


GATEWAY_IPV6 = link_local(NVE_MAC)
Encapsulation: TypeAlias = Literal["vxlan", "vxlan-l3", "ila"]
SAVED_OCTETS: Mapping[Encapsulation, int] = {"vxlan": 0, "vxlan-l3": ETHERNET_BYTES, "ila": 70}
"""How many octets less than with VXLAN are put around a packet (for `ila`, over IPv6)."""


@dataclass(frozen=True)
class RoutedNetwork:
    """The parameters of a layer 3 network (see `nve.pipeline.routed`)."""

    encapsulation: Encapsulation = "vxlan"
    """How packets go from NVE to NVE: in VXLAN with an inner Ethernet header, in VXLAN without one,
    or without encapsulation (`nve.ila`)."""
    sir_prefix: IPv6Network | None = None
    """With `ila`: the upper half of the VMs' addresses."""
    checksum: Literal["neutral", "adjusted"] = "neutral"
    """With `ila`: the method that keeps checksums right."""

    @property
    def versions(self) -> tuple[int, ...]:
        """The IP versions that it carries."""
        return (6,) if self.encapsulation == "ila" else (4, 6)


@dataclass(frozen=True, order=True)
class TenantSystem:
    """What identifies a VM inside the overlay: its virtual network and its MAC address."""

    vni: Vni
    mac: Mac

    def __str__(self) -> str:
        return f"{self.mac}@{self.vni}"


@dataclass(frozen=True)
class VmSpec:
    """A VM as the scenario declares it: its name, its addresses and where it starts.

    Without an `mtu` of its own, its NIC has the largest MTU that fits into every tunnel.
    """

    name: str
    vni: Vni
    mac: Mac
    ipv4: IPv4Address
    ipv6: IPv6Address
    nve: str
    mtu: int | None = None
    secondary: tuple[IPAddress, ...] = ()
    vlan_tags: bool = False
    """Whether it may send frames with VLAN tags."""
    claimable: tuple[IPAddress, ...] = ()
    """Addresses of its network that it may take over from other VMs: by announcing them or, at
    layer 3, when the orchestrator says so."""
    resources: Resources = NO_RESOURCES
    """The resources that it takes of its server."""
    limits: Resources = NO_RESOURCES
    """The limits for its processes; a resource without one is unlimited."""
    routed: RoutedNetwork | None = None
    """The parameters of its layer 3 network; None if its network is one of layer 2."""

    @property
    def tenant_system(self) -> TenantSystem:
        return TenantSystem(self.vni, self.mac)

    @property
    def addresses(self) -> frozenset[IPAddress]:
        """Its own addresses: IPv4, IPv6, the IPv6 link-local one, secondary ones."""
        own = {self.ipv4, self.ipv6, link_local(self.mac), *self.secondary}
        return frozenset(each for each in own if each.version in self.versions)

    @property
    def versions(self) -> tuple[int, ...]:
        """The IP versions that its network carries."""
        return self.routed.versions if self.routed else (4, 6)


@dataclass(frozen=True)
class Binding:
    """(VNI, MAC, IP addresses) -> NVE, with a sequence number (R4.1.2, R4.1.6: what the NVA
    records).
    """

    system: TenantSystem
    addresses: frozenset[IPAddress]
    nve: str
    sequence: int
    number: int = 0
    """The number of the VM among all VMs."""
    home: str = ""
    """The NVE that the VM began behind."""
    moved: bool = False
    second: str | None = None
    """The NVE of its second instance, if it has two (hot standby)."""

    @property
    def nves(self) -> tuple[str, ...]:
        """The NVEs of the VM's instances: one, or two with a hot standby."""
        return (self.nve, self.second) if self.second else (self.nve,)

    @property
    def copy_vni(self) -> Vni:
        """The VNI of the VM's own copies of frames to a group."""
        return Vni(FIRST_COPY_VNI + self.number)


def vtep(text: str) -> Vtep:
    """Return the text as the underlay address of an NVE.  Raises ValueError."""
    return ip_address(text)


class Rank(enum.IntEnum):
    """Who goes first for a processor while a VM is switched over, as real-time priorities.

    In a data centre each of them has processors of its own.  Here, those that only take a few steps
    go before those that work for longer.
    """

    CONTROL = 1
    """The NVA."""
    PATH = 2
    """Switches, emulated links, and senders of probes."""
    SERVER = 3
    """Hypervisors, the agents of NVEs, and the VM that is to be suspended."""
    SWITCH_OVER = 4
    """The switch-over itself."""


MoveMode: TypeAlias = Literal["hot", "cold", "take-over"]
"""How a VM comes to another NVE (section 7 of the draft).

    hot        it runs at the source until the last moment
    cold       it is suspended at the source, and goes on at the destination
    take-over  its source is lost: a standby at the destination goes on instead
"""


@dataclass(frozen=True)
class Bounds:
    """How much may wait for a VM, and for how long.

    `markers_s` is how long packets wait for end markers, in seconds; None if there are no markers.
    """

    packets: int
    octets: int
    time_s: float
    markers_s: float | None = None

    def packets_of(self, mtu: int) -> int:
        """Return how many packets may wait: none is longer than the MTU, so that both bounds
        hold.
        """
        return max(1, min(self.packets, self.octets // (mtu + ETHERNET_BYTES)))
