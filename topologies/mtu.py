"""What fits through an underlay: the MTU of each tunnel, and the largest that fits everywhere.

A tunnel's MTU is that of the narrowest link on its way, less what VXLAN puts around a tenant's
packet.  Where routers spread their load, a packet may take any of several ways, and the narrowest
link of all of them counts.  The way back may be another: each direction has its own.
"""

from collections.abc import Iterator, Mapping
from itertools import permutations

from nve.model import IPAddress
from topologies.spec import Fabric, Family, Link, Port

VXLAN_OVERHEAD: Mapping[Family, int] = {"ipv4": 50, "ipv6": 70}
"""Inner Ethernet 14 + VXLAN 8 + UDP 8 + outer IP 20 or 40 (RFC 7348)."""
LEAST_VM_MTU, LARGEST_VM_MTU = 1280, 1500
"""A VM's NIC is an Ethernet; IPv6 needs at least 1280 (RFC 8200 section 5)."""


def tunnel_mtus(fabric: Fabric) -> dict[tuple[str, str], int]:
    """The largest tenant packet that each tunnel carries, by the NVEs at its start and end."""
    overhead = VXLAN_OVERHEAD[fabric.family]
    tunnels = list(permutations(fabric.nves, 2))
    mtus = {link.spec.mtu for link in fabric.links}
    if len(mtus) == 1:
        return dict.fromkeys(tunnels, mtus.pop() - overhead)
    ways = _Ways(fabric)
    return {
        (here, there): min(link.spec.mtu for link in ways.links(here, fabric.vteps[there]))
        - overhead
        for here, there in tunnels
    }


def tenant_mtu(fabric: Fabric) -> int:
    """The largest packet that a VM can send through every tunnel."""
    return min(LARGEST_VM_MTU, *tunnel_mtus(fabric).values())


class _Ways:
    """The links of a fabric, prepared to be walked many times."""

    def __init__(self, fabric: Fabric) -> None:
        self._fabric = fabric
        self._ends = {
            Port(node, link.other(node)): link for link in fabric.links for node in (link.a, link.b)
        }
        self._ports = {node.name: fabric.ports(node.name) for node in fabric.nodes}
        self._switches = {node.name for node in fabric.nodes if node.kind == "switch"}
        self._owners = {
            interface.ip: port
            for port, interfaces in fabric.addresses.items()
            for interface in interfaces
        }

    def links(self, here: str, to: IPAddress) -> Iterator[Link]:
        """Every link that a packet may cross on its ways to an address."""
        for hop in self._next_hops(here, to):
            port = self._owners[hop]
            yield from self._crossed(here, port)
            if hop != to:
                yield from self.links(port.node, to)

    def _next_hops(self, here: str, to: IPAddress) -> tuple[IPAddress, ...]:
        addresses = self._fabric.addresses
        if any(to in own.network for port in self._ports[here] for own in addresses[port]):
            return (to,)
        return next(
            route.next_hops for route in self._fabric.routes[here] if to in route.destination
        )

    def _crossed(self, here: str, to: Port) -> list[Link]:
        """The one way from a node to a port of the same subnet: over switches, which make no loop.

        Raises ValueError if there is none.
        """
        last = self._ends[to]
        waiting: list[tuple[str, list[Link]]] = [(here, [])]
        while waiting:
            node, way = waiting.pop()
            for port in self._ports[node]:
                link = self._ends[port]
                if link == last:
                    return [*way, link]
                if port.peer in self._switches and link not in way:
                    waiting.append((port.peer, [*way, link]))
        raise ValueError(f"{to.node} is not in a subnet of {here}")
