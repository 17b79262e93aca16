"""What an NVE has to know, as a value: `nve.pipeline.compiler` compiles it into rules.

The NVA keeps one of these for every NVE.  Nothing here does I/O, or knows rules except for how a
frame is tunnelled (`nve.pipeline.mtu_check`).
"""

import enum
from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from ipaddress import IPv6Network
from itertools import chain

from nve import ila
from nve.model import SAVED_OCTETS, IPAddress, Mac, RoutedNetwork, TenantSystem, Vni, Vtep
from nve.pipeline import mtu_check
from nve.pipeline.limits import USUAL, Limits
from nve.pipeline.rules import (
    PACKET_PORT,
    VXLAN_PORT,
    Action,
    Aim,
    GoTo,
    Output,
    PipelineTable,
    Translate,
    Tunnel,
    Way,
)


class AssociationRole(enum.Enum):
    """The role of an attached VM's port (RFC 8394 section 3).

    PRE_ASSOCIATED  the destination of a move: frames out of tunnels go to it (a closed gate there
                    may hold or drop them), local VMs still reach the VM at its source.
    ACTIVE          the VM runs here. REDIRECTED      the source of a move after its redirect: the
    VM may still send, nothing is
                    delivered any more.
    SUSPENDED       the VM does not run here, or must not: nothing is accepted from the port or
                    delivered to it.  The source of a cold move, and the place of a primary whose
                    standby has taken over.
    """

    PRE_ASSOCIATED = "pre-associated"
    ACTIVE = "active"
    REDIRECTED = "redirected"
    SUSPENDED = "suspended"

    @property
    def receives(self) -> bool:
        """Whether frames out of tunnels for the VM are delivered to the port."""
        return self in (AssociationRole.PRE_ASSOCIATED, AssociationRole.ACTIVE)


@dataclass(frozen=True)
class Association:
    """A VM's port on an NVE.  The VM may send from exactly these addresses (R9.2, R9.4)."""

    system: TenantSystem
    addresses: frozenset[IPAddress]
    port: int
    role: AssociationRole
    source: Vtep | None = None
    """The NVE that the VM is coming from, or came from last."""
    lane: bool = False
    """Whether what comes from that NVE enters the VM by a port of its own
    (`nve.hypervisor.reorder_buffer`)."""
    flooded: bool = False
    """Whether it gets frames to a group from the copy that its NVE gets for all its VMs."""
    copy_vni: Vni | None = None
    """The VNI of its own copies of frames to a group."""
    vlan_tags: bool = False
    """Whether the VMs of its network may send frames with VLAN tags."""
    claimable: frozenset[IPAddress] = frozenset()
    """The addresses that other VMs may have too, and that it may take over from them."""
    routed: RoutedNetwork | None = None
    """The parameters of its layer 3 network; None if its network is one of layer 2."""
    second: bool = False
    """Here is the second instance of a VM that has two (hot standby): it gets no frames to a
    group, which are the first one's."""


@dataclass(frozen=True)
class RemoteEntry:
    """An NVE's entry: where a VM behind another NVE is.

    With a lifetime, the NVE forgets it and asks (pull); an expired entry that is `kept` remains in
    use meanwhile.
    Of a VM with two instances, `second` is where the other one is: each flow goes to one of them.
    """

    vtep: Vtep
    lifetime_s: int | None = None
    kept: bool = False
    second: Vtep | None = None


@dataclass(frozen=True)
class Redirect:
    """What happens at the source NVE to packets in flight (section 5 of the draft).

    `to` is the destination NVE, or None if the experiment ignores the draft's MUST and drops them.
    The redirect stays until the VM has arrived, as silence means nothing before that.  Once it is
    `ending` it ends by itself: after `idle_s` without a packet, or `timer_s` after its start
    (R5.5).
    """

    to: Vtep | None
    idle_s: int = 0
    timer_s: int = 0
    flooded: bool = False
    copy_vni: Vni | None = None
    """Both as in the VM's `Association` here."""
    over: bool = False
    """Whether it has ended by its timer while some NVE still has an old entry: what that NVE sends
    here is dropped, and counted under a purpose of its own."""

    @property
    def ending(self) -> bool:
        return bool(self.idle_s or self.timer_s)


@dataclass(frozen=True)
class GroupCopy:
    """A VM that gets its own copy of each frame to a group, in its own VNI.

    `vtep` is where the VM is; an NVE with another path to it sends the copy by that path.
    """

    vni: Vni
    vtep: Vtep


@dataclass(frozen=True)
class UnderlayPlace:
    """An NVE's place on the underlay, for packets that go without a tunnel (`nve.ila`).

    `server` is the prefix of its locators; `servers` holds the prefixes of the other NVEs, and
    `next_hops` the MAC addresses to which it sends packets for them.
    """

    server: IPv6Network
    mac: Mac
    next_hops: Mapping[Vtep, Mac] = field(default_factory=dict)
    servers: Mapping[Vtep, IPv6Network] = field(default_factory=dict)


@dataclass(frozen=True)
class NveState:
    """All that an NVE has to know.  `members` are the other NVEs that hold VMs of a virtual
    network.

    A frame to a group goes once to each NVE of `flooded`, for its VMs, and once to each VM of
    `copies` (`controller.core.groups`). `markers` holds where the agent's end markers for a VM go
    (see `nve.wire.end_marker`). `tunnel_mtus` holds what the tunnel to another NVE carries,
    `vm_mtus` what the VMs of a network may send at most; where one is unknown, everything fits (see
    `nve.pipeline.mtu_check`). `vlan_tags` are the networks whose VMs may send frames with tags.
    `routed` are the networks of layer 3, and `hosts` the addresses of the VMs in them: the NVE has
    host routes for those VMs that the rest of its state is about.
    """

    vtep: Vtep
    peers: frozenset[Vtep] = frozenset()
    associations: Mapping[TenantSystem, Association] = field(default_factory=dict)
    remotes: Mapping[TenantSystem, RemoteEntry] = field(default_factory=dict)
    redirects: Mapping[TenantSystem, Redirect] = field(default_factory=dict)
    members: Mapping[Vni, frozenset[Vtep]] = field(default_factory=dict)
    flooded: Mapping[Vni, frozenset[Vtep]] = field(default_factory=dict)
    copies: Mapping[Vni, Mapping[TenantSystem, GroupCopy]] = field(default_factory=dict)
    markers: Mapping[TenantSystem, Vtep] = field(default_factory=dict)
    tunnel_mtus: Mapping[Vtep, int] = field(default_factory=dict)
    vm_mtus: Mapping[Vni, int] = field(default_factory=dict)
    vlan_tags: Set[Vni] = field(default_factory=frozenset)
    routed: Mapping[Vni, RoutedNetwork] = field(default_factory=dict)
    hosts: Mapping[TenantSystem, frozenset[IPAddress]] = field(default_factory=dict)
    limits: Limits = USUAL
    underlay: UnderlayPlace | None = None

    def exceeded(self, vni: Vni, to: Vtep) -> int | None:
        """Return the MTU of the tunnel to another NVE, or None if no VM of the network may exceed
        it.
        """
        most = self.vm_mtus.get(vni, 0)
        mtu = self.carries(vni, to) if most else None
        return mtu if mtu is not None and most > mtu else None

    def carries(self, vni: Vni, to: Vtep) -> int | None:
        """Return the longest packet of the network that reaches another NVE, or None if unknown."""
        mtu, network = self.tunnel_mtus.get(to), self.routed.get(vni)
        saved = SAVED_OCTETS[network.encapsulation] if network else 0
        return None if mtu is None else mtu + saved

    def way(self, vni: Vni, to: Vtep, *, hairpin: bool = False) -> Tunnel | Translate:
        """Return how packets of the network go to another NVE."""
        network, underlay = self.routed.get(vni), self.underlay
        if network and network.encapsulation == "ila" and underlay:
            locator, hop = ila.locator(network, underlay.servers[to]), underlay.next_hops[to]
            return Translate(vni, to, locator, underlay.mac, hop, hairpin)
        bare = network is not None and network.encapsulation == "vxlan-l3"
        return Tunnel(vni, to, hairpin, PACKET_PORT if bare else VXLAN_PORT)

    def tunnel_mtu(self, way: Way) -> int | None:
        """Return what a way out of the NVE carries, or None if it carries everything."""
        return None if isinstance(way, Output) else self.carries(way.vni, way.to)

    def narrow(self, vni: Vni) -> bool:
        """Return whether a VM of the network may exceed the MTU of any tunnel from here."""
        most = self.vm_mtus.get(vni, 0)
        return any(self.exceeded(vni, to) for to in self.tunnel_mtus) if most else False

    def towards(self, vni: Vni, to: Vtep, *, hairpin: bool = False) -> tuple[Action, ...]:
        """Return the actions that send a frame to another NVE."""
        way = self.way(vni, to, hairpin=hairpin)
        if isinstance(way, Translate):
            return (Aim(vni, to), GoTo(PipelineTable.LOCATE))
        return mtu_check.towards(way, self.exceeded(vni, to))

    def path(self, system: TenantSystem) -> Vtep | None:
        """Return the VTEP to which the NVE tunnels packets for a VM, those to its groups included,
        or None.
        """
        association = self.associations.get(system)
        entry, redirect = self.remotes.get(system), self.redirects.get(system)
        if association and association.role is AssociationRole.ACTIVE:
            return None
        if entry:
            return entry.vtep
        if redirect and not (redirect.ending or redirect.over):
            return redirect.to
        copy = self.copies.get(system.vni, {}).get(system)
        return copy.vtep if copy and copy.vtep != self.vtep else None

    @property
    def vnis(self) -> frozenset[Vni]:
        """The virtual networks with a VM here, or with packets in flight for one that left."""
        return frozenset(system.vni for system in [*self.associations, *self.redirects])

    def serves(self, vni: Vni) -> bool:
        """Return whether a virtual network is one of `vnis`."""
        return any(system.vni == vni for system in chain(self.associations, self.redirects))
