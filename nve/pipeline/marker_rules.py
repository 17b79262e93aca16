"""The rules for end markers (`nve.wire.end_marker`): the agent's own, and those on their way."""

from collections.abc import Iterator
from functools import lru_cache

from nve.model import TenantSystem, Vni, Vtep
from nve.pipeline.rules import (
    AGENT_PORT,
    REMEMBERED,
    VXLAN_PORT,
    Output,
    PipelineTable,
    Purpose,
    Rule,
    SetMac,
    Tunnel,
    match,
    tunnel_source,
)
from nve.pipeline.state import NveState
from nve.wire import end_marker


def marker(system: TenantSystem, to: Vtep) -> Rule:
    """Return the rule that sends the agent's end markers for a VM on the VM's former path."""
    agent = end_marker.agent_mac(system.vni)
    from_agent = match(in_port=AGENT_PORT, eth_src=agent, eth_dst=system.mac)
    onward = (Tunnel(system.vni, to),)
    return Rule(PipelineTable.CLASSIFY, 40, from_agent, onward, Purpose.END_MARKER, system)


def last_markers(vni: Vni, state: NveState, to_members: tuple[Tunnel, ...]) -> Iterator[Rule]:
    """Yield the rules for the markers behind the last packets of a network's VMs.

    The agent's go `to_members`, the other NVEs of the network; those of others go on to the VM's
    destination.
    """
    yield _last_marker(vni, to_members)
    yield from _of_others(vni, state.vtep, state.peers)


@lru_cache(REMEMBERED)
def _last_marker(vni: Vni, to_members: tuple[Tunnel, ...]) -> Rule:
    agent = end_marker.agent_mac(vni)
    from_agent = match(in_port=AGENT_PORT, eth_src=agent, eth_dst=end_marker.LAST_ADDRESSES)
    return Rule(PipelineTable.CLASSIFY, 40, from_agent, to_members, Purpose.END_MARKER)


@lru_cache(REMEMBERED)
def _of_others(vni: Vni, vtep: Vtep, peers: frozenset[Vtep]) -> tuple[Rule, ...]:
    passed = SetMac("eth_dst", end_marker.passed_address(vtep))
    return tuple(
        Rule(
            PipelineTable.FROM_TUNNEL,
            50,
            match(
                metadata=vni,
                eth_type=end_marker.ETHERTYPE,
                eth_src=end_marker.agent_mac(vni),
                eth_dst=end_marker.last_address(destination),
            ),
            (passed, Tunnel(vni, destination, hairpin=True)),
            Purpose.END_MARKER,
        )
        for destination in peers
    )


def last_markers_heard(state: NveState) -> Iterator[Rule]:
    """Yield the rules that give the agent the markers of VMs that come to this NVE.

    An NVE that a marker has passed is known by its VTEP address, so that none can speak for
    another.
    """
    of_agents = match(eth_type=end_marker.ETHERTYPE, eth_src=end_marker.AGENTS)
    own = match(**dict(of_agents), eth_dst=end_marker.last_address(state.vtep))
    to_agent = (Output(AGENT_PORT, state.limits.markers(VXLAN_PORT)),)
    yield Rule(PipelineTable.FROM_TUNNEL, 50, own, to_agent, Purpose.END_MARKER)
    for peer in state.peers:
        address = end_marker.passed_address(peer)
        passed = match(**dict(of_agents), eth_dst=address, **tunnel_source(peer))
        yield Rule(PipelineTable.FROM_TUNNEL, 50, passed, to_agent, Purpose.END_MARKER)
