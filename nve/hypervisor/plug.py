"""The cable between a VM and an NVE.

A VM's NIC `eth0` is a Linux bridge device inside the VM's namespace.  It holds the VM's MAC and IP
addresses; its ports are plugs, one per NVE that the VM is plugged into, and at most one of them
forwards.  A move flips which one: one netlink message each, microseconds, while moving a real
interface between namespaces costs tens of milliseconds that would be measured as if they were
protocol (docs/decisions/0003-nic-is-a-bridge.md).

    VM namespace                    NVE namespace
    eth0 (bridge) --- p-nve1  ~~~~  p-vm1 --- br-int

The bridge does not learn: with at most one forwarding port it floods to exactly that one, and no
entry can point to the port that the VM has just left.

A *lane* is a second cable beside a plug, by which frames in flight come (see
`nve.hypervisor.reorder_buffer`).  The VM sends nothing there: a queue without room drops it.  (The
bridge could be told not to flood to a port, but floods what the VM itself sends to many all the
same.)

A plug is created *disabled* (it neither sends nor receives) and must be so before the NVE-side end
becomes a port of the NVE's switch: the kernel lets a port forward from the moment it has carrier,
and until then whatever passes it goes nowhere.
"""

import itertools
import socket
import struct
from functools import partial
from typing import Self

from nve.linux.namespace import inside, ip, tc, without_carrier
from nve.linux.netlink import ACK, REQUEST, Netlink, attribute, attributes
from nve.linux.offloads import keep_from_kernel, turn_offloads_off
from nve.linux.wait import wait_until

NIC = "eth0"
CARRIER_TIMEOUT_S = 5.0

_FORWARDING, _DISABLED = 3, 0  # linux/if_bridge.h, BR_STATE_*

# linux/rtnetlink.h, linux/if_link.h, linux/if.h
_LINK_HEADER = struct.Struct("=BxHiII")  # family, type, index, flags, changed flags
_RTM_GETLINK, _RTM_SETLINK = 18, 19
_IFLA_PROTINFO, _IFLA_OPERSTATE, _NLA_F_NESTED, _IFLA_BRPORT_STATE = 12, 16, 0x8000, 1
_OPERATIONAL = 6

_first_index = itertools.count(100_000, 2)


def vm_interface(nve: str, *, lane: bool = False) -> str:
    """What a plug into `nve` is called in the VM's namespace."""
    return f"l-{nve}" if lane else f"p-{nve}"


def nve_interface(vm: str, *, lane: bool = False) -> str:
    """What the plug of `vm` is called in the NVE's namespace."""
    return f"l-{vm}" if lane else f"p-{vm}"


class Plug:
    """A plug of one VM into one NVE, or its lane.  `create` makes it, `remove` takes it away."""

    def __init__(self, vm: str, nve: str, vm_pid: int, nve_pid: int, *, lane: bool = False) -> None:
        self.vm = vm
        self.nve = nve
        self.vm_pid = vm_pid
        self.nve_pid = nve_pid
        self.lane = lane
        with inside(vm_pid):
            self._index = socket.if_nametoindex(self.vm_interface)
        self._netlink = Netlink(vm_pid)
        self.forwarding = False

    @property
    def vm_interface(self) -> str:
        return vm_interface(self.nve, lane=self.lane)

    @property
    def nve_interface(self) -> str:
        return nve_interface(self.vm, lane=self.lane)

    @classmethod
    def create(
        cls,
        vm: str,
        nve: str,
        vm_pid: int,
        nve_pid: int,
        *,
        offloads: bool,
        lane: bool = False,
    ) -> Self:
        """Makes the cable and plugs it into the VM's NIC; it does not forward yet.

        `offloads` must be False where a userspace switch reads the frames (datapath netdev).
        """
        vm_end, nve_end = vm_interface(nve, lane=lane), nve_interface(vm, lane=lane)
        # Two ends with the same number look like one device to the kernel, which then takes up to
        # a second to notice that the cable is plugged in (net/core/link_watch.c).
        index = next(_first_index)
        ip(
            vm_pid,
            [
                f"link add {vm_end} index {index} type veth "
                f"peer name {nve_end} index {index + 1} netns {nve_pid}",
                f"link set {vm_end} master {NIC}",
                f"link set {vm_end} type bridge_slave learning off",
                f"link set {vm_end} addrgenmode none up",
            ],
        )
        if lane:
            tc(vm_pid, [f"qdisc add dev {vm_end} root pfifo limit 0"])
        if not offloads:
            turn_offloads_off(vm_pid, vm_end)
            turn_offloads_off(nve_pid, nve_end)
            keep_from_kernel(nve_pid, nve_end)
        ip(nve_pid, [f"link set {nve_end} addrgenmode none up"])
        plug = cls(vm, nve, vm_pid, nve_pid, lane=lane)
        wait_until(plug._disabled, CARRIER_TIMEOUT_S)
        wait_until(partial(without_carrier, nve_pid, [nve_end]), CARRIER_TIMEOUT_S)
        return plug

    def set_forwarding(self, forwarding: bool) -> None:
        """Lets frames through, in both directions, or stops them.  Takes microseconds."""
        self._set_state(_FORWARDING if forwarding else _DISABLED)
        self.forwarding = forwarding

    def remove(self) -> None:
        """Takes the cable away; it must not be a port of the NVE's switch any more."""
        self._netlink.close()
        ip(self.vm_pid, [f"link del {self.vm_interface}"])

    def _disabled(self) -> str | None:
        """Disables the port, once the kernel has seen its carrier: on that, it lets it forward."""
        if self._operational_state() != _OPERATIONAL:
            return f"{self.vm_interface} of {self.vm} has no carrier"
        self._set_state(_DISABLED)
        return None

    def _operational_state(self) -> int:
        reply = self._ask(_RTM_GETLINK, REQUEST, _link_header(socket.AF_UNSPEC, self._index))
        told = attributes(reply[_LINK_HEADER.size :])
        if _IFLA_OPERSTATE not in told:
            raise RuntimeError(f"the kernel does not tell the state of {self.vm_interface}")
        return told[_IFLA_OPERSTATE][0]

    def _set_state(self, state: int) -> None:
        port = attribute(_IFLA_BRPORT_STATE, bytes([state]))
        link = _link_header(socket.AF_BRIDGE, self._index)
        body = link + attribute(_IFLA_PROTINFO | _NLA_F_NESTED, port)
        self._ask(_RTM_SETLINK, REQUEST | ACK, body)

    def _ask(self, kind: int, flags: int, body: bytes) -> bytes:
        try:
            return self._netlink.ask(kind, flags, body)
        except OSError as error:
            where = f"{self.vm_interface} of {self.vm}"
            raise OSError(error.errno, f"{where}: {error.strerror}") from None


def _link_header(family: int, index: int) -> bytes:
    return _LINK_HEADER.pack(family, 0, index, 0, 0)
