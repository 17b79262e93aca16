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

A plug that does not forward is *dormant* (RFC 2863): it has carrier, and waits for somebody to let
it into operation.  A bridge does nothing with such a port, and the kernel leaves it so whatever
becomes of its carrier or of the bridge (`ip link set ... down` and `up`).  A bridge port's own
state would not do: the kernel lets a port forward whenever it gets carrier.

A plug that forwards goes on when a carrier that it had lost is back, if it is to `follow_carrier`.
Before a move it is told not to, for a plug that does takes longer to shut.
"""

import itertools
import socket
import struct
from collections.abc import Sequence
from functools import partial
from typing import Self

from nve.linux.namespace import inside, ip, set_sysctls, tc, without_carrier
from nve.linux.netlink import REQUEST, Netlink, attribute, attributes
from nve.linux.offloads import keep_from_kernel, turn_offloads_off
from nve.linux.wait import wait_until

NIC = "eth0"
CARRIER_TIMEOUT_S = 5.0

# linux/rtnetlink.h, linux/if_link.h, linux/if.h
_LINK_HEADER = struct.Struct("=BxHiII")  # family, type, index, flags, changed flags
_RTM_GETLINK, _RTM_SETLINK = 18, 19
_IFLA_OPERSTATE, _IFLA_LINKMODE = 16, 17
_DORMANT, _UP = 5, 6  # IF_OPER_*
_UP_WITH_CARRIER, _DORMANT_WITH_CARRIER = 0, 1  # IF_LINK_MODE_*

_first_index = itertools.count(100_000, 2)


def vm_interface(nve: str, *, lane: bool = False) -> str:
    """Return the name of a plug into `nve` in the VM's namespace."""
    return f"l-{nve}" if lane else f"p-{nve}"


def nve_interface(vm: str, *, lane: bool = False) -> str:
    """Return the name of the plug of `vm` in the NVE's namespace."""
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
        self._follows = False
        self._opened, self._shut = self._turned(_UP), self._turned(_DORMANT)

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
        """Make the cable and plug it into the VM's NIC; it does not forward yet.

        `offloads` must be False if a userspace switch reads the frames (datapath netdev).
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
                f"link set {vm_end} mode dormant",
                f"link set {vm_end} master {NIC}",
                f"link set {vm_end} type bridge_slave learning off",
                f"link set {vm_end} addrgenmode none up",
            ],
        )
        # It sends nothing itself, and is opened and shut faster without an address.
        set_sysctls(vm_pid, {f"ipv6/conf/{vm_end}/disable_ipv6": 1})
        if lane:
            tc(vm_pid, [f"qdisc add dev {vm_end} root pfifo limit 0"])
        if not offloads:
            turn_offloads_off(vm_pid, vm_end)
            turn_offloads_off(nve_pid, nve_end)
            keep_from_kernel(nve_pid, nve_end)
        ip(nve_pid, [f"link set {nve_end} addrgenmode none up"])
        plug = cls(vm, nve, vm_pid, nve_pid, lane=lane)
        wait_until(plug._without_carrier, CARRIER_TIMEOUT_S)
        wait_until(partial(without_carrier, nve_pid, [nve_end]), CARRIER_TIMEOUT_S)
        return plug

    def set_forwarding(self, forwarding: bool) -> None:
        """Let frames through in both directions, or stop them.  Takes microseconds."""
        set_forwarding([self], forwarding)

    def follow_carrier(self, follows: bool) -> None:
        """Set whether this plug, which forwards, does so again when its carrier comes back."""
        if not self.forwarding:
            raise ValueError(f"{self.vm_interface} of {self.vm} does not forward")
        self._tell([self._turned(_UP, _UP_WITH_CARRIER if follows else _DORMANT_WITH_CARRIER)])
        self._follows = follows

    def _turned(self, state: int, mode: int | None = None) -> bytes:
        """Return the message that puts it into operation or takes it out."""
        body = _link_header(self._index) + attribute(_IFLA_OPERSTATE, bytes([state]))
        return body if mode is None else body + attribute(_IFLA_LINKMODE, bytes([mode]))

    def _told(self, forwarding: bool) -> bytes:
        if self._follows and not forwarding:
            return self._turned(_DORMANT, _DORMANT_WITH_CARRIER)
        return self._opened if forwarding else self._shut

    def _tell(self, messages: Sequence[bytes]) -> None:
        try:
            self._netlink.tell(_RTM_SETLINK, messages)
        except OSError as error:
            raise self._complaint(error) from None

    def remove(self) -> None:
        """Remove the cable; it must not be a port of the NVE's switch any more."""
        self._netlink.close()
        ip(self.vm_pid, [f"link del {self.vm_interface}"])

    def _without_carrier(self) -> str | None:
        """Return a sentence until the kernel has noticed that the cable is plugged in."""
        try:
            reply = self._netlink.ask(_RTM_GETLINK, REQUEST, _link_header(self._index))
        except OSError as error:
            raise self._complaint(error) from None
        told = attributes(reply[_LINK_HEADER.size :])
        if _IFLA_OPERSTATE not in told:
            raise RuntimeError(f"the kernel does not tell the state of {self.vm_interface}")
        if told[_IFLA_OPERSTATE][0] == _DORMANT:
            return None
        return f"{self.vm_interface} of {self.vm} has no carrier"

    def _complaint(self, error: OSError) -> OSError:
        where = f"{self.vm_interface} of {self.vm}"
        return OSError(error.errno, f"{where}: {error.strerror}")


def set_forwarding(cables: Sequence[Plug], forwarding: bool) -> None:
    """Let all of these cables of a VM forward, or none, with one message: the VM is suspended
    meanwhile.
    """
    cables[0]._tell([each._told(forwarding) for each in cables])
    for each in cables:
        each.forwarding = forwarding
        each._follows = each._follows and forwarding


def _link_header(index: int) -> bytes:
    return _LINK_HEADER.pack(socket.AF_UNSPEC, 0, index, 0, 0)
