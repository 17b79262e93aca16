"""How each node of a data centre is configured.  Pure: names and addresses in, commands out.

Three steps, each done on all nodes at once before the next: sysctls; interfaces up; addresses,
neighbours and routes.  All of it is static, so that the first packet of an experiment meets the
same network as the last.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from ipaddress import IPv4Network, IPv6Network
from typing import Literal, TypeAlias

from nve.model import GATEWAY_IPV4, GATEWAY_IPV6, NAME, VmSpec
from topologies import locators
from topologies.addressing import neighbours
from topologies.mtu import vm_mtu
from topologies.side_network import SideNetwork
from topologies.spec import USUAL_MTU, Fabric, Port, Route

CONTROL_SWITCH, MIGRATION_SWITCH, WIRE = RESERVED = ("ctl", "mig", "wire")
CONTROL_NETWORK = IPv4Network("198.18.0.0/16")
"""The control node is .0.1, the n-th NVE .1.n."""
MIGRATION_NETWORK = IPv4Network("198.19.0.0/16")
"""The server of the n-th NVE is .1.n."""
TENANT_PREFIX_LENGTH = {4: 16, 6: 64}
SWITCH_DEVICE = "br0"
"""The bridge device that makes a namespace a switch."""
NIC = "eth0"
KEEPER = ("keep-up", "keep-up-end")
"""The two ends of a cable that keeps the carrier of the VM's NIC up and leads nowhere."""

NodeRole: TypeAlias = Literal["vm", "nve", "switch", "router", "control", "wire"]

# No namespace learns or announces anything by itself: no router solicitations, no
# autoconfiguration, no duplicate address detection, which would cost every address a second.
_QUIET = {
    f"ipv6/conf/{scope}/{setting}": 0
    for scope in ("all", "default")
    for setting in ("accept_ra", "autoconf", "router_solicitations", "accept_dad", "dad_transmits")
}
_NO_IPV6 = {f"ipv6/conf/{scope}/disable_ipv6": 1 for scope in ("all", "default")}
# A VM has routes to its own network only; what comes from elsewhere, as an ICMP error may, would be
# taken for forged where the machine's defaults say so.
_HEARS_ALL = {f"ipv4/conf/{scope}/rp_filter": 0 for scope in ("all", "default")}
# A router hashes ports as well, else all tunnels between two NVEs would take the same path.
_FORWARDING = {
    "ipv4/ip_forward": 1,
    "ipv6/conf/all/forwarding": 1,
    "ipv4/fib_multipath_hash_policy": 1,
    "ipv6/fib_multipath_hash_policy": 1,
}


_DEFAULT_ROUTES = {
    4: f"route add default via {GATEWAY_IPV4} dev {NIC} onlink",
    6: f"route add default via {GATEWAY_IPV6} dev {NIC}",
}


def prefix_length(vm: VmSpec) -> Mapping[int, int]:
    """Return the prefix lengths of a VM's addresses, by IP version.

    At layer 3 a VM has no neighbour but the NVE.
    """
    return {4: 32, 6: 128} if vm.routed else TENANT_PREFIX_LENGTH


@dataclass(frozen=True)
class Configuration:
    """Everything about a data centre that follows from its fabric and its VMs."""

    fabric: Fabric
    vms: tuple[VmSpec, ...]
    vtep_device: str | None
    """The interface that holds an NVE's underlay addresses, if not the underlay interface."""
    control_node: str | None = None
    """The node that a control network joins to all NVEs; None if there is none."""

    def check(self) -> None:
        """Raise ValueError if fabric and VMs do not fit together."""
        reserved = [*RESERVED, *([self.control_node] if self.control_node else [])]
        nodes = [*reserved, *(node.name for node in self.fabric.nodes)]
        for vm in self.vms:
            if not NAME.fullmatch(vm.name):
                raise ValueError(f"VM {vm.name!r}: a name is a letter and up to six of a-z0-9")
            if vm.name in nodes:
                raise ValueError(f"VM {vm.name}: a node of the data centre has this name already")
            if vm.nve not in self.fabric.nves:
                raise ValueError(
                    f"VM {vm.name}: there is no NVE {vm.nve}; "
                    f"this topology has {', '.join(self.fabric.nves)}"
                )
            nodes.append(vm.name)
        for node in self.fabric.nodes:
            if not NAME.fullmatch(node.name) or nodes.count(node.name) > 1:
                raise ValueError(
                    f"underlay node {node.name!r}: a name is a letter and up to six of a-z0-9, "
                    f"and not one of {', '.join(reserved)}"
                )

    @cached_property
    def roles(self) -> Mapping[str, NodeRole]:
        """The role of every node."""
        roles: dict[str, NodeRole] = {node.name: node.kind for node in self.fabric.nodes}
        roles |= {WIRE: "wire"}
        if self.control_node:
            roles |= {self.control_node: "control"}
        roles |= {network.switch: "switch" for network in self.side_networks}
        roles |= {vm.name: "vm" for vm in self.vms}
        return roles

    @cached_property
    def control(self) -> SideNetwork | None:
        """The control network: the NVEs talk to its control node only."""
        node = self.control_node
        if node is None:
            return None
        members = {node: 1, **self._numbered_nves}
        return SideNetwork(CONTROL_SWITCH, CONTROL_NETWORK, 2, members, frozenset({node}))

    @cached_property
    def migration(self) -> SideNetwork | None:
        """The migration network, if the topology has one."""
        if self.fabric.migration is None:
            return None
        return SideNetwork(MIGRATION_SWITCH, MIGRATION_NETWORK, 3, self._numbered_nves)

    @property
    def _numbered_nves(self) -> Mapping[str, int]:
        return {name: 256 + number for number, name in enumerate(self.fabric.nves, start=1)}

    @cached_property
    def side_networks(self) -> tuple[SideNetwork, ...]:
        """The networks that there are beside the underlay."""
        return tuple(network for network in (self.control, self.migration) if network)

    def mtu(self, vm: VmSpec) -> int:
        """Return the MTU of a VM's NIC: its own, or what the underlay carries everywhere."""
        return vm_mtu(self.fabric, vm)

    def sysctls(self, name: str) -> Mapping[str, int]:
        """Return network sysctls by their path below /proc/sys/net."""
        role = self.roles[name]
        if role in ("switch", "wire"):
            return _NO_IPV6
        return _QUIET | {"router": _FORWARDING, "vm": _HEARS_ALL}.get(role, {})

    def interfaces(self, name: str) -> Sequence[str]:
        """Return the interfaces of a node that are ends of links, of any network."""
        for network in self.side_networks:
            if name == network.switch:
                return network.switch_interfaces
        underlay = [port.interface for port in self.fabric.ports(name)]
        return [*underlay, *(network.interface for network in self._side_networks_of(name))]

    def _side_networks_of(self, name: str) -> Sequence[SideNetwork]:
        return [network for network in self.side_networks if name in network.members]

    def bring_up(self, name: str) -> Sequence[str]:
        """Return `ip` commands that create bridge devices and set every interface up."""
        commands = ["link set lo up"]
        role, fabric = self.roles[name], self.fabric
        if role == "vm":
            commands += self._nic(next(vm for vm in self.vms if vm.name == name))
        if role == "switch":
            commands += [
                f"link add {SWITCH_DEVICE} type bridge "
                "stp_state 0 forward_delay 0 mcast_snooping 0",
                f"link set {SWITCH_DEVICE} up",
            ]
        mtus = {port.interface: fabric.link(port).spec.mtu for port in fabric.ports(name)}
        if fabric.migration and self.migration:
            network = self.migration
            ends = network.switch_interfaces if name == network.switch else [network.interface]
            mtus |= dict.fromkeys(ends, fabric.migration.mtu)
        for interface in self.interfaces(name):
            # Interfaces of the control network have the usual MTU.
            mtu = mtus.get(interface, USUAL_MTU)
            extra = ""
            if role == "switch":
                extra = f" master {SWITCH_DEVICE}"
            elif role == "nve" and self.vtep_device is not None:
                extra = " addrgenmode none"  # the kernel must send nothing there
            commands.append(f"link set {interface}{extra} mtu {mtu} up")
        return commands

    def configure(self, name: str) -> Sequence[str]:
        """Return `ip` commands that set addresses, neighbours and routes."""
        commands: list[str] = []
        for network in self._side_networks_of(name):
            commands += network.configure(name)
        if self.roles[name] in ("nve", "router"):
            commands += self._underlay(name)
        return commands

    def _nic(self, vm: VmSpec) -> Sequence[str]:
        keeper, end = KEEPER
        return [
            f"link add {NIC} address {vm.mac} type bridge "
            "stp_state 0 forward_delay 0 mcast_snooping 0",
            f"link set {NIC} mtu {self.mtu(vm)} addrgenmode eui64",
            f"link add {keeper} type veth peer name {end}",
            f"link set {keeper} addrgenmode none",
            # What the VM sends to everybody comes to the keeper as well: its other end must not
            # answer for the VM's address (RFC 5227: the VM would take it for a duplicate).
            f"link set {end} addrgenmode none arp off up",
            f"link set {keeper} master {NIC} up",
            f"link set {keeper} type bridge_slave "
            "learning off flood off mcast_flood off bcast_flood off",
            f"link set {NIC} up",
            *(
                f"addr add {address}/{prefix_length(vm)[address.version]} dev {NIC}"
                f"{' nodad' if address.version == 6 else ''}"
                for address in (vm.ipv4, vm.ipv6, *vm.secondary)
                if address.version in vm.versions
            ),
            *(_DEFAULT_ROUTES[version] for version in vm.versions if vm.routed),
        ]

    def _underlay(self, name: str) -> Sequence[str]:
        fabric = self.fabric
        commands = []
        for port in fabric.ports(name):
            for interface in fabric.addresses[port]:
                nodad = " nodad" if interface.version == 6 else ""
                commands.append(f"addr add {interface} dev {self._device(port)}{nodad}")
        for port, address, mac in neighbours(fabric, name):
            commands.append(
                f"neigh replace {address} lladdr {mac} dev {self._device(port)} nud permanent"
            )
        for route in (*fabric.routes[name], *self._locator_routes(name)):
            if len(route.next_hops) == 1:
                hops = f"via {route.next_hops[0]}"
            else:
                hops = " ".join(f"nexthop via {hop}" for hop in route.next_hops)
            commands.append(f"route add {route.destination} {hops}")
        return commands

    @cached_property
    def sir_prefixes(self) -> tuple[IPv6Network, ...]:
        """The SIR prefixes of the networks whose packets go over the underlay by locators."""
        found = {vm.routed.sir_prefix for vm in self.vms if vm.routed and vm.routed.sir_prefix}
        return tuple(sorted(found))

    def _locator_routes(self, name: str) -> tuple[Route, ...]:
        if self.roles[name] != "router" or not self.sir_prefixes:
            return ()
        return (
            *locators.routes(self.fabric, name),
            *locators.sir_routes(self.fabric, name, self.sir_prefixes),
        )

    def _device(self, port: Port) -> str:
        """Return the interface that holds the addresses of an underlay port."""
        if self.vtep_device is not None and self.roles[port.node] == "nve":
            return self.vtep_device
        return port.interface
