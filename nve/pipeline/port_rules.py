"""The rules of a VM's port: what the VM may send (R9.2, R9.4), and what of it the NVA hears.

    [CLASSIFY]  fenced: nothing | a VLAN tag: dropped, or carried as it is
        |
     [GUARD]    only with the VM's own MAC and IP addresses; the rest is dropped and counted
        |
    [FROM_VM]   ARP, ND and RARP -> NVA, up to the port's limits (`nve.pipeline.limits`)

But for the fence, they follow from the port, its VM's addresses and the limits alone, and do not
change while the VM moves.  What differs at layer 3 is in `nve.pipeline.routed`.
"""

import itertools
from collections.abc import Iterator
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address

from nve.model import BROADCAST, IPAddress, Mac, TenantSystem
from nve.pipeline.limits import Limits
from nve.pipeline.rules import (
    GROUP,
    PRIORITY_TAG,
    REMEMBERED,
    TAGGED,
    FieldValue,
    GoTo,
    Match,
    PipelineTable,
    PopVlan,
    Purpose,
    ReportAction,
    Rule,
    SetVirtualNetwork,
    match,
)
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

NO_MAC = "00:00:00:00:00:00"
"""What a switch reads as the link-layer address of an advertisement that carries none."""
_ND_TYPES = (NEIGHBOUR_SOLICITATION, NEIGHBOUR_ADVERTISEMENT)
_FROM_NOBODY = (
    *(NEIGHBOUR_SOLICITATION, ROUTER_SOLICITATION),
    *(MLD_REPORT, MLD_DONE, MLD_V2_REPORT),
)


@lru_cache(REMEMBERED)
def reports(system: TenantSystem, port: int, limits: Limits) -> tuple[Rule, ...]:
    """Return the rules by which an NVE reports what a port's VM sends, up to the port's limits.

    See `nve.pipeline.limits`.
    """
    reported = ReportAction(meter=limits.reports(port))
    missed = ReportAction(meter=limits.misses(port))
    asking_nva = (match(eth_type=ARP), match(eth_type=RARP), *map(_nd, _ND_TYPES))
    from_port = [match(in_port=port, **dict(asks_nva)) for asks_nva in asking_nva]
    table = PipelineTable.FROM_VM
    return (
        *(Rule(table, 20, each, (reported,), Purpose.REPORT, system) for each in from_port),
        Rule(PipelineTable.FORWARD, 1, match(in_port=port), (missed,), Purpose.MISS, system),
    )


def _nd(icmpv6_type: int) -> Match:
    return match(eth_type=IPV6, ip_proto=ICMPV6, icmpv6_type=icmpv6_type)


@lru_cache(REMEMBERED)
def admission(system: TenantSystem, addresses: frozenset[IPAddress], port: int) -> tuple[Rule, ...]:
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
def tagged(system: TenantSystem, port: int, *, allowed: bool) -> tuple[Rule, ...]:
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
def fenced(system: TenantSystem, port: int) -> Rule:
    """Return the rule that drops whatever comes from the port of a VM that must not send.

    Such a VM does not run here, or must not.  The rule stands above all those that admit its
    frames.
    """
    any_frame = match(in_port=port)
    return Rule(PipelineTable.CLASSIFY, 33, any_frame, (), Purpose.FENCED, system, reports_end=True)
