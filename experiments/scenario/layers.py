"""What does not fit the layer of a tenant's network (see docs/how-it-works/layer3.md).

A network of layer 3 has no broadcast and no frames but IP packets: nobody is heard announcing an
address there, and nothing has a VLAN tag.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from experiments import overlays
from nve.wire.announcement import NOTHING

if TYPE_CHECKING:
    from experiments.scenario.schema import Scenario, Tenant

OF_LAYER_3 = ("encapsulation", "subnets")
"""The keys of a tenant that say how it is routed."""
HOSTS_OF_A_SUBNET = 254


def contradictions(scenario: "Scenario") -> Iterator[tuple[str, str]]:
    """(field, complaint)"""
    for number, tenant in enumerate(scenario.tenants):
        key = f"tenants.{number}"
        if tenant.routed:
            yield from _of_routed(scenario, key, tenant)
            continue
        for name in OF_LAYER_3:
            if getattr(tenant, name) != type(tenant).model_fields[name].default:
                yield f"{key}.{name}", "at layer 2 nothing is routed; say layer: 3, or leave it out"
    for number, move in enumerate(scenario.moves):
        if move.vm in scenario.routed and move.announce != NOTHING:
            yield (
                f"moves.{number}.announce",
                f"a network of layer 3 carries no announcement ({move.announce}); leave announce "
                "out: the destination's activation says where the VM is",
            )
    for vm in sorted(scenario.diskless & scenario.routed):
        yield "traffic", f"{vm} asks by reverse ARP, which a network of layer 3 does not carry"


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
            f"with {tenant.encapsulation} it is what the underlay carries; leave it out",
        )
    starting = [place.nve for place in tenant.vms.values()]
    crowded = next((nve for nve in starting if starting.count(nve) > HOSTS_OF_A_SUBNET), None)
    if tenant.subnets == "per-nve" and crowded:
        yield (
            f"{key}.subnets",
            f"{crowded} has more VMs than a subnet of its own has addresses "
            f"({HOSTS_OF_A_SUBNET}); say subnets: one",
        )
