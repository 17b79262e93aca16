"""An NVE as a Linux bridge with a kernel VXLAN device for each virtual network: flood and learn.

    p-vm1  p-vm2        the VMs' plugs
       \\    /
      br5000            a bridge for VNI 5000; its FDB: which MAC address is behind which port
         |
     vxlan5000          its own FDB: which MAC address is behind which VTEP (RFC 7348 section 4.1)
         |
      underlay          the VTEP address is on the underlay interface

Nobody tells this NVE where VMs are.  Both forwarding databases (FDB) learn from the source
addresses of what passes, and forget an address that they have not heard for the ageing time.  What
is for a group or for an unknown address goes to every local port, and to every other VTEP, once for
each (ingress replication): that list is static.

A VM that has moved is found when it is heard: its announcement goes everywhere, and teaches every
NVE its new place.  Until then an NVE that has learned the old one sends there.  Before Linux 6.15 a
VXLAN device counts the age of an entry from its last *use*, so that one that is sent to never
grows old.

Each virtual network has devices of its own, so that an address in two of them is two things.
Nothing here answers ARP or neighbour discovery in a VM's place, and nothing tells a sender that its
packet is too big: a bridge drops a frame that is longer than the VXLAN device's MTU.
"""

import socket
from collections.abc import Iterable, Mapping, Sequence
from typing import Self

from nve.edge import Edge, EdgeFactory, EdgePlace
from nve.linux.namespace import bridge, inside, ip, run_in
from nve.linux.offloads import turn_offloads_off
from nve.linux_bridge.fdb import FdbEntry, read
from nve.model import NVE_MAC, VmSpec, Vni, Vtep
from nve.wire.frames import VXLAN_UDP_PORT

DATAPATH = "linux-bridge"
FLOODED = "00:00:00:00:00:00"
"""The entry of a VXLAN device that says where frames to groups and to unknown addresses go."""
TTL = 64


def bridge_device(vni: Vni) -> str:
    """Return the name of the bridge of a virtual network."""
    return f"br{vni}"


def vxlan_device(vni: Vni) -> str:
    """Return the name of the VXLAN device of a virtual network."""
    return f"vxlan{vni}"


class LinuxBridge:
    """The bridges and VXLAN devices of one NVE: an `nve.edge.Edge`.

    `ageing_s` is how long a learned address is kept without being heard, in seconds.
    """

    offloads = True

    def __init__(self, place: EdgePlace, ageing_s: int) -> None:
        self.name = place.name
        self.pid = place.pid
        self._place = place
        self._ageing_s = ageing_s
        self._plugs: dict[str, str] = {}
        self._devices: dict[int, tuple[Vni, str]] = {}
        """The virtual network and the name of each device and each plug, by interface number."""
        self._served: list[Vni] = []
        self._alive = True

    @classmethod
    def of(cls, edge: Edge) -> Self:
        """Return an edge that is known to be such a bridge, with that type."""
        assert isinstance(edge, cls), edge
        return edge

    @property
    def environment(self) -> Mapping[str, str]:
        return {}

    @property
    def aliases(self) -> Mapping[str, str]:
        return {}

    def dpctl(self, words: Sequence[str]) -> Sequence[str]:
        return ["bridge", *words]

    def launch(self) -> None:
        """Do nothing: there is no process beside the kernel."""

    def configure(self) -> None:
        """Make the kernel finish packets before they leave.

        What emulates a link may be unable to divide a packet that is in a tunnel.
        """
        turn_offloads_off(self.pid, self._place.uplink.interface)

    def settle(self) -> None:
        """Do nothing: addresses and routes are the kernel's."""

    def serve(self, vni: Vni) -> None:
        """Create the devices of a virtual network, with the list of VTEPs to flood to."""
        inner, outer = bridge_device(vni), vxlan_device(vni)
        ip(
            self.pid,
            [
                f"link add {inner} address {NVE_MAC} type bridge stp_state 0 forward_delay 0 "
                f"mcast_snooping 0 ageing_time {100 * self._ageing_s}",
                # With the underlay interface named, its MTU is what fits through that.
                f"link add {outer} type vxlan id {vni} dev {self._place.uplink.interface} "
                f"local {self._place.vtep} dstport {VXLAN_UDP_PORT} ttl {TTL} "
                f"learning ageing {self._ageing_s}",
                # The kernel itself must send nothing to tenants.
                f"link set {inner} addrgenmode none up",
                f"link set {outer} addrgenmode none master {inner} up",
            ],
        )
        bridge(self.pid, [f"fdb append {FLOODED} dev {outer} dst {peer}" for peer in self._peers])
        self._served.append(vni)
        for device in (inner, outer):
            self._devices[self._number(device)] = vni, device

    def plug_in(self, interface: str, vm: VmSpec, port: int, *, lane: bool = False) -> None:
        """Make an interface a port of the bridge of the VM's network; `port` is not used here."""
        self._devices[self._number(interface)] = vm.vni, interface
        self._plugs[vm.name] = interface
        ip(self.pid, [f"link set {interface} master {bridge_device(vm.vni)}"])

    def forget(self, vm: str) -> None:
        """Forget which addresses are behind a VM's port, as a bridge does when a port is taken
        away.
        """
        ip(self.pid, [f"link set {self._plugs[vm]} type bridge_slave fdb_flush"])

    def device(self, number: int) -> tuple[Vni, str] | None:
        """Return the virtual network and the name of the interface with this number, or None."""
        return self._devices.get(number)

    def is_plug(self, interface: str) -> bool:
        """Return whether an interface leads to a VM."""
        return interface in self._plugs.values()

    def entries(self) -> list[FdbEntry]:
        """Return the present entries of its forwarding databases."""
        return read(run_in(self.pid, ["bridge", "-json", "fdb", "show"]))

    def differences(self) -> list[str]:
        """Return a sentence for each network in which it does not flood to exactly the other
        VTEPs.
        """
        held = self.entries()
        wanted = frozenset(self._peers)
        return [
            f"{self.name} floods VNI {vni} to {_listed(found)}, not to {_listed(wanted)}"
            for vni in self._served
            if (found := _flooded(held, vni)) != wanted
        ]

    def counters(self) -> Mapping[str, int]:
        """Return no counters: the kernel counts what it drops at its interfaces."""
        return {}

    @property
    def alive(self) -> bool:
        return self._alive

    def die(self) -> None:
        """Stop forwarding, and lose what was learned."""
        self._alive = False
        self._set_all("down")

    def revive(self) -> None:
        """Forward again; everything has to be learned anew."""
        self._set_all("up")
        self._alive = True

    def stop(self) -> None:
        """Do nothing: the devices go with the namespace."""

    @property
    def _peers(self) -> Iterable[Vtep]:
        return self._place.peers.values()

    def _set_all(self, state: str) -> None:
        devices = [device(vni) for vni in self._served for device in (vxlan_device, bridge_device)]
        ip(self.pid, [f"link set {device} {state}" for device in devices])

    def _number(self, interface: str) -> int:
        with inside(self.pid):
            return socket.if_nametoindex(interface)


def edges(ageing_s: int) -> EdgeFactory:
    """Return a factory of such bridges."""
    return EdgeFactory(
        "Linux bridges with VXLAN devices",
        lambda place: LinuxBridge(place, ageing_s),
        facts={"datapath": DATAPATH},
    )


def _flooded(held: Iterable[FdbEntry], vni: Vni) -> frozenset[Vtep]:
    device = vxlan_device(vni)
    return frozenset(
        each.vtep for each in held if each.mac == FLOODED and each.interface == device and each.vtep
    )


def _listed(vteps: Iterable[Vtep]) -> str:
    return ", ".join(sorted(map(str, vteps))) or "nobody"
