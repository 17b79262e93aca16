"""The emulated data centre: a fabric made of namespaces, cables and edges.

    vm1 … -- plug -- nve1 -- underlay (switches, routers) -- nve2 -- plug -- vm2 …
                      ||                                      ||
                      |+---------- ctl (control network) -----|+--- control node
                      +----------- mig (migration network) ---+

Every node is a Mininet node (nodes.py) in a network namespace of its own.  What makes a node an NVE
is its edge (nve/edge.py).  If the overlay has a control node, the control network is a switch with
that node and all NVEs; its delay, jitter, loss and rate are on the control node's cable.
The migration network, if the topology has one, is a switch with a cable from each server.

A VM's NIC `eth0` is a bridge device (nve/hypervisor/plug.py).  It has one port from the start,
which leads nowhere and only keeps the carrier up: a guest does not notice that its cable is moved.

Independent steps of the bring-up run in parallel, as most of it is waiting for other processes.
"""

import os
import socket
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from ipaddress import IPv6Network
from pathlib import Path
from typing import Any, Literal, Self

from nve.edge import Edge, EdgeFactory, EdgePlace, UnderlayPort
from nve.hypervisor.plug import nve_interface, vm_interface
from nve.linux.capabilities import netem_available
from nve.linux.namespace import inside, ip, set_sysctls, without_carrier
from nve.linux.steering import take_in_by_one_processor
from nve.linux.turns import starting
from nve.linux.wait import wait_until
from nve.model import VmSpec, Vtep
from nve.resources import Resources
from topologies.addressing import neighbours
from topologies.configuration import NIC, WIRE, Configuration
from topologies.emulation import nodes
from topologies.emulation.links import Cable, Cabling, Emulator, End
from topologies.emulation.session import Session
from topologies.mtu import tenant_mtu, tunnel_mtus
from topologies.spec import PLAIN_LINK, Fabric, LinkSpec, Port

CARRIER_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class Nve:
    name: str
    pid: int
    vtep: Vtep
    number: int
    """From 1, in the order of the topology."""
    control: str | None
    """The node's address on the control network, if there is one."""
    migration: str | None
    """The server's address on the migration network, if there is one."""
    edge: Edge
    tunnel_mtus: Mapping[str, int]
    """The largest tenant packets that the tunnels to the other NVEs carry."""


@dataclass(frozen=True)
class Vm:
    spec: VmSpec
    pid: int
    cgroup: Path
    node: Any
    mtu: int


@dataclass(frozen=True)
class NodePlace:
    """A namespace where a process of the experiment will run, and its address there."""

    name: str
    pid: int
    node: Any
    address: str


class DataCentre:
    """A data centre that is up between `start` and `stop`; a context manager for both.

    `nves`, `vms`, `net` (Mininet's network) and, if it was given one, `control_node` exist once it
    is started.
    """

    def __init__(
        self,
        fabric: Fabric,
        vms: Sequence[VmSpec],
        edges: EdgeFactory,
        session: Session,
        control_node: str | None = None,
        control: LinkSpec = PLAIN_LINK,
        link_emulator: Literal["auto", "netem", "delay-line"] = "auto",
        seed: int = 1,
    ) -> None:
        """`control` is the link of the control node, `seed` the seed of the jitter.

        Raises ValueError if fabric and VMs do not fit together.
        """
        if link_emulator == "auto":
            link_emulator = "netem" if netem_available() else "delay-line"
        self.fabric = fabric
        self.session = session
        self.link_emulator: Emulator = link_emulator
        self.tenant_mtu = tenant_mtu(fabric)
        self._tunnel_mtus = tunnel_mtus(fabric)
        self.net: Any = nodes.empty_network()
        self.nves: dict[str, Nve] = {}
        self.vms: dict[str, Vm] = {}
        self.limits: dict[str, dict[str, str]] = {}
        """The VMs that were to be limited: by which version of cgroups each controller does so."""
        self.control_node: NodePlace
        self._configuration = Configuration(fabric, tuple(vms), edges.vtep_device, control_node)
        self._configuration.check()
        self._factory = edges
        self._control = control
        self._seed = seed
        self._nodes: dict[str, Any] = {}
        self._edges: dict[str, Edge] = {}
        self._cabling: Cabling | None = None
        self._final_statistics: list[dict[str, Any]] = []

    # Bring-up

    def start(self, progress: Callable[[str], None] = lambda _: None) -> None:
        """Build everything; if that fails or is interrupted, take down what exists of it."""
        try:
            self._start(progress)
        except BaseException:
            self.stop()
            raise

    def _start(self, progress: Callable[[str], None]) -> None:
        self.session.enter()
        with ThreadPoolExecutor(max_workers=2 * (os.cpu_count() or 1)) as pool:
            progress("starting namespaces")
            self._in_parallel(pool, self._start_node, self._configuration.roles)
            self._tell_mininet_nodes()
            progress(f"starting {self._factory.says}")
            launched = [pool.submit(self._launch_edge, nve) for nve in self.fabric.nves]
            progress(f"laying cables, {self.link_emulator}")
            self._cabling = self._lay_cables()
            self._in_parallel(pool, self._bring_up, self._nodes)
            carrying = pool.submit(self._cabling.start)
            for edge in launched:
                edge.result()
            progress("configuring nodes")
            self._in_parallel(pool, self._configure, self._nodes)
            self._in_parallel(pool, self._settle, self.fabric.nves)
            carrying.result()
            self._in_parallel(pool, self._await_carrier, self._nodes)
        self._describe()

    @staticmethod
    def _in_parallel(
        pool: ThreadPoolExecutor, act: Callable[[str], None], names: Iterable[str]
    ) -> None:
        """Call `act` for every name in parallel; return when all are done, or raise the first
        exception.
        """
        for done in [pool.submit(act, name) for name in names]:
            done.result()

    def _start_node(self, name: str) -> None:
        role = self._configuration.roles[name]
        if role == "vm":
            node = nodes.VmNode(name)
            self.session.move_to_vm(node.pid, name)
            (spec,) = (vm for vm in self._configuration.vms if vm.name == name)
            self.limit_vm(name, spec.limits)
        elif role == "nve":
            node = nodes.NveNode(name)
        elif role == "control":
            node = nodes.ControlNode(name)
        else:
            node = nodes.UnderlayNode(name)
        self._nodes[name] = node

    def _launch_edge(self, name: str) -> None:
        uplink, vteps = self.fabric.uplink(name), self.fabric.vteps
        edge = self._factory.make(
            EdgePlace(
                name,
                self.fabric.nves.index(name) + 1,
                self._pid(name),
                self.session.directory / name,
                UnderlayPort(uplink.interface, self.fabric.macs[uplink]),
                vteps[name],
                {peer: vtep for peer, vtep in vteps.items() if peer != name},
                {
                    at: mac
                    for _, at, mac in neighbours(self.fabric, name)
                    if at.version == vteps[name].version
                },
            )
        )
        self._edges[name] = edge
        edge.launch()
        self._nodes[name].use(edge)

    def _settle(self, name: str) -> None:
        self._edges[name].settle()

    def _lay_cables(self) -> Cabling:
        cabling = Cabling(
            [*self._underlay_cables(), *self._side_cables()],
            self.link_emulator,
            self._pid(WIRE),
            self.session.directory,
            self._seed,
        )
        cabling.lay()
        return cabling

    def _underlay_cables(self) -> Iterable[Cable]:
        for link in self.fabric.links:
            a, b = Port(link.a, link.b), Port(link.b, link.a)
            if self.fabric.kind(b.node) == "nve":
                a, b = b, a
            yield Cable(self._underlay_end(a), self._underlay_end(b), link.spec)

    def _underlay_end(self, port: Port) -> End:
        return End(port.node, self._pid(port.node), port.interface, self.fabric.macs[port])

    def _side_cables(self) -> Iterable[Cable]:
        told = self._configuration
        for network in told.side_networks:
            for name in network.members:
                switch, switch_mac = network.switch, network.mac(name, switch_side=True)
                spec = self._control if name == told.control_node else PLAIN_LINK
                if network is told.migration:
                    spec = self.fabric.migration or PLAIN_LINK
                yield Cable(
                    End(name, self._pid(name), network.interface, network.mac(name)),
                    End(switch, self._pid(switch), f"to-{name}", switch_mac),
                    spec,
                )

    def _bring_up(self, name: str) -> None:
        set_sysctls(self._pid(name), self._configuration.sysctls(name))
        ip(self._pid(name), self._configuration.bring_up(name))
        if self._factory.kernel_forwards and name in {node.name for node in self.fabric.nodes}:
            ends = [port.interface for port in self.fabric.ports(name)]
            take_in_by_one_processor(self._pid(name), ends, name)

    def _configure(self, name: str) -> None:
        if name in self._edges:
            self._edges[name].configure()
        if commands := self._configuration.configure(name):
            ip(self._pid(name), commands)

    def _await_carrier(self, name: str) -> None:
        interfaces = self._configuration.interfaces(name)
        wait_until(partial(without_carrier, self._pid(name), interfaces), CARRIER_TIMEOUT_S)

    def _describe(self) -> None:
        """Fill in what users of the data centre, and of Mininet's CLI, look at."""
        told = self._configuration
        for number, name in enumerate(self.fabric.nves, start=1):
            edge = self._edges[name]
            mtus = {there: mtu for (here, there), mtu in self._tunnel_mtus.items() if here == name}
            control, migration = (
                str(network.address(name)) if network else None
                for network in (told.control, told.migration)
            )
            vtep = self.fabric.vteps[name]
            self.nves[name] = Nve(name, edge.pid, vtep, number, control, migration, edge, mtus)
        for spec in told.vms:
            self._describe_vm(spec)
        if (there := told.control_node) and told.control:
            address = str(told.control.address(there))
            self.control_node = NodePlace(there, self._pid(there), self._nodes[there], address)
        assert self._cabling is not None
        for cable in self._cabling.cables:
            a, b = cable.a, cable.b
            self._tell_mininet_link(nodes.ExistingLink, a.node, a.interface, b.node, b.interface)

    def _describe_vm(self, spec: VmSpec) -> None:
        node, cgroup = self._nodes[spec.name], self.session.vm_cgroup(spec.name)
        self.vms[spec.name] = Vm(spec, node.pid, cgroup, node, self._configuration.mtu(spec))
        nodes.tell_interface(node, NIC, str(spec.ipv4), spec.mac)

    # VMs that come and go

    def check(self, spec: VmSpec) -> None:
        """Raise ValueError if there is no room for another VM."""
        self._with(spec).check()

    def _with(self, *more: VmSpec) -> Configuration:
        return replace(self._configuration, vms=(*self._configuration.vms, *more))

    def add_vm(self, spec: VmSpec) -> None:
        """Add a VM while the data centre is up, after `check` has found that it fits in."""
        self._configuration = self._with(spec)
        self._start_node(spec.name)
        self.net.hosts.append(self._nodes[spec.name])
        self.net.nameToNode[spec.name] = self._nodes[spec.name]
        self._bring_up(spec.name)
        self._configure(spec.name)
        self._describe_vm(spec)

    def remove_vm(self, name: str) -> None:
        """Remove a VM that has ended, with its processes, its namespace and its cables."""
        del self.vms[name]
        node = self._nodes.pop(name)
        nodes.end_shell(node)
        self.session.remove_vm(name)
        self.net.hosts.remove(node)
        del self.net.nameToNode[name]
        self.net.links[:] = [link for link in self.net.links if node not in _ends_of(link)]
        self.limits.pop(name, None)
        others = tuple(vm for vm in self._configuration.vms if vm.name != name)
        self._configuration = replace(self._configuration, vms=others)

    def describe_anew(self, spec: VmSpec) -> None:
        """Record that a VM has other resources."""
        self.vms[spec.name] = replace(self.vms[spec.name], spec=spec)

    def limit_vm(self, name: str, resources: Resources) -> None:
        """Limit what a VM's processes may use of its server, as far as this machine can.

        Raises OSError if they use more already.
        """
        if resources:
            self.limits[name] = self.session.limit_vm(name, resources)

    # Use

    def mtu(self, vm: VmSpec) -> int:
        """Return the MTU of a VM's NIC."""
        return self._configuration.mtu(vm)

    @property
    def sir_prefixes(self) -> tuple[IPv6Network, ...]:
        """The SIR prefixes of the networks whose packets go by locators (`nve.ila`)."""
        return self._configuration.sir_prefixes

    def in_vm(self, vm: str, argv: Sequence[str], **popen: Any) -> subprocess.Popen[Any]:
        """Start a process in a VM: in its namespace, and in its cgroup, to be frozen with it."""
        place = self.vms[vm]
        # The shell moves itself before it becomes the program, so that nothing of that runs
        # outside.
        procs = [str(each) for each in self.session.vm_procs(vm)]
        join = 'while [ "$1" != -- ]; do echo $$ > "$1" || exit; shift; done; shift; exec "$@"'
        wrapped = ["sh", "-c", join, "sh", *procs, "--", *_attached(place.pid), *argv]
        with starting():
            return subprocess.Popen(wrapped, **popen)

    def in_node(self, node: str, argv: Sequence[str], **popen: Any) -> subprocess.Popen[Any]:
        """Start a process in the namespace of any node."""
        with starting():
            return subprocess.Popen([*_attached(self._pid(node)), *argv], **popen)

    def kill_nve(self, name: str) -> None:
        """Kill an NVE: its edge is gone at once, with all that it was told."""
        self._edges[name].die()

    def revive_nve(self, name: str) -> None:
        """Start an NVE that was killed again, with the cables it had."""
        self._edges[name].revive()
        self._edges[name].settle()

    @property
    def pids(self) -> Mapping[str, int]:
        """The id of a process in the namespace of each node."""
        return {name: self._pid(name) for name in self._nodes}

    @property
    def cabling(self) -> Cabling:
        """The cables, for disturbing them."""
        assert self._cabling is not None, "the data centre is not up"
        return self._cabling

    def link_statistics(self) -> list[dict[str, Any]]:
        """Return, per emulated link and direction, what was forwarded, dropped, and forwarded late.

        After `stop`, these are the final values.
        """
        if self._cabling is not None:
            return self._cabling.statistics()
        return self._final_statistics

    def refresh_mininet_links(self) -> None:
        """Tell Mininet the present plugs, which come and go without it."""
        for link in [link for link in self.net.links if isinstance(link, nodes.PlugLink)]:
            self.net.links.remove(link)
            link.delete()
        for vm in self.vms:
            with inside(self._pid(vm)):
                present = {name for _, name in socket.if_nameindex()}
            for nve in self.nves:
                if vm_interface(nve) in present:
                    self._tell_mininet_link(
                        nodes.PlugLink, vm, vm_interface(nve), nve, nve_interface(vm)
                    )

    # Tear-down

    def stop(self) -> None:
        """End what was started, at whatever stage.  Namespaces and cables go with their shells."""
        with ExitStack() as last_to_first:
            for name, node in self._nodes.items():
                last_to_first.callback(nodes.end_shell, node)
                if self._configuration.roles[name] == "vm":
                    last_to_first.callback(self.session.end_vm, name)
            for edge in self._edges.values():
                last_to_first.callback(edge.stop)
            if self._cabling is not None:
                last_to_first.callback(self._cabling.stop)
                last_to_first.callback(self._keep_statistics, self._cabling)
        self._nodes.clear()
        self._edges.clear()
        self._cabling = None

    def _keep_statistics(self, cabling: Cabling) -> None:
        self._final_statistics = cabling.statistics()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    # Mininet

    def _pid(self, node: str) -> int:
        return int(self._nodes[node].pid)

    def _tell_mininet_nodes(self) -> None:
        lists = {"vm": self.net.hosts, "control": self.net.controllers}
        for name, role in self._configuration.roles.items():
            lists.get(role, self.net.switches).append(self._nodes[name])
            self.net.nameToNode[name] = self._nodes[name]

    def _tell_mininet_link(
        self, kind: type[nodes.ExistingLink], a: str, a_interface: str, b: str, b_interface: str
    ) -> None:
        self.net.links.append(kind(self._nodes[a], a_interface, self._nodes[b], b_interface))


def _ends_of(link: Any) -> tuple[Any, Any]:
    return link.intf1.node, link.intf2.node


def _attached(pid: int) -> list[str]:
    """Return the start of a command in a node's namespaces, away from the terminal's Ctrl-C."""
    return ["mnexec", "-da", str(pid)]
