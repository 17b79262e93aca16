"""The NVE's pipeline: from what an NVE knows to the rules that make it so.

    frame from a VM                              frame out of a VXLAN tunnel
          |                                                |
     [CLASSIFY]  which virtual network?  ------------------+   known VTEP? known VNI? (R9.1, R9.3)
          |                                                |
      [GUARD]    its own addresses? (R9.2, R9.4)     [FROM_TUNNEL] --> a VM here | in flight: on to
          |                                                |           the destination NVE (R4.1.4)
     [FROM_VM]   ARP, ND, RARP -> NVA                      | group address
          |   \\                                       [FLOOD_LOCAL] --> VMs here
          |    group address -> [FLOOD] --> VMs here and the NVEs of this virtual network
          |    at layer 3, packet to the NVE -> [ROUTE] --> FORWARD (nve.pipeline.routed)
     [FORWARD]  --> a VM here | tunnel to its NVE | miss -> NVA
                             |
                           [SPREAD], where a VM has two instances, by flow
                             |
                           [FIT], where a VM may send more than a tunnel carries
                           (nve.pipeline.mtu_check); [LOCATE], where nothing is put around it

A frame that came out of a tunnel goes back into one for two reasons: its VM has left (R3.4, R3.5),
or it is the marker behind a VM's last packets, which every NVE sends on to the VM's destination
once (`nve.ovs.last_packets`).  Everything else that comes out of a tunnel is delivered here or
dropped, so that no loop of NVEs can form.  Drops are explicit rules, one for each reason, because a
drop that nobody can count is a drop that nobody sees.

A frame to a group goes once to an NVE, for all its VMs, or once to each VM, in a VNI of its own
(`controller.core.groups`).  Those copies are treated as frames to the VM are, also while it moves.

`compile_nve` is a pure function of `nve.pipeline.state.NveState`.  The NVA keeps the states; a VM's
move is a few changed states, and `nve.pipeline.rules.difference` says what to tell whom.
"""

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address

from nve.model import BROADCAST, FIRST_COPY_VNI, IPAddress, Mac, TenantSystem, Vni, Vtep
from nve.pipeline import marker_rules, mtu_check, routed
from nve.pipeline.limits import Limits
from nve.pipeline.rules import (
    AGENT_PORT,
    GROUP,
    PRIORITY_TAG,
    TAGGED,
    VXLAN_PORT,
    Action,
    ChooseInstance,
    FieldValue,
    GoTo,
    Match,
    Output,
    PipelineTable,
    PopVlan,
    Purpose,
    ReportAction,
    Rule,
    SetVirtualNetwork,
    Tunnel,
    lane_port,
    match,
    tunnel_source,
)
from nve.pipeline.state import Association, AssociationRole, NveState, Redirect
from nve.wire import end_marker
from nve.wire.frames import (
    ARP,
    DHCP_CLIENT,
    DHCP_SERVER,
    ICMPV6,
    IGMP,
    IPV4,
    IPV6,
    MLD_DONE,
    MLD_REPORT,
    MLD_V2_REPORT,
    NEIGHBOUR_ADVERTISEMENT,
    NEIGHBOUR_SOLICITATION,
    RARP,
    ROUTER_SOLICITATION,
    UDP,
)

ANY_COPY = f"{FIRST_COPY_VNI:#x}/{FIRST_COPY_VNI:#x}"
"""The VNI of any VM's own copies."""
NO_MAC = "00:00:00:00:00:00"
"""What a switch reads as the link-layer address of an advertisement that carries none."""
REMEMBERED = 4096
"""The number of ports, networks and ways whose compiled rules are cached: each step of a move
compiles them again, and a rule computes its derived values once (`nve.pipeline.rules.Rule`)."""


def compile_nve(state: NveState) -> frozenset[Rule]:
    """Return all rules of an NVE."""
    systems = {*state.associations, *state.remotes, *state.redirects, *state.markers}
    return frozenset(
        [
            *_fixed(state),
            *(rule for vni in state.vnis for rule in compile_network(state, vni)),
            *(rule for system in systems for rule in compile_system(state, system)),
        ]
    )


def compile_network(state: NveState, vni: Vni) -> Iterator[Rule]:
    """Yield the rules of one virtual network at an NVE: who may tunnel in, and where groups go."""
    yield from _of_peers(vni, state.peers)
    to_members = _tunnels(vni, state.members.get(vni, frozenset()))
    yield from marker_rules.last_markers(vni, state, to_members)
    if vni in state.routed:
        yield from routed.of_network(state, vni)
        return
    active = [
        association
        for system, association in state.associations.items()
        if system.vni == vni
        and association.role is AssociationRole.ACTIVE
        and not association.second
    ]
    ports = _ports(association.port for association in active)
    tunnels = (*_tunnels(vni, state.flooded.get(vni, frozenset())), *_copies(state, vni))
    exceeded = [mtu for tunnel in tunnels if (mtu := state.exceeded(vni, tunnel.to))]
    counted = mtu_check.counted(min(exceeded, default=None))
    here = match(metadata=vni)
    yield Rule(PipelineTable.FLOOD, 10, here, (*ports, *tunnels, *counted), Purpose.FLOOD)
    flooded = _ports(association.port for association in active if association.flooded)
    onward = _copies_in_flight(state, vni)
    yield Rule(PipelineTable.FLOOD_LOCAL, 10, here, (*flooded, *onward), Purpose.FLOOD)
    if vni not in state.vlan_tags:
        tagged = match(metadata=vni, vlan_vid=TAGGED)
        yield Rule(PipelineTable.FROM_TUNNEL, 60, tagged, (), Purpose.VLAN_TAGGED)
    if state.narrow(vni):
        yield from mtu_check.rules(vni, state.limits.reports(VXLAN_PORT))


@lru_cache(REMEMBERED)
def _tunnels(vni: Vni, members: frozenset[Vtep]) -> tuple[Tunnel, ...]:
    return tuple(Tunnel(vni, vtep) for vtep in sorted(members, key=str))


def _ports(numbers: Iterable[int]) -> tuple[Output, ...]:
    return tuple(map(Output, sorted(numbers)))


def _copies(state: NveState, vni: Vni) -> Iterator[Tunnel]:
    """Yield the tunnels to the VMs that get their own copy, each on the path of its unicast
    packets.
    """
    for system, copy in sorted(state.copies.get(vni, {}).items()):
        if to := state.path(system):
            yield Tunnel(copy.vni, to)


def _copies_in_flight(state: NveState, vni: Vni) -> Iterator[Tunnel]:
    """Yield the tunnels for copies to VMs that have left.

    An NVE that sends one copy for all VMs here has not heard yet that one of them has left.
    """
    for system, redirect in sorted(state.redirects.items(), key=lambda item: item[0]):
        if system.vni == vni and redirect.flooded and redirect.to and redirect.copy_vni:
            yield Tunnel(redirect.copy_vni, redirect.to, hairpin=True)


@lru_cache(REMEMBERED)
def _of_peers(vni: Vni, peers: frozenset[Vtep]) -> tuple[Rule, ...]:
    return tuple(
        Rule(
            PipelineTable.CLASSIFY,
            30,
            match(in_port=VXLAN_PORT, tunnel_id=vni, **tunnel_source(peer)),
            (SetVirtualNetwork(vni), GoTo(PipelineTable.FROM_TUNNEL)),
            Purpose.ADMIT,
        )
        for peer in peers
    )


def compile_system(state: NveState, system: TenantSystem) -> Iterator[Rule]:
    """Yield the rules about one VM at an NVE."""
    if system in state.markers:
        yield marker_rules.marker(system, state.markers[system])
    association = state.associations.get(system)
    redirect = state.redirects.get(system)
    if redirect and redirect.over:
        yield from _no_longer_forwarded(system, redirect)
        redirect = None
    remote = state.remotes.get(system)
    if system.vni in state.routed and (association or redirect or remote):
        network, addresses = state.routed[system.vni], state.hosts.get(system, frozenset())
        yield from routed.host_routes(system, addresses, network)
    if association and association.role is AssociationRole.SUSPENDED:
        yield _fenced(system, association.port)
    elif association:
        reports = routed.reports if system.vni in state.routed else _reports
        yield from _admission(system, association.addresses, association.port)
        yield from reports(system, association.port, state.limits)
        yield from _tagged(system, association.port, allowed=system.vni in state.vlan_tags)
        if state.narrow(system.vni):
            yield mtu_check.of_port(
                system, association.port, state.limits.reports(association.port)
            )
    if redirect:
        yield from _in_flight(_onward(state, system, redirect, hairpin=True), system, redirect)
        yield from _copy_in_flight(system, redirect)
    elif association and association.role.receives:
        yield _to_vm(PipelineTable.FROM_TUNNEL, system, association.port)
        yield from _copy_to_vm(system, association.port, association.copy_vni)
    if association and association.source and association.role.receives:
        returning = redirect is not None and association.role is AssociationRole.PRE_ASSOCIATED
        if association.lane or returning:
            yield from _from_source(association, association.source)
    if association and association.role is AssociationRole.ACTIVE:
        yield _to_vm(PipelineTable.FORWARD, system, association.port)
    elif remote:
        onward = state.towards(system.vni, remote.vtep)
        if remote.second:
            yield from _to_instances(system, onward, state.towards(system.vni, remote.second))
            onward = _CHOOSE
        yield from _to_nve(onward, system, remote.lifetime_s, remote.kept)
    elif redirect and not redirect.ending:
        yield _in_flight_of_neighbours(_onward(state, system, redirect), system)


def _fixed(state: NveState) -> Iterator[Rule]:
    """Yield the rules that every NVE has, whatever its state."""
    any_frame: Match = ()
    yield Rule(PipelineTable.CLASSIFY, 0, any_frame, (), Purpose.UNKNOWN_PORT)
    yield Rule(PipelineTable.CLASSIFY, 10, match(in_port=VXLAN_PORT), (), Purpose.UNKNOWN_VTEP)
    yield from routed.of_strangers(state)
    from_agent = match(in_port=AGENT_PORT, eth_type=end_marker.ETHERTYPE)
    yield Rule(PipelineTable.CLASSIFY, 30, from_agent, (ReportAction(),), Purpose.REPORT)
    for peer in state.peers:
        from_peer = match(in_port=VXLAN_PORT, **tunnel_source(peer))
        yield Rule(PipelineTable.CLASSIFY, 20, from_peer, (), Purpose.UNKNOWN_VNI)
        copies = match(**dict(from_peer), tunnel_id=ANY_COPY, eth_dst=GROUP)
        delivered = (GoTo(PipelineTable.FROM_TUNNEL),)
        yield Rule(PipelineTable.CLASSIFY, 30, copies, delivered, Purpose.ADMIT)
    group = match(eth_dst=GROUP)
    yield Rule(PipelineTable.FROM_VM, 10, group, (GoTo(PipelineTable.FLOOD),), Purpose.FLOOD)
    yield Rule(PipelineTable.FROM_VM, 0, any_frame, (GoTo(PipelineTable.FORWARD),), Purpose.FORWARD)
    yield from marker_rules.last_markers_heard(state)
    yield Rule(
        PipelineTable.FROM_TUNNEL, 10, group, (GoTo(PipelineTable.FLOOD_LOCAL),), Purpose.FLOOD
    )
    for peer in state.peers:
        # No other frames get this far; each VTEP has its own rule, so that drops are counted by
        # VTEP.
        from_peer = match(**tunnel_source(peer))
        copies = match(tunnel_id=ANY_COPY, **tunnel_source(peer))
        for priority, unknown in ((0, from_peer), (15, copies)):
            yield Rule(
                PipelineTable.FROM_TUNNEL, priority, unknown, (), Purpose.UNKNOWN_DESTINATION
            )


_ND_TYPES = (NEIGHBOUR_SOLICITATION, NEIGHBOUR_ADVERTISEMENT)
_FROM_NOBODY = (
    *(NEIGHBOUR_SOLICITATION, ROUTER_SOLICITATION),
    *(MLD_REPORT, MLD_DONE, MLD_V2_REPORT),
)


@lru_cache(REMEMBERED)
def _reports(system: TenantSystem, port: int, limits: Limits) -> tuple[Rule, ...]:
    """Return the rules by which an NVE reports what a port's VM sends, up to the port's limits.

    See `nve.pipeline.limits`.
    """
    reports, misses = (
        ReportAction(meter=limits.reports(port)),
        ReportAction(meter=limits.misses(port)),
    )
    asking_nva = (match(eth_type=ARP), match(eth_type=RARP), *map(_nd, _ND_TYPES))
    from_port = [match(in_port=port, **dict(asks_nva)) for asks_nva in asking_nva]
    table = PipelineTable.FROM_VM
    return (
        *(Rule(table, 20, each, (reports,), Purpose.REPORT, system) for each in from_port),
        Rule(PipelineTable.FORWARD, 1, match(in_port=port), (misses,), Purpose.MISS, system),
    )


def _nd(icmpv6_type: int) -> Match:
    return match(eth_type=IPV6, ip_proto=ICMPV6, icmpv6_type=icmpv6_type)


@lru_cache(REMEMBERED)
def _admission(
    system: TenantSystem, addresses: frozenset[IPAddress], port: int
) -> tuple[Rule, ...]:
    """Return the rules of a VM's port that do not change while its VM moves."""
    return tuple(_admitted(system, addresses, port))


def _admitted(system: TenantSystem, addresses: frozenset[IPAddress], port: int) -> Iterator[Rule]:
    """Yield rules that admit a port's own addresses only; the rest is dropped and counted
    (R9.4).
    """
    yield Rule(
        PipelineTable.CLASSIFY,
        30,
        match(in_port=port),
        (SetVirtualNetwork(system.vni), GoTo(PipelineTable.GUARD)),
        Purpose.ADMIT,
        system,
    )
    anything_else = match(in_port=port)
    yield Rule(PipelineTable.GUARD, 0, anything_else, (), Purpose.SPOOFED, system, reports_end=True)
    # Protocols that say who they are from by their MAC address only.
    by_mac = match(in_port=port, eth_src=system.mac)
    admitted = (GoTo(PipelineTable.FROM_VM),)
    yield Rule(PipelineTable.GUARD, 5, by_mac, admitted, Purpose.ADMIT, system)
    for protocol in (IPV4, IPV6, ARP, RARP):
        forged = match(in_port=port, eth_type=protocol)
        yield Rule(PipelineTable.GUARD, 10, forged, (), Purpose.SPOOFED, system, reports_end=True)
    for own in _own_frames(system.mac, addresses):
        yield Rule(
            PipelineTable.GUARD,
            20,
            match(in_port=port, eth_src=system.mac, **own),
            (GoTo(PipelineTable.FROM_VM),),
            Purpose.ADMIT,
            system,
        )
    # An advertisement for somebody else's address, or for one's own with somebody else's MAC, is a
    # forgery even when it is sent from one's own address (R9.2).
    advertisement = dict(_nd(NEIGHBOUR_ADVERTISEMENT), in_port=port)
    forged = match(**advertisement)
    yield Rule(PipelineTable.GUARD, 30, forged, (), Purpose.SPOOFED, system, reports_end=True)
    ipv6 = sorted(str(item) for item in addresses if isinstance(item, IPv6Address))
    for sender, target, target_mac in itertools.product(ipv6, ipv6, (system.mac, NO_MAC)):
        of_its_own = {"ipv6_src": sender, "ipv6_nd_target": target, "ipv6_nd_tll": target_mac}
        yield Rule(
            PipelineTable.GUARD,
            40,
            match(eth_src=system.mac, **advertisement, **of_its_own),
            (GoTo(PipelineTable.FROM_VM),),
            Purpose.ADMIT,
            system,
        )


@lru_cache(REMEMBERED)
def _tagged(system: TenantSystem, port: int, *, allowed: bool) -> tuple[Rule, ...]:
    """Return the rules for frames with a VLAN tag (RFC 7348 section 6.1): drop them all, or carry
    all.

    They are carried as they are: the NVA knows nothing of VLANs inside a network, and so answers
    for nobody there.  VID 0 names no VLAN (IEEE 802.1Q): such a frame is treated as if untagged.
    """
    no_vlan = match(in_port=port, vlan_vid=PRIORITY_TAG)
    as_untagged = (PopVlan(), SetVirtualNetwork(system.vni), GoTo(PipelineTable.GUARD))
    untagged = Rule(PipelineTable.CLASSIFY, 32, no_vlan, as_untagged, Purpose.ADMIT, system)
    tagged = match(in_port=port, vlan_vid=TAGGED)
    if not allowed:
        table, purpose = PipelineTable.CLASSIFY, Purpose.VLAN_TAGGED
        return (untagged, Rule(table, 31, tagged, (), purpose, system, reports_end=True))
    to_group = match(in_port=port, vlan_vid=TAGGED, eth_dst=GROUP)
    flood, forward = (GoTo(PipelineTable.FLOOD),), (GoTo(PipelineTable.FORWARD),)
    return (
        untagged,
        Rule(PipelineTable.FROM_VM, 26, to_group, flood, Purpose.FLOOD, system),
        Rule(PipelineTable.FROM_VM, 25, tagged, forward, Purpose.FORWARD, system),
    )


@lru_cache(REMEMBERED)
def _fenced(system: TenantSystem, port: int) -> Rule:
    """Return the rule that drops whatever comes from the port of a VM that must not send.

    Such a VM does not run here, or must not.  The rule stands above all those that admit its
    frames.
    """
    any_frame = match(in_port=port)
    return Rule(PipelineTable.CLASSIFY, 33, any_frame, (), Purpose.FENCED, system, reports_end=True)


def _own_frames(mac: Mac, addresses: frozenset[IPAddress]) -> Iterator[dict[str, FieldValue]]:
    """Yield the matches that frames with a port's own addresses satisfy, without port and source
    MAC.
    """
    for address in sorted(addresses, key=str):
        text = str(address)
        if isinstance(address, IPv4Address):
            yield {"eth_type": IPV4, "ipv4_src": text}
            yield {"eth_type": ARP, "arp_sha": mac, "arp_spa": text}
        else:
            yield {"eth_type": IPV6, "ipv6_src": text}
    yield {"eth_type": RARP, "arp_sha": mac}
    yield from _without_address(mac)


def _without_address(mac: Mac) -> Iterator[dict[str, FieldValue]]:
    """Yield matches for what a guest sends before it has an address, or to check that it is free.

    These are ARP probes (RFC 5227), broadcast DHCP (RFC 2131 section 4.1), IGMP (RFC 3376 section
    4.2.13), duplicate address detection (RFC 4862), router solicitations (RFC 4861 section 4.1) and
    MLD (RFC 3590).  Nothing else may have the unspecified address as its source.
    """
    nobody, everybody = str(IPv4Address(0)), "255.255.255.255"
    yield {"eth_type": ARP, "arp_sha": mac, "arp_spa": nobody}
    ipv4: dict[str, FieldValue] = {"eth_type": IPV4, "ipv4_src": nobody}
    dhcp: dict[str, FieldValue] = {"udp_src": DHCP_CLIENT, "udp_dst": DHCP_SERVER}
    yield {**ipv4, "eth_dst": BROADCAST, "ipv4_dst": everybody, "ip_proto": UDP, **dhcp}
    yield {**ipv4, "eth_dst": GROUP, "ip_proto": IGMP}
    for kind in _FROM_NOBODY:
        yield {**dict(_nd(kind)), "eth_dst": GROUP, "ipv6_src": str(IPv6Address(0))}


@lru_cache(REMEMBERED)
def _to_vm(table: PipelineTable, system: TenantSystem, port: int) -> Rule:
    return Rule(table, 20, _frames_for(system), (Output(port),), Purpose.DELIVER, system)


@lru_cache(REMEMBERED)
def _copy_to_vm(system: TenantSystem, port: int, copy_vni: Vni | None) -> tuple[Rule, ...]:
    """Return the rule that delivers a VM's own copy of a frame to a group."""
    if copy_vni is None:
        return ()
    table, deliver = PipelineTable.FROM_TUNNEL, (Output(port),)
    return (Rule(table, 20, _copies_for(copy_vni), deliver, Purpose.DELIVER, system),)


@lru_cache(REMEMBERED)
def _to_nve(
    onward: tuple[Action, ...], system: TenantSystem, lifetime_s: int | None, kept: bool
) -> tuple[Rule, ...]:
    """Return the rules of an NVE's entry about a VM behind another NVE."""
    entry = Rule(
        PipelineTable.FORWARD,
        10,
        _frames_for(system),
        onward,
        Purpose.FORWARD,
        system,
        hard_s=lifetime_s or 0,
        reports_end=lifetime_s is not None,
    )
    if not kept:
        return (entry,)
    return (entry, replace(entry, priority=9, hard_s=0, reports_end=False))


_CHOOSE: tuple[Action, ...] = (ChooseInstance(2), GoTo(PipelineTable.SPREAD))


@lru_cache(REMEMBERED)
def _to_instances(system: TenantSystem, *ways: tuple[Action, ...]) -> tuple[Rule, ...]:
    """The flows to a VM with several instances, behind the entry that chooses (R7.4)."""
    frames = dict(_frames_for(system))
    return tuple(
        Rule(
            PipelineTable.SPREAD,
            10,
            match(**frames, reg1=number),
            onward,
            Purpose.SPREAD,
            system,
        )
        for number, onward in enumerate(ways)
    )


def _from_source(association: Association, source: Vtep) -> Iterator[Rule]:
    """Yield the rules for frames from the NVE which the VM has left or is leaving.

    They are delivered by the VM's lane, if there is one.  They also have rules of their own if the
    VM is coming back to an NVE whose redirect still leads away: packets from other NVEs have to be
    redirected along the VM's path, and come back here with the source NVE as their sender.
    """
    system, copy_vni = association.system, association.copy_vni
    deliver = (Output(lane_port(association.port) if association.lane else association.port),)
    for frames in (_frames_for(system), *([_copies_for(copy_vni)] if copy_vni else [])):
        from_source = match(**dict(frames), **tunnel_source(source))
        yield Rule(PipelineTable.FROM_TUNNEL, 40, from_source, deliver, Purpose.DELIVER, system)


@lru_cache(REMEMBERED)
def _in_flight(
    onward: tuple[Action, ...], system: TenantSystem, redirect: Redirect
) -> tuple[Rule, ...]:
    """Return the rules that redirect frames sent on an old entry: the draft's one MUST (R4.1.4,
    R5.1-R5.5).

    Once the redirect is ending, a second rule with a time-out stands above the first, so that a
    rule is there at every instant, and each keeps its counters until it goes.
    """
    purpose = Purpose.DEPARTED if redirect.to is None else Purpose.IN_FLIGHT
    waiting = Rule(
        PipelineTable.FROM_TUNNEL,
        30,
        _frames_for(system),
        onward,
        purpose,
        system,
        reports_end=True,
    )
    if not redirect.ending:
        return (waiting,)
    ending = replace(waiting, priority=31, idle_s=redirect.idle_s, hard_s=redirect.timer_s)
    return (waiting, ending)


@lru_cache(REMEMBERED)
def _copy_in_flight(system: TenantSystem, redirect: Redirect) -> tuple[Rule, ...]:
    """Return the rules that redirect a VM's own copies of frames to groups as long as its other
    frames.
    """
    copy_vni, to = redirect.copy_vni, redirect.to
    if copy_vni is None:
        return ()
    onward = (Tunnel(copy_vni, to, hairpin=True),) if to else ()
    purpose = Purpose.IN_FLIGHT if to else Purpose.DEPARTED
    table = PipelineTable.FROM_TUNNEL
    return (Rule(table, 30, _copies_for(copy_vni), onward, purpose, system),)


@lru_cache(REMEMBERED)
def _no_longer_forwarded(system: TenantSystem, redirect: Redirect) -> tuple[Rule, ...]:
    """Return the rules that drop what is still sent on old entries after the end of the
    redirect.
    """
    frames = [_frames_for(system), *([_copies_for(redirect.copy_vni)] if redirect.copy_vni else [])]
    table, purpose = PipelineTable.FROM_TUNNEL, Purpose.NO_LONGER_FORWARDED
    # Below the redirect's own rules, which have to time out by themselves to be counted.
    return tuple(Rule(table, 16, each, (), purpose, system, reports_end=True) for each in frames)


@lru_cache(REMEMBERED)
def _in_flight_of_neighbours(onward: tuple[Action, ...], system: TenantSystem) -> Rule:
    """Return the rule for frames of the VM's neighbours on the source NVE, until this has its
    entry.
    """
    purpose = Purpose.FORWARD if onward else Purpose.DEPARTED
    return Rule(PipelineTable.FORWARD, 20, _frames_for(system), onward, purpose, system)


def _onward(
    state: NveState, system: TenantSystem, redirect: Redirect, *, hairpin: bool = False
) -> tuple[Action, ...]:
    """Return the actions of a redirect; there are none if packets in flight are dropped."""
    if redirect.to is None:
        return ()
    return state.towards(system.vni, redirect.to, hairpin=hairpin)


@lru_cache(REMEMBERED)
def _frames_for(system: TenantSystem) -> Match:
    return match(metadata=system.vni, eth_dst=system.mac)


@lru_cache(REMEMBERED)
def _copies_for(copy_vni: Vni) -> Match:
    return match(tunnel_id=copy_vni, eth_dst=GROUP)
