"""The paths of packets through an underlay, as its nodes route and switch them."""

from collections.abc import Iterator

from nve.model import IPAddress
from topologies.spec import Fabric, Link, Port


class UnderlayPaths:
    """The links of a fabric, prepared for computing many paths."""

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
        """Yield every link that a packet may cross on its paths to an address."""
        for hop in self._next_hops(here, to):
            port = self._owners[hop]
            yield from self._crossed(here, port)
            if hop != to:
                yield from self.links(port.node, to)

    def delay_ms(self, here: str, to: IPAddress) -> float:
        """Return the one-way delay of the links on the quickest path to an address."""
        quickest = []
        for hop in self._next_hops(here, to):
            port = self._owners[hop]
            crossed = sum(link.spec.delay_ms for link in self._crossed(here, port))
            quickest.append(crossed + (0.0 if hop == to else self.delay_ms(port.node, to)))
        return min(quickest)

    def _next_hops(self, here: str, to: IPAddress) -> tuple[IPAddress, ...]:
        addresses = self._fabric.addresses
        if any(to in own.network for port in self._ports[here] for own in addresses[port]):
            return (to,)
        return next(
            route.next_hops for route in self._fabric.routes[here] if to in route.destination
        )

    def _crossed(self, here: str, to: Port) -> list[Link]:
        """Return the links of the one path from a node to a port of the same subnet, over switches.

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
