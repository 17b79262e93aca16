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

The rules of a VM's port are in `nve.pipeline.port_rules`, those for packets in flight in
`.redirect_rules`, and those for end markers in `.marker_rules`.

`compile_nve` is a pure function of `nve.pipeline.state.NveState`.  The NVA keeps the states; a VM's
move is a few changed states, and `nve.pipeline.rules.difference` says what to tell whom.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import lru_cache

from nve.model import FIRST_COPY_VNI, TenantSystem, Vni, Vtep
from nve.pipeline import marker_rules, mtu_check, port_rules, redirect_rules, routed
from nve.pipeline.rules import (
    AGENT_PORT,
    GROUP,
    REMEMBERED,
    TAGGED,
    VXLAN_PORT,
    Action,
    ChooseInstance,
    GoTo,
    Match,
    Output,
    PipelineTable,
    Purpose,
    ReportAction,
    Rule,
    SetVirtualNetwork,
    Tunnel,
    copies_for,
    frames_for,
    lane_port,
    match,
    tunnel_source,
)
from nve.pipeline.state import Association, AssociationRole, NveState
from nve.wire import end_marker

ANY_COPY = f"{FIRST_COPY_VNI:#x}/{FIRST_COPY_VNI:#x}"
"""The VNI of any VM's own copies."""


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
    onward = redirect_rules.copies_in_flight(state, vni)
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
        yield from redirect_rules.no_longer_forwarded(system, redirect)
        redirect = None
    remote = state.remotes.get(system)
    if system.vni in state.routed and (association or redirect or remote):
        network, addresses = state.routed[system.vni], state.hosts.get(system, frozenset())
        yield from routed.host_routes(system, addresses, network)
    if association and association.role is AssociationRole.SUSPENDED:
        yield port_rules.fenced(system, association.port)
    elif association:
        reports = routed.reports if system.vni in state.routed else port_rules.reports
        yield from port_rules.admission(system, association.addresses, association.port)
        yield from reports(system, association.port, state.limits)
        yield from port_rules.tagged(
            system, association.port, allowed=system.vni in state.vlan_tags
        )
        if state.narrow(system.vni):
            yield mtu_check.of_port(
                system, association.port, state.limits.reports(association.port)
            )
    if redirect:
        yield from redirect_rules.of_redirect(state, system, redirect)
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
        yield redirect_rules.of_neighbours(state, system, redirect)


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


@lru_cache(REMEMBERED)
def _to_vm(table: PipelineTable, system: TenantSystem, port: int) -> Rule:
    return Rule(table, 20, frames_for(system), (Output(port),), Purpose.DELIVER, system)


@lru_cache(REMEMBERED)
def _copy_to_vm(system: TenantSystem, port: int, copy_vni: Vni | None) -> tuple[Rule, ...]:
    """Return the rule that delivers a VM's own copy of a frame to a group."""
    if copy_vni is None:
        return ()
    table, deliver = PipelineTable.FROM_TUNNEL, (Output(port),)
    return (Rule(table, 20, copies_for(copy_vni), deliver, Purpose.DELIVER, system),)


@lru_cache(REMEMBERED)
def _to_nve(
    onward: tuple[Action, ...], system: TenantSystem, lifetime_s: int | None, kept: bool
) -> tuple[Rule, ...]:
    """Return the rules of an NVE's entry about a VM behind another NVE."""
    entry = Rule(
        PipelineTable.FORWARD,
        10,
        frames_for(system),
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
    frames = dict(frames_for(system))
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
    for frames in (frames_for(system), *([copies_for(copy_vni)] if copy_vni else [])):
        from_source = match(**dict(frames), **tunnel_source(source))
        yield Rule(PipelineTable.FROM_TUNNEL, 40, from_source, deliver, Purpose.DELIVER, system)
