"""What fits through an underlay: the MTU of each tunnel, and the largest that fits everywhere.

A tunnel's MTU is that of the narrowest link on its path, less what VXLAN puts around a tenant's
packet.  If routers spread their load, a packet may take any of several paths, and the narrowest
link of all of them counts.  The path back may be another: each direction has its own MTU.
"""

from collections.abc import Mapping
from itertools import permutations

from nve.model import SAVED_OCTETS, VmSpec
from topologies.spec import Fabric, Family
from topologies.underlay_paths import UnderlayPaths

VXLAN_OVERHEAD: Mapping[Family, int] = {"ipv4": 50, "ipv6": 70}
"""Inner Ethernet 14 + VXLAN 8 + UDP 8 + outer IP 20 or 40 (RFC 7348)."""
LEAST_VM_MTU, LARGEST_VM_MTU = 1280, 1500
"""A VM's NIC is an Ethernet; IPv6 needs at least 1280 (RFC 8200 section 5)."""


def tunnel_mtus(fabric: Fabric) -> dict[tuple[str, str], int]:
    """Return the largest tenant packet that each tunnel carries, by the NVEs at its start and
    end.
    """
    overhead = VXLAN_OVERHEAD[fabric.family]
    tunnels = list(permutations(fabric.nves, 2))
    mtus = {link.spec.mtu for link in fabric.links}
    if len(mtus) == 1:
        return dict.fromkeys(tunnels, mtus.pop() - overhead)
    ways = UnderlayPaths(fabric)
    return {
        (here, there): min(link.spec.mtu for link in ways.links(here, fabric.vteps[there]))
        - overhead
        for here, there in tunnels
    }


def vm_mtu(fabric: Fabric, vm: VmSpec) -> int:
    """Return the MTU of a VM's NIC: its own, or what the underlay carries everywhere in its
    network.
    """
    if vm.mtu is not None:
        return vm.mtu
    saved = SAVED_OCTETS[vm.routed.encapsulation] if vm.routed else 0
    return min(LARGEST_VM_MTU, min(tunnel_mtus(fabric).values()) + saved)


def tenant_mtu(fabric: Fabric) -> int:
    """Return the largest packet that a VM can send through every tunnel."""
    return min(LARGEST_VM_MTU, *tunnel_mtus(fabric).values())
