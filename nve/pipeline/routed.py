"""Layer 3 networks: what an NVE does as the router of its VMs (section 4.2 of the draft).

A VM has only a default route, and so one neighbour for each IP version: its NVE, which has the same
addresses everywhere (`GATEWAY_IPV4`, `GATEWAY_IPV6`).  Nothing is broadcast: the NVE answers ARP
and neighbour solicitations for itself only, and drops whatever else it cannot route.

    frame from a VM
     [FROM_VM]   asks for the gateway -> NVA | a packet to the NVE | anything else is dropped
                                                  |
                                              [ROUTE]   host route: TTL less one, MAC addresses
                                                  |     rewritten | no route, or TTL over -> NVA
                                                  |
                                              [FORWARD]  as at layer 2

A *host route* leads from an address of a virtual network to the VM that has it; the entry in
FORWARD says where that VM is, as at layer 2.  So a move changes where the route leads without
touching it: packets are redirected, handed over and drained by the same rules.  And an address can
go from one VM to another, wherever both are.
"""

from collections.abc import Iterator, Set
from functools import lru_cache
from ipaddress import IPv6Network

from nve import ila
from nve.model import (
    GATEWAY_IPV4,
    GATEWAY_IPV6,
    NVE_MAC,
    IPAddress,
    RoutedNetwork,
    TenantSystem,
    Vni,
    Vtep,
)
from nve.pipeline.limits import Limits
from nve.pipeline.rules import (
    PACKET_PORT,
    REMEMBERED,
    UNDERLAY_PORT,
    DecrementTtl,
    GoTo,
    Match,
    PipelineTable,
    Purpose,
    ReportAction,
    Rule,
    SetMac,
    SetPrefix,
    SetVirtualNetwork,
    match,
    tunnel_source,
)
from nve.pipeline.state import NveState
from nve.wire.frames import ARP, ARP_REQUEST, ICMPV6, IPV4, IPV6, NEIGHBOUR_SOLICITATION
from nve.wire.icmpv6_error import ICMPV6_ERRORS, LONGEST_ERROR

LAST_TTLS = (0, 1)
"""The TTLs with which a router forwards nothing (RFC 1812 section 5.3.1, RFC 8200 section 3)."""
_QUESTIONS = (
    match(eth_type=ARP, arp_op=ARP_REQUEST, arp_tpa=str(GATEWAY_IPV4)),
    match(
        eth_type=IPV6,
        ip_proto=ICMPV6,
        icmpv6_type=NEIGHBOUR_SOLICITATION,
        ipv6_nd_target=str(GATEWAY_IPV6),
    ),
)


def destination(address: IPAddress) -> Match:
    """Return the match for packets to an address."""
    if address.version == 4:
        return match(eth_type=IPV4, ipv4_dst=str(address))
    return match(eth_type=IPV6, ipv6_dst=str(address))


def of_strangers(state: NveState) -> Iterator[Rule]:
    """Yield rules that drop packets without an Ethernet header from no NVE or for no network here.

    R9.1, R9.3.
    """
    anybody, table = match(in_port=PACKET_PORT), PipelineTable.CLASSIFY
    yield Rule(table, 10, anybody, (), Purpose.UNKNOWN_VTEP)
    if state.underlay:
        located = match(in_port=UNDERLAY_PORT)
        yield Rule(table, 10, located, (), Purpose.UNKNOWN_LOCATOR)
        yield Rule(PipelineTable.FROM_TUNNEL, 1, located, (), Purpose.UNKNOWN_DESTINATION)
        yield from _of_routers(state.underlay.server, state.limits)
    for peer in state.peers:
        from_peer = match(in_port=PACKET_PORT, **tunnel_source(peer))
        yield Rule(table, 20, from_peer, (), Purpose.UNKNOWN_VNI)


def _of_routers(server: IPv6Network, limits: Limits) -> Iterator[Rule]:
    """Yield the rules that report ICMPv6 errors to SIR addresses, wherever the VM is.

    The underlay's routers send them (`controller.core.router_errors`); nobody sends anything else
    to a SIR address on the underlay.
    """
    table, to_sir = PipelineTable.CLASSIFY, match(in_port=UNDERLAY_PORT, eth_type=IPV6)
    to_server = match(**dict(to_sir), ipv6_dst=_masked(server))
    yield Rule(table, 16, to_server, (), Purpose.UNKNOWN_LOCATOR)
    reported = (ReportAction(LONGEST_ERROR, limits.reports(UNDERLAY_PORT)),)
    for kind in ICMPV6_ERRORS:
        error = match(**dict(to_sir), ip_proto=ICMPV6, icmpv6_type=kind)
        yield Rule(table, 15, error, reported, Purpose.REPORT)
    yield Rule(table, 11, to_sir, (), Purpose.SPOOFED)


def _from_underlay(state: NveState, vni: Vni, network: RoutedNetwork) -> Iterator[Rule]:
    """Yield the rules for packets to the network's locator here.

    They restore what the sender sent and deliver by that; a source outside the network is forged
    and dropped (R9.4).
    """
    sir, underlay = network.sir_prefix, state.underlay
    if sir is None or underlay is None:
        return
    located = match(in_port=UNDERLAY_PORT, eth_type=IPV6, ipv6_dst=_masked(_here(state, network)))
    of_network = match(**dict(located), ipv6_src=_masked(sir))
    table, to_identifier = PipelineTable.CLASSIFY, (SetPrefix(sir), GoTo(PipelineTable.ROUTE))
    delivered = (SetVirtualNetwork(vni), *to_identifier)
    yield Rule(table, 30, of_network, delivered, Purpose.ADMIT)
    yield Rule(table, 20, located, (), Purpose.SPOOFED)
    nobodys = match(metadata=vni, in_port=UNDERLAY_PORT)
    yield Rule(PipelineTable.ROUTE, 10, nobodys, (), Purpose.UNKNOWN_DESTINATION)
    for peer in underlay.servers:
        field = "tun_ipv4_dst" if peer.version == 4 else "tun_ipv6_dst"
        aimed = match(metadata=vni, eth_type=IPV6, **{field: str(peer)})
        onward, back = state.way(vni, peer), state.way(vni, peer, hairpin=True)
        in_flight = match(**dict(aimed), in_port=UNDERLAY_PORT)
        yield Rule(PipelineTable.LOCATE, 20, in_flight, (back,), Purpose.LOCATE)
        yield Rule(PipelineTable.LOCATE, 10, aimed, (onward,), Purpose.LOCATE)


def _here(state: NveState, network: RoutedNetwork) -> IPv6Network:
    assert state.underlay is not None
    return ila.locator(network, state.underlay.server)


def _masked(prefix: IPv6Network) -> str:
    return f"{prefix.network_address}/{prefix.netmask}"


def _of_peers(vni: Vni, peers: Set[Vtep]) -> Iterator[Rule]:
    """Yield the rules that deliver packets without an Ethernet header by their address."""
    delivered = (SetVirtualNetwork(vni), GoTo(PipelineTable.ROUTE))
    for peer in peers:
        source = tunnel_source(peer)
        admitted = match(in_port=PACKET_PORT, tunnel_id=vni, **source)
        yield Rule(PipelineTable.CLASSIFY, 30, admitted, delivered, Purpose.ADMIT)
        nobodys = match(metadata=vni, in_port=PACKET_PORT, **source)
        yield Rule(PipelineTable.ROUTE, 10, nobodys, (), Purpose.UNKNOWN_DESTINATION)


def of_network(state: NveState, vni: Vni) -> Iterator[Rule]:
    """Yield the rules that route packets; what else a VM sends is dropped by `reports`."""
    network = state.routed[vni]
    if network.encapsulation == "vxlan-l3":
        yield from _of_peers(vni, state.peers)
    if network.encapsulation == "ila":
        yield from _from_underlay(state, vni, network)
    for protocol in (IPV6,) if network.versions == (6,) else (IPV4, IPV6):
        to_router = match(metadata=vni, eth_dst=NVE_MAC, eth_type=protocol)
        routed = (GoTo(PipelineTable.ROUTE),)
        yield Rule(PipelineTable.FROM_VM, 16, to_router, routed, Purpose.ROUTE)


@lru_cache(REMEMBERED)
def reports(system: TenantSystem, port: int, limits: Limits) -> tuple[Rule, ...]:
    """Return the rules by which an NVE reports what a port's VM sends, up to the port's limits,
    and by which it drops what is not routed.

    See `nve.pipeline.limits`.
    """
    answered = (ReportAction(meter=limits.reports(port)),)
    missed = (ReportAction(meter=limits.misses(port)),)
    questions = [match(in_port=port, **dict(question)) for question in _QUESTIONS]
    over = [
        match(in_port=port, eth_type=protocol, nw_ttl=ttl)
        for protocol in (IPV4, IPV6)
        for ttl in LAST_TTLS
    ]
    from_port = match(in_port=port)
    table = PipelineTable.FROM_VM
    return (
        *(Rule(table, 20, asked, answered, Purpose.REPORT, system) for asked in questions),
        *(
            Rule(PipelineTable.ROUTE, 40, last, answered, Purpose.EXPIRED, system)
            for last in over
        ),
        Rule(table, 15, from_port, (), Purpose.NOT_ROUTED, system, reports_end=True),
        Rule(PipelineTable.ROUTE, 1, from_port, missed, Purpose.MISS, system),
        Rule(PipelineTable.FORWARD, 1, from_port, missed, Purpose.MISS, system),
    )  # fmt: skip


@lru_cache(REMEMBERED)
def host_routes(
    system: TenantSystem, addresses: Set[IPAddress], network: RoutedNetwork
) -> tuple[Rule, ...]:
    """Return the host routes to each address of a VM.

    A link-local address is not routed (RFC 4291 section 2.5.6).  A packet without an Ethernet
    header gets one at the end of its tunnel.
    """
    to_vm = (SetMac("eth_src", NVE_MAC), SetMac("eth_dst", system.mac))
    from_vm = (DecrementTtl(), *to_vm, GoTo(PipelineTable.FORWARD))
    routes = [
        match(metadata=system.vni, **dict(destination(address)))
        for address in sorted(addresses, key=str)
        if address.version in network.versions and not address.is_link_local
    ]
    table, purpose = PipelineTable.ROUTE, Purpose.ROUTE
    ingress = tuple(Rule(table, 20, route, from_vm, purpose, system) for route in routes)
    if network.encapsulation == "vxlan":
        return ingress
    from_tunnel = (*to_vm, GoTo(PipelineTable.FROM_TUNNEL))
    port = UNDERLAY_PORT if network.encapsulation == "ila" else PACKET_PORT
    egress = (match(**dict(route), in_port=port) for route in routes)
    return (*ingress, *(Rule(table, 30, route, from_tunnel, purpose, system) for route in egress))
