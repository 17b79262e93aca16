"""The emulated data centre: what a fabric says, made of namespaces, cables and Open vSwitch.

    vm1 … -- plug -- nve1 -- underlay (switches, routers) -- nve2 -- plug -- vm2 …
                       |                                       |
                       +---------- ctl (control network) ------+--- nva

Every node is a Mininet node (nodes.py) in a network namespace of its own.  The control network is a
switch with the NVA and all NVEs; its delay, jitter, loss and rate are on the NVA's cable.

A VM's NIC `eth0` is a bridge device (nve/hypervisor/plug.py).  It has one port from the start,
which leads nowhere and only keeps the carrier up: a guest does not notice that its cable is moved.

Bring-up does at once what is independent, since most of it is waiting for other processes.
"""

import os
import socket
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, Self

from nve.hypervisor.plug import keep_from_kernel, nve_interface, turn_offloads_off, vm_interface
from nve.linux.capabilities import kernel_datapath_available, netem_available
from nve.linux.namespace import inside, ip, set_sysctls, without_carrier
from nve.linux.wait import wait_until
from nve.model import VmSpec, Vtep
from nve.ovs.bridge import PHYSICAL, Datapath, OvsInstance, UnderlayPort
from topologies.addressing import neighbours
from topologies.configuration import CONTROL_SWITCH, NIC, NVA, WIRE, Configuration
from topologies.emulation import nodes
from topologies.emulation.links import Cable, Cabling, Emulator, End
from topologies.emulation.session import Session
from topologies.mtu import tenant_mtu, tunnel_mtus
from topologies.spec import PLAIN_LINK, Fabric, LinkSpec, Port

ROUTE_TIMEOUT_S = 10.0
CARRIER_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class Nve:
    name: str
    pid: int
    vtep: Vtep
    dpid: int
    control: str
    """Its address on the control network."""
    bridge: OvsInstance
    tunnel_mtus: Mapping[str, int]
    """What the tunnels to the other NVEs carry."""


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

    pid: int
    node: Any
    address: str


class DataCentre:
    """A data centre that is up between `start` and `stop`; a context manager for both.

    `nves`, `vms`, `nva` and `net` (Mininet's network) are there once it is started.
    """

    def __init__(
        self,
        fabric: Fabric,
        vms: Sequence[VmSpec],
        control: LinkSpec,
        session: Session,
        datapath: Literal["auto", "system", "netdev"] = "auto",
        link_emulator: Literal["auto", "netem", "delay-line"] = "auto",
        seed: int = 1,
    ) -> None:
        """Raises ValueError if fabric and VMs do not fit together.  `seed` is the jitter's."""
        if datapath == "auto":
            datapath = "system" if kernel_datapath_available() else "netdev"
        if link_emulator == "auto":
            link_emulator = "netem" if netem_available() else "delay-line"
        self.fabric = fabric
        self.session = session
        self.datapath: Datapath = datapath
        self.link_emulator: Emulator = link_emulator
        self.tenant_mtu = tenant_mtu(fabric)
        self._tunnel_mtus = tunnel_mtus(fabric)
        self.net: Any = nodes.empty_network()
        self.nves: dict[str, Nve] = {}
        self.vms: dict[str, Vm] = {}
        self.nva: NodePlace
        self._configuration = Configuration(
            fabric, tuple(vms), PHYSICAL if datapath == "netdev" else None
        )
        self._configuration.check()
        self._control = control
        self._seed = seed
        self._nodes: dict[str, Any] = {}
        self._switches: dict[str, OvsInstance] = {}
        self._cabling: Cabling | None = None
        self._final_statistics: list[dict[str, Any]] = []

    # Bring-up

    def start(self, progress: Callable[[str], None] = lambda _: None) -> None:
        """Builds everything; if that fails or is interrupted, takes down what there is of it."""
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
            progress(f"starting Open vSwitch, {self.datapath} datapath")
            launched = [pool.submit(self._launch_switch, nve) for nve in self.fabric.nves]
            progress(f"laying cables, {self.link_emulator}")
            self._cabling = self._lay_cables()
            self._in_parallel(pool, self._bring_up, self._nodes)
            carrying = pool.submit(self._cabling.start)
            for switch in launched:
                switch.result()
            progress("configuring nodes")
            self._in_parallel(pool, self._configure, self._nodes)
            self._in_parallel(pool, self._ready_tunnels, self.fabric.nves)
            carrying.result()
            self._in_parallel(pool, self._await_carrier, self._nodes)
        self._describe()

    @staticmethod
    def _in_parallel(
        pool: ThreadPoolExecutor, act: Callable[[str], None], names: Iterable[str]
    ) -> None:
        """Does it for every name, and returns when all are done; raises what the first raised."""
        for done in [pool.submit(act, name) for name in names]:
            done.result()

    def _start_node(self, name: str) -> None:
        role = self._configuration.roles[name]
        if role == "vm":
            node = nodes.VmNode(name)
            self.session.move_to_vm(node.pid, name)
        elif role == "nve":
            node = nodes.NveNode(name)
        elif role == "nva":
            node = nodes.NvaNode(name)
        else:
            node = nodes.UnderlayNode(name)
        self._nodes[name] = node

    def _launch_switch(self, name: str) -> None:
        number = self.fabric.nves.index(name) + 1
        directory = self.session.directory / name
        switch = OvsInstance(name, self._pid(name), directory, number, self.datapath)
        self._switches[name] = switch
        switch.launch()
        self._nodes[name].use(switch.environment)

    def _lay_cables(self) -> Cabling:
        cabling = Cabling(
            [*self._underlay_cables(), *self._control_cables()],
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

    def _control_cables(self) -> Iterable[Cable]:
        told = self._configuration
        for name in told.controlled:
            switch_mac = told.control_mac(name, switch_side=True)
            yield Cable(
                End(name, self._pid(name), f"to-{CONTROL_SWITCH}", told.control_mac(name)),
                End(CONTROL_SWITCH, self._pid(CONTROL_SWITCH), f"to-{name}", switch_mac),
                self._control if name == NVA else PLAIN_LINK,
            )

    def _bring_up(self, name: str) -> None:
        set_sysctls(self._pid(name), self._configuration.sysctls(name))
        ip(self._pid(name), self._configuration.bring_up(name))

    def _configure(self, name: str) -> None:
        if name in self._switches:
            self._configure_switch(name)
        if commands := self._configuration.configure(name):
            ip(self._pid(name), commands)

    def _configure_switch(self, name: str) -> None:
        uplink = self.fabric.uplink(name)
        switch = self._switches[name]
        switch.configure(UnderlayPort(uplink.interface, self.fabric.macs[uplink]))
        if self.datapath == "netdev":
            turn_offloads_off(switch.pid, PHYSICAL)
            turn_offloads_off(switch.pid, uplink.interface)
            keep_from_kernel(switch.pid, uplink.interface)
            ip(switch.pid, [f"link set {PHYSICAL} up"])

    def _ready_tunnels(self, name: str) -> None:
        """Userspace tunnels have neighbours and routes of their own: fills in, waits for those."""
        if self.datapath != "netdev":
            return
        switch = self._switches[name]
        family = self.fabric.vteps[name].version
        found = neighbours(self.fabric, name)
        switch.pin_underlay(
            self.fabric.uplink(name).interface,
            {at: mac for _, at, mac in found if at.version == family},
        )
        for peer, vtep in self.fabric.vteps.items():
            if peer != name:
                wait_until(partial(_unrouted, switch, vtep), ROUTE_TIMEOUT_S)

    def _await_carrier(self, name: str) -> None:
        interfaces = self._configuration.interfaces(name)
        wait_until(partial(without_carrier, self._pid(name), interfaces), CARRIER_TIMEOUT_S)

    def _describe(self) -> None:
        """Fills in what users of the data centre, and of Mininet's CLI, look at."""
        for name, switch in self._switches.items():
            mtus = {there: mtu for (here, there), mtu in self._tunnel_mtus.items() if here == name}
            vtep, control = self.fabric.vteps[name], self._configuration.control_address(name)
            self.nves[name] = Nve(name, switch.pid, vtep, switch.dpid, str(control), switch, mtus)
        for spec in self._configuration.vms:
            node = self._nodes[spec.name]
            cgroup = self.session.vm_cgroup(spec.name)
            self.vms[spec.name] = Vm(spec, node.pid, cgroup, node, self._configuration.mtu(spec))
            nodes.tell_interface(node, NIC, str(spec.ipv4), spec.mac)
        address = str(self._configuration.control_address(NVA))
        self.nva = NodePlace(self._pid(NVA), self._nodes[NVA], address)
        assert self._cabling is not None
        for cable in self._cabling.cables:
            a, b = cable.a, cable.b
            self._tell_mininet_link(nodes.ExistingLink, a.node, a.interface, b.node, b.interface)

    # Use

    def in_vm(self, vm: str, argv: Sequence[str], **popen: Any) -> subprocess.Popen[Any]:
        """Starts a process in a VM: in its namespace, and in its cgroup, to be frozen with it."""
        place = self.vms[vm]
        # The shell moves itself before it becomes the program: nothing of that runs outside.
        join = 'echo $$ > "$0" && exec "$@"'
        procs = str(place.cgroup / "cgroup.procs")
        return subprocess.Popen(["sh", "-c", join, procs, *_attached(place.pid), *argv], **popen)

    def in_node(self, node: str, argv: Sequence[str], **popen: Any) -> subprocess.Popen[Any]:
        """Starts a process in the namespace of any node."""
        return subprocess.Popen([*_attached(self._pid(node)), *argv], **popen)

    def kill_nve(self, name: str) -> None:
        """An NVE dies: its switch is gone at once, and all that it was told."""
        self._switches[name].kill()

    def revive_nve(self, name: str) -> None:
        """An NVE that has died starts again, with the cables it had, and looks for its NVA.

        What the kernel holds has outlived the daemons, `br-phy` and its addresses included.
        """
        self._switches[name].restart()
        self._ready_tunnels(name)

    @property
    def cabling(self) -> Cabling:
        """The cables, for who wants to disturb them."""
        assert self._cabling is not None, "the data centre is not up"
        return self._cabling

    def link_statistics(self) -> list[dict[str, Any]]:
        """Per emulated link and direction: what was forwarded, dropped, and forwarded late.

        After `stop`, what it was at the end.
        """
        if self._cabling is not None:
            return self._cabling.statistics()
        return self._final_statistics

    def refresh_mininet_links(self) -> None:
        """Tells Mininet which plugs there are now; they come and go without it."""
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
        """Ends what was started, at whatever stage.  Namespaces and cables go with their shells."""
        with ExitStack() as last_to_first:
            for name, node in self._nodes.items():
                last_to_first.callback(nodes.end_shell, node)
                if self._configuration.roles[name] == "vm":
                    last_to_first.callback(self.session.end_vm, name)
            for switch in self._switches.values():
                last_to_first.callback(switch.stop)
            if self._cabling is not None:
                last_to_first.callback(self._cabling.stop)
                last_to_first.callback(self._keep_statistics, self._cabling)
        self._nodes.clear()
        self._switches.clear()
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
        lists = {"vm": self.net.hosts, "nva": self.net.controllers}
        for name, role in self._configuration.roles.items():
            lists.get(role, self.net.switches).append(self._nodes[name])
            self.net.nameToNode[name] = self._nodes[name]

    def _tell_mininet_link(
        self, kind: type[nodes.ExistingLink], a: str, a_interface: str, b: str, b_interface: str
    ) -> None:
        self.net.links.append(kind(self._nodes[a], a_interface, self._nodes[b], b_interface))


def _attached(pid: int) -> list[str]:
    """mnexec starts a command in a node's namespaces, away from the terminal's Ctrl-C."""
    return ["mnexec", "-da", str(pid)]


def _unrouted(switch: OvsInstance, vtep: Vtep) -> str | None:
    try:
        found = switch.appctl("ovs/route/lookup", str(vtep))
    except RuntimeError as error:
        return str(error)
    return None if PHYSICAL in found else f"{switch.name}: {vtep} is routed by {found.strip()}"
