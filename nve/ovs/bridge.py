"""One Open vSwitch instance: the switch of one NVE.

Each NVE runs its own ovsdb-server and ovs-vswitchd in its own network namespace, with its own run
directory, as each server of a data centre does (docs/decisions/0002-one-ovs-per-namespace.md).

`br-int` is the NVE's switch: it has the tenants' ports, and `vxlan0`, whose tunnels take both their
remote address and their VNI from the flow, so that rules alone say where a packet goes.  If a
tenant needs them, there are also `vxlan1`, the same without an inner Ethernet header, and a patch
port to `br-phy` for packets that go by locators.  The switch does nothing by itself (fail-mode
secure): the NVA gives it its rules.

There are two datapaths.  With the kernel's ("system") the kernel encapsulates, and the VTEP address
is on the underlay interface.  With the userspace one ("netdev") ovs-vswitchd encapsulates, looks up
the route itself and sends through a bridge that holds the VTEP address: `br-phy`, with the underlay
interface as its other port.
"""

import os
import threading
import time
from collections.abc import Mapping, Sequence
from functools import partial
from ipaddress import IPv6Network
from typing import Literal, Self, TypeAlias

from nve.edge import Edge, EdgeFactory, EdgePlace
from nve.linux.capabilities import kernel_datapath_available
from nve.linux.namespace import ip, run, run_in
from nve.linux.offloads import keep_from_kernel, turn_offloads_off
from nve.linux.steering import await_backlogs, go_first, stay_on_one_processor
from nve.linux.wait import wait_until
from nve.model import IPAddress, Mac, Rank, VmSpec, Vtep
from nve.ovs.buffers import Inlet, dropped_by_packet_sockets, enlarge_packet_sockets
from nve.ovs.control_socket import ControlSocket
from nve.ovs.counters import counted
from nve.ovs.daemons import START_TIMEOUT_S, Daemons
from nve.pipeline.flow_dump import Row, read
from nve.pipeline.rules import PACKET_PORT, UNDERLAY_PORT, VXLAN_PORT, lane_port
from nve.wire.frames import VXLAN_GPE_UDP_PORT, VXLAN_UDP_PORT

Datapath: TypeAlias = Literal["system", "netdev"]

INTEGRATION = "br-int"
PHYSICAL = "br-phy"
VXLAN, VXLAN_GPE = "vxlan0", "vxlan1"
UNDERLAY, TO_INTEGRATION = "underlay", "integration"
"""The two ends of the patch between the bridges."""
OPENFLOW = "OpenFlow13"
ROUTE_TIMEOUT_S = 10.0

# An NVE here serves a handful of ports: one thread of each kind is enough and saves memory.
# A flow that times out is noticed by the revalidator, which by default comes by twice a second; ten
# times is the most there is: of a number below 100 ms, Open vSwitch says nothing and takes 500.
# Where that is slow, it drops flows instead of looking at them, unless they are used so many times
# a second: those of a slow probe are to stay.
_TUNING = (
    *("n-handler-threads=1", "n-revalidator-threads=1"),
    *("max-revalidator=100", "min-revalidate-pps=1"),
)
_OTHER_CONFIG = tuple(f"other_config:{option}" for option in _TUNING)


class OvsInstance:
    """The ovsdb-server and ovs-vswitchd of one NVE, and the commands to them: an
    `nve.edge.Edge`.
    """

    def __init__(self, place: EdgePlace, datapath: Datapath) -> None:
        self.name = place.name
        self.pid = place.pid
        self.directory = place.directory
        self.dpid = place.number
        self.datapath = datapath
        self.vtep, self.peers = place.vtep, place.peers
        self._place = place
        self._led_in: tuple[IPv6Network, ...] = ()
        self._daemons = Daemons(place.name, place.pid, place.directory)
        self._control: tuple[int, ControlSocket] | None = None
        """The switch's process, and the connection to it by which it is told what to do."""
        self._underlay: tuple[int, Inlet] | None = None
        """The switch's process, and its inlet from the underlay."""
        self._control_lock = threading.Lock()

    @classmethod
    def of(cls, edge: Edge) -> Self:
        """Return an edge that is known to be such an instance, with that type."""
        assert isinstance(edge, cls), edge
        return edge

    @property
    def offloads(self) -> bool:
        return self.datapath == "system"

    @property
    def environment(self) -> dict[str, str]:
        """The variables that make ovs-vsctl and similar tools talk to this instance, not the
        machine's.
        """
        return self._daemons.environment

    @property
    def aliases(self) -> dict[str, str]:
        """Shell aliases for the tools: `ovs-ofctl` defaults to OpenFlow 1.0, which the switch
        lacks.
        """
        return {"ovs-ofctl": f"ovs-ofctl -O {OPENFLOW}"}

    def dpctl(self, words: Sequence[str]) -> Sequence[str]:
        command, *rest = words
        return ["ovs-ofctl", "-O", OPENFLOW, command, INTEGRATION, *rest]

    def launch(self) -> None:
        """Start the two daemons; return when the database answers."""
        self._daemons.create_database()
        self._daemons.start_database()
        self.vsctl("--no-wait", "init", "--", "set", "Open_vSwitch", ".", *_OTHER_CONFIG)
        self._spawn_switch()

    def configure(self) -> None:
        """Build the bridges; return when ovs-vswitchd has done it."""
        uplink = self._place.uplink.interface
        self.vsctl(*self._integration_bridge())
        if self.datapath == "netdev":
            self.vsctl(*self._physical_bridge())
        self._raise_unless_ready()
        if self.datapath == "netdev":
            turn_offloads_off(self.pid, PHYSICAL)
            turn_offloads_off(self.pid, uplink)
            keep_from_kernel(self.pid, uplink)
            ip(self.pid, [f"link set {PHYSICAL} up"])

    def settle(self) -> None:
        """Set up, and wait for, the neighbours and routes that userspace tunnels have of their
        own.
        """
        if self.datapath == "netdev":
            self._pin_underlay(self._place.uplink.interface, self._place.neighbours)
            if self._led_in:
                self._lead_locators()
            for vtep in self._place.peers.values():
                wait_until(partial(self._unrouted, vtep), ROUTE_TIMEOUT_S)

    def _unrouted(self, vtep: Vtep) -> str | None:
        try:
            found = self.appctl("ovs/route/lookup", str(vtep))
        except RuntimeError as error:
            return str(error)
        return None if PHYSICAL in found else f"{self.name}: {vtep} is routed by {found.strip()}"

    def set_controller(self, target: str) -> None:
        """Set the NVA's address, such as tcp:198.18.0.1:6653, without waiting for an answer."""
        self.vsctl(
            "set-controller", INTEGRATION, target,
            "--", "set", "Controller", INTEGRATION,
            "connection_mode=out-of-band", "max_backoff=1000", "inactivity_probe=5000",
        )  # fmt: skip

    def plug_in(self, interface: str, vm: VmSpec, port: int, *, lane: bool = False) -> None:
        """Make a VM's interface a port of br-int; the rules say which VM the port belongs to."""
        self.add_port(interface, lane_port(port) if lane else port)

    def add_port(self, name: str, ofport: int) -> None:
        """Make an interface of the namespace a port of br-int with this OpenFlow number."""
        self.vsctl(
            "add-port", INTEGRATION, name,
            "--", "set", "Interface", name, f"ofport_request={ofport}",
        )  # fmt: skip
        self._raise_unless_numbered(name, ofport)
        self.enlarge_buffers()

    def remove_port(self, name: str) -> None:
        """Remove a port, if there is one of that name; its interface may be gone already."""
        self.vsctl("--if-exists", "del-port", INTEGRATION, name)

    def add_internal_port(self, name: str, ofport: int) -> None:
        """Make a port of br-int that is an interface of the NVE's own namespace."""
        self.vsctl(
            "add-port", INTEGRATION, name,
            "--", "set", "Interface", name, "type=internal", f"ofport_request={ofport}",
        )  # fmt: skip
        self._raise_unless_numbered(name, ofport)

    def add_packet_port(self) -> None:
        """Make the tunnel port without an inner Ethernet header.

        Open vSwitch removes that header, and puts an empty one on, by itself.
        """
        self.vsctl(
            "add-port", INTEGRATION, VXLAN_GPE,
            "--", "set", "Interface", VXLAN_GPE, "type=vxlan", f"ofport_request={PACKET_PORT}",
            "options:remote_ip=flow", "options:key=flow", "options:exts=gpe",
            "options:packet_type=legacy_l3", f"options:dst_port={VXLAN_GPE_UDP_PORT}",
        )  # fmt: skip
        self._raise_unless_numbered(VXLAN_GPE, PACKET_PORT)

    def add_underlay_port(self, *prefixes: IPv6Network) -> None:
        """Join br-int to the underlay for locators and SIR addresses (`nve.ila`).

        Packets for these prefixes come in by br-int's underlay port, and what leaves by that port
        leaves as it is.  Only a userspace switch can do that.
        """
        if self.datapath != "netdev":
            raise RuntimeError(f"{self.name}: locators need datapath netdev, not {self.datapath}")
        self._led_in = prefixes
        self.vsctl(
            "add-port", INTEGRATION, UNDERLAY,
            "--", "set", "Interface", UNDERLAY, "type=patch", f"options:peer={TO_INTEGRATION}",
            f"ofport_request={UNDERLAY_PORT}",
            "--", "add-port", PHYSICAL, TO_INTEGRATION,
            "--", "set", "Interface", TO_INTEGRATION, "type=patch", f"options:peer={UNDERLAY}",
        )  # fmt: skip
        self._raise_unless_numbered(UNDERLAY, UNDERLAY_PORT)
        self._lead_locators()

    def _lead_locators(self) -> None:
        uplink = f'"{self._place.uplink.interface}"'
        flows = [
            *(
                f"priority=3,in_port={uplink},ipv6,ipv6_dst={prefix},actions={TO_INTEGRATION}\n"
                for prefix in self._led_in
            ),
            f"priority=3,in_port={TO_INTEGRATION},actions=output:{uplink}\n",
        ]
        command = ["ovs-ofctl", "-O", OPENFLOW, "add-flows", PHYSICAL, "-"]
        run(command, "".join(flows), os.environ | self.environment)

    def _raise_unless_numbered(self, name: str, ofport: int) -> None:
        given = self.vsctl("get", "Interface", name, "ofport").strip()
        if given != str(ofport):
            reason = self.vsctl("get", "Interface", name, "error").strip()
            raise RuntimeError(
                f"{self.name}: port {name} got OpenFlow number {given}, not {ofport}: {reason}"
            )

    def vsctl(self, *arguments: str) -> str:
        return self._daemons.ask("ovs-vsctl", f"--timeout={START_TIMEOUT_S}", *arguments)

    def ofctl(self, *arguments: str) -> str:
        return self._daemons.ask("ovs-ofctl", "-O", OPENFLOW, *arguments)

    def appctl(self, *arguments: str) -> str:
        return self._daemons.ask("ovs-appctl", *arguments)

    def _pin_underlay(self, interface: str, neighbours: Mapping[IPAddress, Mac]) -> None:
        """Fix what a userspace switch would otherwise learn from the underlay, and so from forgers.

        It takes the sender of every tunnel packet for the neighbour with the packet's source
        address, and so would send to a forger what is for an NVE (R9.3).  With these rules every
        tunnel packet in the name of a neighbour carries that neighbour's MAC address, whoever has
        sent it.  And `br-phy` has nothing to learn: what comes by one of its two ports goes to the
        other.
        """
        uplink = f'"{interface}"'
        flows = [
            f"priority=1,in_port=LOCAL,actions=output:{uplink}\n",
            f"priority=1,in_port={uplink},actions=LOCAL\n",
        ]
        for address, mac in neighbours.items():
            self.appctl("tnl/neigh/set", PHYSICAL, str(address), mac)
            source = ("udp,nw_src" if address.version == 4 else "udp6,ipv6_src") + f"={address}"
            for port in (VXLAN_UDP_PORT, VXLAN_GPE_UDP_PORT):
                tunnelled = f"in_port={uplink},{source},tp_dst={port}"
                flows.append(f"priority=2,{tunnelled},actions=set_field:{mac}->eth_src,LOCAL\n")
        command = ["ovs-ofctl", "-O", OPENFLOW, "add-flows", PHYSICAL, "-"]
        run(command, "".join(flows), os.environ | self.environment)

    def follow_rules_now(self, *, thoroughly: bool = False) -> None:
        """Return when every further packet is treated by the present rules.

        A barrier only says that the rules are there; the datapath works from a cache of them, which
        the switch brings up to date some milliseconds later.  How that is done at once depends on
        the datapath:

        * The userspace datapath's cache is emptied: each flow's next packet is looked up in the
          rules again, by the same thread, and none is lost or overtaken by that.
        * The kernel's keeps its cache, as a packet that is not found there goes through
          ovs-vswitchd, and the next may overtake it.  The revalidator compares each flow with the
          rules and changes its actions.  A revalidator that is paused wakes at once and stops
          before a round; when it stops again after it was resumed, that round is over.

        Open vSwitch 3.1 does not always empty the cache completely: on a busy machine, one flow to
        the VM was left in 4 moves of 100, and in none when it was done again: `thoroughly` does it
        twice.
        """
        rounds = 2 if thoroughly else 1
        if self.datapath == "netdev":
            self._tell_switch(*["revalidator/purge"] * rounds, together=True)
            return
        # The switch must have seen, before the first round, that rules have changed.
        a_round = ("revalidator/pause", "revalidator/resume")
        self._tell_switch(*["version"] * 2, *a_round * (rounds + 1))

    def have_counted(self) -> None:
        """Return when the rules have counted every packet that was treated by them before.

        With the kernel's datapath this keeps the cache: a packet that is not found there goes
        through ovs-vswitchd, and the next may overtake it.  Waiting takes two rounds of the
        revalidator, as the first may have begun before the last packet.
        """
        if self.datapath == "netdev":
            self.follow_rules_now()
        else:
            self._tell_switch(*["revalidator/wait"] * 2)

    def inlet(self, interface: str) -> Inlet | None:
        """Return the inlet of a port; the kernel's datapath has none, and takes in what comes at
        once.

        Raises RuntimeError if the switch does not run.
        """
        return Inlet(self.switch_pid, interface) if self.datapath == "netdev" else None

    def await_underlay(self, timeout_s: float) -> None:
        """Return when the switch has dealt with what had come from the underlay when this was
        called.

        A userspace switch takes in up to 32 packets at once and deals with them flow by flow: one
        that has come out of it may have overtaken others that came before it.  Raises RuntimeError
        if the switch does not run, and TimeoutError.
        """
        if self.datapath == "system":
            return
        with self._control_lock:
            pid = self.switch_pid
            if self._underlay and self._underlay[0] != pid:
                self._hang_up()
            if self._underlay is None:
                self._underlay = pid, Inlet(pid, self._place.uplink.interface)
            _, inlet = self._underlay
        inlet.await_taken_in(timeout_s)
        self._tell_switch("version")  # carried out when the packets that it has taken in are out
        await_backlogs(timeout_s)

    def _tell_switch(self, *commands: str, together: bool = False) -> None:
        """Send commands without starting a process, on a kept connection.

        Packets may be waiting for the answer.  `together` sends all of them at once, and none is
        forwarded in between; otherwise each waits for the answer to the one before.
        """
        with self._control_lock:
            try:
                for piece in [commands] if together else [(each,) for each in commands]:
                    self._connection().tell(piece)
            except (OSError, RuntimeError) as error:
                self._hang_up()
                raise RuntimeError(f"{self.name}: {error}") from None

    def _connection(self) -> ControlSocket:
        """Return a connection to the switch that runs now."""
        pid = self.switch_pid
        if self._control and self._control[0] != pid:
            self._hang_up()
        if self._control is None:
            self._control = pid, ControlSocket(self.directory / f"ovs-vswitchd.{pid}.ctl")
        return self._control[1]

    def _hang_up(self) -> None:
        for kept in (self._control, self._underlay):
            if kept:
                kept[1].close()
        self._control = self._underlay = None

    def enlarge_buffers(self) -> None:
        """Give a userspace datapath room for waiting packets (see `nve.ovs.buffers`)."""
        if self.datapath == "netdev":
            enlarge_packet_sockets(self.switch_pid)

    def counters(self) -> Mapping[str, int]:
        """Return the switch's counters (see `nve.edge.Edge`); empty if ovs-vswitchd does not
        run.
        """
        if not self.alive:
            return {}
        kernel = self.datapath == "system"
        return counted(
            self.appctl("dpctl/show"),
            self.appctl("coverage/show"),
            0 if kernel else dropped_by_packet_sockets(self.switch_pid),
            kernel=kernel,
        )

    def rows(self) -> list[Row]:
        """Return every row that br-int holds."""
        return read(self.ofctl("--no-names", "dump-flows", INTEGRATION))

    @property
    def alive(self) -> bool:
        """Whether both daemons run."""
        return self._daemons.alive

    def die(self) -> None:
        """Kill both daemons as the loss of the server would: at once, nothing is forwarded any
        more.
        """
        self._daemons.kill()
        if self.datapath == "system":  # the kernel's datapath would go on with its cached flows
            run_in(self.pid, ["ovs-dpctl", "del-dp", "ovs-system"])

    def revive(self) -> None:
        """Start the daemons again; bridges, ports and the NVA's address are in the database.

        What the kernel holds has outlived the daemons, `br-phy` and its addresses included.
        """
        self._daemons.start_database()
        self._spawn_switch()
        # A change, so that ovs-vsctl waits until everything is configured again.
        self.vsctl("set", "Open_vSwitch", ".", f"external_ids:started={time.time_ns()}")
        self._raise_unless_ready()
        self.enlarge_buffers()

    @property
    def switch_pid(self) -> int:
        """The process id of ovs-vswitchd.  Raises RuntimeError if it does not run."""
        return self._daemons.switch_pid

    def rss_kib(self) -> int:
        """Return the resident memory of both daemons, in KiB."""
        return self._daemons.rss_kib()

    def stop(self) -> None:
        """End the daemons, in whatever state they are."""
        with self._control_lock:
            self._hang_up()
        self._daemons.stop()

    def _integration_bridge(self) -> Sequence[str]:
        return (
            "add-br", INTEGRATION,
            "--", "set", "Bridge", INTEGRATION,
            f"datapath_type={self.datapath}", f"protocols={OPENFLOW}", "fail_mode=secure",
            f"other_config:datapath-id={self.dpid:016x}", "other_config:disable-in-band=true",
            "--", "add-port", INTEGRATION, VXLAN,
            "--", "set", "Interface", VXLAN, "type=vxlan", f"ofport_request={VXLAN_PORT}",
            "options:remote_ip=flow", "options:key=flow",
        )  # fmt: skip

    def _physical_bridge(self) -> Sequence[str]:
        underlay = self._place.uplink
        return (
            "add-br", PHYSICAL,
            "--", "set", "Bridge", PHYSICAL,
            f"datapath_type={self.datapath}", "fail_mode=standalone",
            f'other_config:hwaddr="{underlay.mac}"', "other_config:disable-in-band=true",
            "--", "add-port", PHYSICAL, underlay.interface,
        )  # fmt: skip

    def _spawn_switch(self) -> None:
        pid = self._daemons.start_switch()
        if self.datapath == "netdev":
            stay_on_one_processor(pid, self.dpid)
        else:
            go_first(pid, Rank.SERVER)

    def _raise_unless_ready(self) -> None:
        """Raise an error unless all of the configuration works: ovs-vswitchd carries out what it
        can of it.
        """
        rows = self.vsctl(
            "--format=csv", "--no-headings", "--columns=name,error", "list", "Interface"
        )
        failed = [row for row in rows.splitlines() if not row.endswith(",[]")]
        if failed:
            raise RuntimeError(f"{self.name}: Open vSwitch could not set up {'; '.join(failed)}")


def edges(datapath: str) -> EdgeFactory:
    """Return a factory of instances with that datapath.

    `auto` is the kernel's datapath if there is one, and otherwise the userspace one.
    """
    chosen: Datapath
    if datapath == "auto":
        chosen = "system" if kernel_datapath_available() else "netdev"
    else:
        chosen = "system" if datapath == "system" else "netdev"
    return EdgeFactory(
        f"Open vSwitch, {chosen} datapath",
        lambda place: OvsInstance(place, chosen),
        PHYSICAL if chosen == "netdev" else None,
        kernel_forwards=chosen == "system",
        facts={"datapath": chosen},
    )


def version() -> str:
    """Return the version that ovs-vswitchd prints."""
    return run(["ovs-vswitchd", "--version"]).splitlines()[0]
