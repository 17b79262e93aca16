"""What every NVE should hold, what it has been told, and what it has confirmed.

The authority changes the wanted state here (`associate`, `set_remote`, `set_redirect` …) and then
calls `settle`, which compiles only what those changes touch and returns one `Tell` for each NVE
whose rules really differ.  Every `Tell` has a token; confirmations come in order (the control
channel is one TCP connection with barriers), so confirming a token confirms all earlier ones of
that NVE.

An NVE that is not connected is told nothing; when it connects, `connected` returns the full table.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv6Address
from typing import TypeAlias, TypeVar

from nve.messages import Reconcile, Tell
from nve.model import IPAddress, RoutedNetwork, TenantSystem, Vni, Vtep
from nve.pipeline.compiler import compile_network, compile_nve, compile_system
from nve.pipeline.limits import USUAL, Limits
from nve.pipeline.rules import Match, PipelineTable, Purpose, Rule, difference
from nve.pipeline.state import (
    Association,
    AssociationRole,
    GroupCopy,
    NveState,
    Redirect,
    RemoteEntry,
    UnderlayPlace,
)

TunnelMtus: TypeAlias = Mapping[tuple[str, str], int]
"""The largest tenant packet that each tunnel carries, by the NVEs at its start and its end."""


@dataclass
class _Page:
    """What one NVE has to hold; it owns the dictionaries inside `state`."""

    associations: dict[TenantSystem, Association] = field(default_factory=dict)
    remotes: dict[TenantSystem, RemoteEntry] = field(default_factory=dict)
    redirects: dict[TenantSystem, Redirect] = field(default_factory=dict)
    members: dict[Vni, frozenset[Vtep]] = field(default_factory=dict)
    flooded: dict[Vni, frozenset[Vtep]] = field(default_factory=dict)
    copies: dict[Vni, Mapping[TenantSystem, GroupCopy]] = field(default_factory=dict)
    markers: dict[TenantSystem, Vtep] = field(default_factory=dict)
    told: dict[TenantSystem | Vni, frozenset[Rule]] = field(default_factory=dict)
    touched: set[TenantSystem | Vni] = field(default_factory=set)
    connected: bool = False
    reporting: dict[int, tuple[TenantSystem | Vni, Rule]] = field(default_factory=dict)
    """The told rules whose end the NVE reports, by their cookies."""
    added: dict[tuple[PipelineTable, int, Match], int] = field(default_factory=dict)
    """The token with which each rule with a time-out was last told."""
    told_token: int = 0
    confirmed_token: int = 0

    def tell(self, about: TenantSystem | Vni, rules: frozenset[Rule]) -> None:
        """Record `rules` as what the NVE has been told about a VM or a network."""
        for rule in self.told.get(about, frozenset()):
            if rule.reports_end:
                self.reporting.pop(rule.cookie, None)
        self.told[about] = rules
        self.reporting |= {rule.cookie: (about, rule) for rule in rules if rule.reports_end}


class DesiredState:
    """The desired state of all NVEs, a page for each.  Unknown NVE names raise KeyError."""

    def __init__(
        self,
        vteps: dict[str, Vtep],
        limits: Limits = USUAL,
        tunnel_mtus: TunnelMtus | None = None,
        underlay: Mapping[str, UnderlayPlace] | None = None,
    ) -> None:
        """`tunnel_mtus` limits what each tunnel carries; a tunnel not named carries everything.

        `underlay` says where NVEs are in the underlay, for packets that go without a tunnel.
        """
        self.vteps = dict(vteps)
        self._vm_mtus: dict[Vni, int] = {}
        self._vlan_tags: set[Vni] = set()
        self._routed: dict[Vni, RoutedNetwork] = {}
        self._hosts: dict[TenantSystem, frozenset[IPAddress]] = {}
        self._pages = {name: _Page() for name in vteps}
        self._states = {
            name: NveState(
                vtep=vtep,
                peers=frozenset(vteps.values()) - {vtep},
                associations=self._pages[name].associations,
                remotes=self._pages[name].remotes,
                redirects=self._pages[name].redirects,
                members=self._pages[name].members,
                flooded=self._pages[name].flooded,
                copies=self._pages[name].copies,
                markers=self._pages[name].markers,
                limits=limits,
                tunnel_mtus={
                    vteps[there]: mtu
                    for (here, there), mtu in (tunnel_mtus or {}).items()
                    if here == name
                },
                vm_mtus=self._vm_mtus,
                vlan_tags=self._vlan_tags,
                routed=self._routed,
                hosts=self._hosts,
                underlay=(underlay or {}).get(name),
            )
            for name, vtep in vteps.items()
        }
        self._changed: dict[tuple[str, TenantSystem], None] = {}
        self._token = 0

    def __iter__(self) -> Iterator[str]:
        return iter(self._pages)

    def state(self, nve: str) -> NveState:
        """Return a live view of what an NVE should hold."""
        return self._states[nve]

    def rules(self, nve: str) -> frozenset[Rule]:
        """Return the rules that an NVE should hold, compiled from its state."""
        return compile_nve(self._states[nve])

    def is_connected(self, nve: str) -> bool:
        return self._pages[nve].connected

    def attachment_at(self, nve: str, port: int) -> Association | None:
        """Return the association that has a port, or None."""
        associations = self._pages[nve].associations.values()
        return next((item for item in associations if item.port == port), None)

    def receiving(self, system: TenantSystem) -> dict[str, int]:
        """Return the NVEs and ports where a VM gets what is sent to it.

        This is where it runs or, between redirect and activation, where it is going to run.
        """
        associations = {
            name: page.associations[system]
            for name, page in self._pages.items()
            if system in page.associations
        }
        for role in (AssociationRole.ACTIVE, AssociationRole.PRE_ASSOCIATED):
            ports = {name: each.port for name, each in associations.items() if each.role is role}
            if ports:
                return ports
        return {}

    def present(self, vni: Vni) -> frozenset[str]:
        """Return the NVEs with a VM of a virtual network, or with one on its way to them."""
        return frozenset(
            name
            for name, page in self._pages.items()
            if any(system.vni == vni for system in page.associations)
        )

    # -- wanted state ------------------------------------------------------------------------

    def associate(self, nve: str, association: Association) -> None:
        self._pages[nve].associations[association.system] = association
        self._touch(nve, association.system)
        if association.vlan_tags and association.system.vni not in self._vlan_tags:
            self._vlan_tags.add(association.system.vni)
            self._touch_network(association.system.vni)
        if association.routed:
            self._routed[association.system.vni] = association.routed

    def set_hosts(self, system: TenantSystem, addresses: frozenset[IPAddress]) -> None:
        """Route the host addresses to a VM, in a layer 3 network (`nve.pipeline.routed`)."""
        if system.vni in self._routed and self._hosts.get(system) != addresses:
            self._hosts[system] = addresses
            for name, page in self._pages.items():
                if system in self.systems(name):
                    page.touched.add(system)

    def is_routed(self, vni: Vni) -> bool:
        """Return whether a virtual network is one of layer 3."""
        return vni in self._routed

    def sir_network(self, address: IPv6Address) -> tuple[Vni, RoutedNetwork] | None:
        """Return the network that has an address in its SIR prefix, or None (`nve.ila`)."""
        found = (
            (vni, network)
            for vni, network in self._routed.items()
            if network.sir_prefix and address in network.sir_prefix
        )
        return next(found, None)

    def routed_as(self, vni: Vni) -> RoutedNetwork | None:
        """Return the parameters of a layer 3 network, or None for a layer 2 network."""
        return self._routed.get(vni)

    def de_associate(self, nve: str, system: TenantSystem) -> None:
        self._pages[nve].associations.pop(system, None)
        self._touch(nve, system)

    def set_remote(self, nve: str, system: TenantSystem, entry: RemoteEntry | None) -> None:
        page = self._pages[nve]
        _put(page.remotes, system, entry)
        page.touched.add(system)
        if system in page.copies.get(system.vni, {}):
            page.touched.add(system.vni)
        self._changed[nve, system] = None

    def set_redirect(self, nve: str, system: TenantSystem, redirect: Redirect | None) -> None:
        """Set or clear an NVE's redirect for a VM.

        An NVE that has no VM of the network but a redirect needs the rules of that network as well.
        """
        page, state = self._pages[nve], self._states[nve]
        served = state.serves(system.vni)
        _put(page.redirects, system, redirect)
        page.touched.add(system)
        in_groups = system in page.copies.get(system.vni, {})
        if state.serves(system.vni) != served or in_groups or (redirect and redirect.flooded):
            page.touched.add(system.vni)
        self._changed[nve, system] = None

    def set_marker(self, nve: str, system: TenantSystem, old: Vtep | None) -> None:
        """Set the VTEP to which the NVE's agent sends end markers for a VM; None clears it."""
        _put(self._pages[nve].markers, system, old)
        self._pages[nve].touched.add(system)
        self._changed[nve, system] = None

    def set_members(
        self,
        vni: Vni,
        members: Iterable[str],
        flooded: Iterable[str],
        copies: Mapping[TenantSystem, GroupCopy],
    ) -> None:
        """Set where frames to a group address of a virtual network have to go (see `NveState`)."""
        everybody, at_once = self._vteps(members), self._vteps(flooded)
        for name, page in self._pages.items():
            here = {self.vteps[name]}
            wanted = (everybody - here, at_once - here, copies)
            if (page.members.get(vni), page.flooded.get(vni), page.copies.get(vni)) != wanted:
                page.members[vni], page.flooded[vni], page.copies[vni] = wanted
                page.touched.add(vni)

    def _vteps(self, nves: Iterable[str]) -> frozenset[Vtep]:
        return frozenset(self.vteps[name] for name in nves)

    def raise_vm_mtu(self, vni: Vni, mtu: int) -> None:
        """Allow the VMs of a virtual network to send packets of up to `mtu` octets."""
        if mtu <= self._vm_mtus.get(vni, 0):
            return
        self._vm_mtus[vni] = mtu
        self._touch_network(vni)

    def _touch_network(self, vni: Vni) -> None:
        """Mark all rules about a virtual network and its VMs for compilation."""
        for page in self._pages.values():
            systems = {*page.associations, *page.remotes, *page.redirects}
            page.touched |= {vni, *(system for system in systems if system.vni == vni)}

    def tunnel_mtu(self, nve: str, system: TenantSystem, *, in_flight: bool) -> int | None:
        """Return the MTU of the tunnel by which an NVE forwards a VM's packets, or None if unknown.

        `in_flight` asks about packets that have come out of a tunnel and are redirected.
        """
        state = self._states[nve]
        remote, redirect = state.remotes.get(system), state.redirects.get(system)
        to = remote.vtep if remote and not in_flight else redirect.to if redirect else None
        return None if to is None else state.carries(system.vni, to)

    @property
    def vm_mtus(self) -> Mapping[Vni, int]:
        """The largest packet that the VMs of each network may send, in octets."""
        return self._vm_mtus

    def systems(self, nve: str) -> frozenset[TenantSystem]:
        """Return the VMs that an NVE has to know something about."""
        state = self._states[nve]
        return frozenset({*state.associations, *state.remotes, *state.redirects, *state.markers})

    def take_changed(self) -> list[tuple[str, TenantSystem]]:
        """Return each NVE and VM whose desired state has changed since the last call."""
        changed, self._changed = self._changed, {}
        return list(changed)

    # -- what has been told and confirmed ----------------------------------------------------

    def settle(self) -> list[Tell]:
        """Compile what has changed and return one Tell for each connected NVE whose rules
        differ.
        """
        tells = []
        for name, page in self._pages.items():
            if not page.touched:
                continue
            before: set[Rule] = set()
            after: set[Rule] = set()
            for about in page.touched:
                told = page.told.get(about, frozenset())
                wanted = self._compile(name, about)
                if wanted != told:
                    page.tell(about, wanted)
                    before |= told
                    after |= wanted
            page.touched.clear()
            if change := difference(before, after):
                # An NVE out of reach is told when it comes back; until then it has not confirmed.
                token = self._next(page)
                has_timeout = (rule.key for rule in change.added if rule.has_timeout)
                page.added |= dict.fromkeys(has_timeout, token)
                if page.connected:
                    tells.append(Tell(name, change, token))
        return tells

    def connected(self, nve: str) -> Reconcile:
        """Record that an NVE has connected, and return everything it has to hold now."""
        page = self._pages[nve]
        page.connected = True
        page.touched.clear()
        page.added.clear()
        state = self._states[nve]
        page.told.clear()
        page.reporting.clear()
        known: set[TenantSystem | Vni] = {*self.systems(nve), *state.vnis}
        for about in known:
            page.tell(about, self._compile(nve, about))
        return Reconcile(nve, self.rules(nve), self._next(page))

    def disconnected(self, nve: str) -> None:
        self._pages[nve].connected = False

    def confirmed(self, nve: str, token: int) -> range:
        """Record a confirmation and return the tokens of this NVE that it newly confirms.

        The range may include tokens of other NVEs.
        """
        page = self._pages[nve]
        news = range(page.confirmed_token + 1, token + 1)
        page.confirmed_token = max(page.confirmed_token, token)
        return news

    def pending(self, nves: Iterable[str]) -> dict[str, int]:
        """Return, for each of these NVEs, its last token, if that is not confirmed yet."""
        pages = {name: self._pages[name] for name in nves}
        return {
            name: page.told_token
            for name, page in pages.items()
            if page.confirmed_token < page.told_token
        }

    def is_confirmed(self, nve: str, token: int) -> bool:
        return self._pages[nve].confirmed_token >= token

    def ended(self, nve: str, cookie: int) -> Rule | None:
        """Forget that the NVE was told a rule which has timed out there.

        Returns the rule.  Returns None if the NVA no longer wants it (the report was under way
        while the rule was replaced or withdrawn), or if the NVA has told it again and the NVE has
        not confirmed that: then the report is about the earlier rule.
        """
        page = self._pages[nve]
        about, rule = page.reporting.get(cookie, (None, None))
        if about is None or rule is None or not rule.has_timeout:
            return None
        if page.added.get(rule.key, 0) > page.confirmed_token:
            return None
        page.tell(about, page.told[about] - {rule})
        return rule

    def told(self, nve: str, cookie: int) -> Rule | None:
        """Return the rule that an NVE was told under this cookie and whose end it reports, or
        None.
        """
        _, rule = self._pages[nve].reporting.get(cookie, (None, None))
        return rule

    def taken_away(self, nve: str, rule: Rule) -> None:
        """Have a rule told again that somebody other than the NVA has removed at an NVE."""
        page = self._pages[nve]
        about, _ = page.reporting[rule.cookie]
        page.tell(about, page.told[about] - {rule})
        page.touched.add(about)

    def invalidate(self) -> None:
        """Treat what the NVEs hold as unknown: each has to confirm again when it connects."""
        for page in self._pages.values():
            self._next(page)

    def tell_again(self, nve: str, system: TenantSystem) -> None:
        """Have an entry told again that the NVE has confirmed but that somebody else has removed.

        Only the entry is told again: any other rule would start its lifetime anew.
        """
        page = self._pages[nve]
        told = page.told.get(system, frozenset())
        page.tell(system, frozenset(rule for rule in told if rule.purpose is not Purpose.FORWARD))
        page.touched.add(system)

    def _next(self, page: _Page) -> int:
        self._token += 1
        page.told_token = self._token
        return self._token

    def _touch(self, nve: str, system: TenantSystem) -> None:
        self._pages[nve].touched |= {system, system.vni}
        self._changed[nve, system] = None

    def _compile(self, nve: str, about: TenantSystem | Vni) -> frozenset[Rule]:
        state = self._states[nve]
        if isinstance(about, TenantSystem):
            return frozenset(compile_system(state, about))
        return frozenset(compile_network(state, about)) if state.serves(about) else frozenset()


Entry = TypeVar("Entry")


def _put(entries: dict[TenantSystem, Entry], system: TenantSystem, entry: Entry | None) -> None:
    if entry is None:
        entries.pop(system, None)
    else:
        entries[system] = entry
