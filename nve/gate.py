"""A gate in a VM's inbound path: closed, it holds packets in order; open, it lets them through.

All frames that come out of a plug pass one queue, always the same, so that held packets leave
before later ones by construction:

    plug --ingress--> redirect to an ifb device --tbf--> back into the plug's receive path --> eth0

The queue is a token bucket (tbf).  Closed, it refills eight bytes a second; open, it is faster than
anything here.  Three things the kernel does not do by itself, each handled below: a fresh bucket is
full and would let one frame through, so it is emptied with a frame that goes nowhere; a queue that
is opened does not wake up, so it is kicked with another; and what the queue holds has to be bounded
(`LIMIT_BYTES`; what overflows is counted by `dropped`).

It stands on the VM's side of the plug: on the NVE's side, held packets would fill the send buffer
that a userspace switch shares between all VMs.
"""

import socket

from pyroute2 import IPRoute

from nve.namespace import inside, ip, tc

LIMIT_BYTES = 64 << 20
_CLOSED_BYTES_PER_S, _CLOSED_BURST = 8, 1600
_OPEN_BYTES_PER_S, _OPEN_BURST = 10**10 // 8, 1 << 20
_NOWHERE = bytes.fromhex("020202020202" * 2 + "88b5")
"""A header with the EtherType for local experiments; an ifb drops what was not redirected to it."""
_DRAIN_BYTES, _KICK_BYTES = 1500, 60


class Gate:
    """The gate behind one plug, closed from the start."""

    def __init__(self, vm_pid: int, interface: str) -> None:
        """`interface` is the VM's side of the plug.  The plug must not forward yet."""
        self._pid = vm_pid
        self._interface = interface
        self._device = interface.replace("p-", "g-", 1)
        ip(vm_pid, [f"link add {self._device} type ifb", f"link set {self._device} up"])
        tc(
            vm_pid,
            [
                f"qdisc add dev {self._device} root tbf rate {_CLOSED_BYTES_PER_S * 8}bit "
                f"burst {_CLOSED_BURST} limit {LIMIT_BYTES}",
                f"qdisc add dev {interface} ingress",
                f"filter add dev {interface} parent ffff: protocol all u32 match u32 0 0 "
                f"action mirred egress redirect dev {self._device}",
            ],
        )
        with inside(vm_pid):
            self._netlink = IPRoute()
            self._index = socket.if_nametoindex(self._device)
            self._raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
            self._raw.bind((self._device, 0))
        self._put_nowhere(_DRAIN_BYTES)

    def open(self) -> None:
        """Let everything through, the held packets first.  Takes about a millisecond."""
        self._netlink.tc(
            "change",
            "tbf",
            self._index,
            handle=0,  # whatever it is; the default names one
            root=True,
            rate=_OPEN_BYTES_PER_S,
            burst=_OPEN_BURST,
            limit=LIMIT_BYTES,
        )
        self._put_nowhere(_KICK_BYTES)

    def dropped(self) -> int:
        """How many packets did not find room."""
        (queue,) = self._netlink.get_qdiscs(index=self._index)
        return int(queue.get_nested("TCA_STATS2", "TCA_STATS_QUEUE")["drops"])

    def remove(self) -> None:
        """Take it away, with what it still holds; the plug's frames go straight through again."""
        self._netlink.close()
        self._raw.close()
        tc(self._pid, [f"qdisc del dev {self._interface} ingress"])
        ip(self._pid, [f"link del {self._device}"])

    def _put_nowhere(self, length: int) -> None:
        self._raw.send(_NOWHERE.ljust(length, b"\0"))
