"""Finds settings that do not fit the layer of a tenant's network (docs/how-it-works/layer3.md).

A network of layer 3 has no broadcast and no frames but IP packets: an announcement of an address is
not heard there, and nothing has a VLAN tag.
"""

from collections.abc import Iterator
from ipaddress import IPv6Network
from typing import TYPE_CHECKING

from experiments import overlays
from nve import ila
from nve.wire.announcement import NOTHING
from topologies.addressing import UNDERLAY_IPV6

if TYPE_CHECKING:
    from experiments.scenario.moves import MoveSpec
    from experiments.scenario.schema import Scenario
    from experiments.scenario.tenants import Tenant

OF_LAYER_3 = ("encapsulation", "subnets", "sir_prefix", "checksum")
"""The keys of a tenant that say how it is routed."""
HOSTS_OF_A_SUBNET = 254
IN_USERSPACE = frozenset({"vxlan-l3", "ila"})
"""Encapsulations that run on the userspace datapath, unless the scenario asks for another one."""


def on_the_datapath(scenario: "Scenario", *, kernels_available: bool) -> Iterator[str]:
    """Yield a sentence if the run is in userspace for the sake of an encapsulation."""
    used = {tenant.encapsulation for tenant in scenario.tenants if tenant.routed} & IN_USERSPACE
    if used and kernels_available and scenario.datapath == "netdev":
        yield (
            f"the switches ran in userspace, for encapsulation {' and '.join(sorted(used))}; "
            "this machine has the kernel's datapath, too, which is faster"
        )


def contradictions(scenario: "Scenario") -> Iterator[tuple[str, str]]:
    """Yield the settings that do not fit: (field, complaint)."""
    for number, tenant in enumerate(scenario.tenants):
        key = f"tenants.{number}"
        if tenant.routed:
            yield from _of_routed(scenario, key, tenant)
            continue
        for name in OF_LAYER_3:
            if getattr(tenant, name) != type(tenant).model_fields[name].default:
                yield f"{key}.{name}", "at layer 2 nothing is routed; say layer: 3, or leave it out"
    for number, move in enumerate(scenario.moves):
        if move.vm in scenario.routed:
            yield from not_announced(f"moves.{number}.announce", move)
    yield from _of_locators(scenario)
    for vm in sorted(scenario.diskless & scenario.routed):
        yield "traffic", f"{vm} asks by reverse ARP, which a network of layer 3 does not carry"


def not_announced(key: str, move: "MoveSpec") -> Iterator[tuple[str, str]]:
    """Yield a complaint if a move of a VM in a network of layer 3 is announced."""
    if move.announce != NOTHING:
        yield (
            key,
            f"a network of layer 3 carries no announcement ({move.announce}); leave announce "
            "out: the destination's activation says where the VM is",
        )


def _of_routed(scenario: "Scenario", key: str, tenant: "Tenant") -> Iterator[tuple[str, str]]:
    kind = scenario.overlay.kind
    if 3 not in overlays.get(kind).layers:
        able = [each for each in overlays.names() if 3 in overlays.get(each).layers]
        yield f"{key}.layer", f"overlay {kind} has no layer 3; {' and '.join(able)} has"
    if tenant.vlan_tags:
        yield (
            f"{key}.vlan_tags",
            "a VLAN tag belongs to a frame, and layer 3 routes packets; leave it out, or say "
            "layer: 2",
        )
    if tenant.encapsulation != "vxlan" and tenant.mtu is not None:
        yield (
            f"{key}.mtu",
            f"with {tenant.encapsulation} the underlay decides the MTU; leave mtu out",
        )
    for name in ("sir_prefix", "checksum"):
        given = getattr(tenant, name) != type(tenant).model_fields[name].default
        if given and tenant.encapsulation != "ila":
            yield (
                f"{key}.{name}",
                "only locators need this; say encapsulation: ila, or leave it out",
            )
    starting = [place.nve for place in tenant.vms.values()]
    crowded = next((nve for nve in starting if starting.count(nve) > HOSTS_OF_A_SUBNET), None)
    if tenant.subnets == "per-nve" and crowded:
        yield (
            f"{key}.subnets",
            f"{crowded} has more VMs than a subnet of its own has addresses "
            f"({HOSTS_OF_A_SUBNET}); say subnets: one",
        )


def _of_locators(scenario: "Scenario") -> Iterator[tuple[str, str]]:
    """Yield what does not fit tenants with `ila`: it needs an IPv6 underlay, and carries no
    IPv4.
    """
    located = {
        number: tenant
        for number, tenant in enumerate(scenario.tenants)
        if tenant.routed and tenant.routed.sir_prefix
    }
    if not located:
        return
    ours = {vm for tenant in located.values() for vm in tenant.vms}
    if scenario.topology.parameters.underlay != "ipv6":
        yield "topology.underlay", "locators are IPv6 addresses; ila needs underlay: ipv6"
    if scenario.datapath == "system":
        yield "datapath", "ila needs the userspace switch; say datapath: netdev, or leave it out"
    if getattr(scenario.overlay.settings, "end_marker", False):
        yield (
            "overlay.end_marker",
            "an ila packet does not say which NVE has sent it, so packets on old and new paths "
            "cannot be told apart; say end_marker: false",
        )
    for number, flow in enumerate(scenario.traffic):
        ends = {getattr(flow, "source", None), getattr(flow, "destination", None)}
        if getattr(flow, "family", "ipv6") == "ipv4" and ends & ours:
            yield f"traffic.{number}.family", "ila carries IPv6 only; say family: ipv6"
    seen: dict[IPv6Network, int] = {}
    for number, tenant in located.items():
        assert tenant.routed
        prefix = tenant.routed.sir_prefix
        assert prefix
        key = f"tenants.{number}.sir_prefix"
        if prefix.prefixlen != ila.HALF:
            yield key, f"{prefix} is not a /64: an identifier has 64 bits"
            continue
        if prefix.is_multicast or prefix.is_link_local or prefix.is_reserved:
            yield key, f"{prefix} has no addresses that are routed; choose one such as fd51::/64"
            continue
        for taken, of_what in (
            (ila.LOCATORS, "the locators"),
            (UNDERLAY_IPV6, "the underlay's own"),
        ):
            if prefix.overlaps(taken):
                yield key, f"{prefix} is among {of_what} ({taken}); choose another"
        at_a_server = ila.locator(tenant.routed, ila.server(1))
        if at_a_server in seen:
            other = f"tenants.{seen[at_a_server]}"
            yield key, f"its locators would be those of {other}; choose another prefix"
        seen[at_a_server] = number
