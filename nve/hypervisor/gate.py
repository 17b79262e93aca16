"""A gate in a VM's inbound path: closed, it holds packets in order; open, it lets them through.

All frames that come out of a plug pass one queue, always the same, so that held packets leave
before later ones by construction:

    plug --ingress--> redirect to an ifb device --tbf--> back into the plug's receive path --> eth0

The queue is a token bucket (tbf).  Closed, it refills eight bytes a second; open, it is faster than
anything here.  Two things the kernel does not do by itself, each handled below:

* A bucket is full when its rate is changed, and would let a frame through.  So the queue gets
  frames that go nowhere: the first empties the bucket, and the next stands at the head of the queue
  until the bucket would have refilled to its size, minutes later.  What is held stands behind it.
* A queue that is opened does not wake up.  It is kicked with another such frame.

What it holds is bounded in packets and bytes, and its user bounds the time (`give_up`); what found
no room, or was given up, is counted by `dropped`.

It stands on the VM's side of the plug: on the NVE's side, held packets would fill the send buffer
that a userspace switch shares between all VMs.
"""

import socket
import struct
import threading

from pyroute2 import IPRoute

from nve.linux.namespace import inside, ip, tc
from nve.linux.netlink import ACK, REQUEST, Netlink, attribute
from nve.model import Bounds
from nve.wire.end_marker import NOBODY
from nve.wire.frames import EXPERIMENTAL, ethernet

_CLOSED_BYTES_PER_S, _CLOSED_BURST = 8, 1600
_OPEN_BYTES_PER_S, _OPEN_BURST = 10**10 // 8, 1 << 20
_NOWHERE = ethernet(NOBODY, NOBODY, EXPERIMENTAL, b"")
"""An ifb drops what was not redirected to it."""
_STOPPER_BYTES, _KICK_BYTES = 1500, 60
_STOPPERS = 8
"""Each blocks the queue for as long as its size takes to refill: together, for 25 minutes."""

# linux/pkt_sched.h, linux/rtnetlink.h
_ROOT, _HANDLE = 0xFFFFFFFF, 0x00010000
_LINKLAYER_ETHERNET = 1
_RTM_NEWQDISC = 36
_TCA_KIND, _TCA_OPTIONS, _TCA_TBF_PARMS, _TCA_TBF_BURST = 1, 2, 1, 6


class Gate:
    """The gate behind one plug; it is open at first."""

    def __init__(self, vm_pid: int, interface: str, bounds: Bounds) -> None:
        """`interface` is the VM's side of the plug, which must not forward yet.

        To make it takes a few processes, and the kernel's lock on links again and again: tens of
        milliseconds, or seconds on a busy machine.  To close and to open it takes neither.
        """
        self._pid = vm_pid
        self._interface = interface
        self._device = f"g{interface}"
        self._quick = Netlink(vm_pid)
        with inside(vm_pid):
            self._netlink = IPRoute()
            (plug,) = self._netlink.get_links(ifname=interface)
        self._room = bounds.packets_of(plug.get("mtu")) + _STOPPERS
        self._stoppers_dropped = 0
        self._is_open = True
        self._inner = 2
        """The handle of the queue inside."""
        self._lock = threading.Lock()
        ip(vm_pid, [f"link add {self._device} type ifb", f"link set {self._device} up"])
        tc(
            vm_pid,
            [
                # A tbf passes its limit to the queue inside, which counts packets here.
                f"qdisc add dev {self._device} root handle 1: tbf limit {self._room} "
                f"rate {_OPEN_BYTES_PER_S * 8}bit burst {_OPEN_BURST}",
                f"qdisc add dev {self._device} parent 1:1 handle {self._inner}: "
                f"pfifo limit {self._room}",
                f"qdisc add dev {interface} ingress",
                f"filter add dev {interface} parent ffff: protocol all u32 match u32 0 0 "
                f"action mirred egress redirect dev {self._device}",
            ],
        )
        with inside(vm_pid):
            self._index = socket.if_nametoindex(self._device)
            self._raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
            self._raw.bind((self._device, 0))

    @property
    def is_open(self) -> bool:
        return self._is_open

    def open(self) -> None:
        """Let everything through, the held packets first.  Takes less than a millisecond."""
        with self._lock:
            # One more: the kick finds room in a full queue, too.
            self._change(_OPEN_BYTES_PER_S, _OPEN_BURST, self._room + 1)
            self._put_nowhere(_KICK_BYTES)
            self._is_open = True

    def close(self) -> None:
        """Hold what arrives from now on."""
        with self._lock:
            if self._is_open:
                self._is_open = False
                self._change(_CLOSED_BYTES_PER_S, _CLOSED_BURST, self._room)
                self._stop()

    def give_up(self) -> None:
        """Drop what is held, and what still arrives until the gate is opened."""
        with self._lock:
            # The kernel counts what is dropped with a queue, the stoppers as well.
            self._stoppers_dropped += min(_STOPPERS, self._statistic("qlen"))
            self._inner ^= 1  # with the same handle, the queue would only be changed
            empty = f"parent 1:1 handle {self._inner}: pfifo limit 0"
            tc(self._pid, [f"qdisc replace dev {self._device} {empty}"])

    def dropped(self) -> int:
        """Return how many packets have found no room, or were given up, since it was made."""
        with self._lock:
            return self._statistic("drops") - self._stoppers_dropped

    def end(self) -> None:
        """Close the connections to the kernel; the gate goes with the VM's namespace."""
        self._quick.close()
        self._netlink.close()
        self._raw.close()

    def _change(self, rate: int, burst: int, limit: int) -> None:
        """Change the rate of the tbf; what is queued stays."""
        unlimited = bytes(12)
        rate_spec = struct.pack("=BBHhHI", 0, _LINKLAYER_ETHERNET, 0, 0, 0, rate)
        parameters = rate_spec + unlimited + struct.pack("=III", limit, 0, 0)
        options = attribute(_TCA_TBF_PARMS, parameters)
        options += attribute(_TCA_TBF_BURST, struct.pack("=I", burst))
        body = struct.pack("=BxxxiIII", 0, self._index, _HANDLE, _ROOT, 0)
        body += attribute(_TCA_KIND, b"tbf\0") + attribute(_TCA_OPTIONS, options)
        self._quick.ask(_RTM_NEWQDISC, REQUEST | ACK, body)

    def _stop(self) -> None:
        for _ in range(1 + _STOPPERS):
            self._put_nowhere(_STOPPER_BYTES)

    def _statistic(self, name: str) -> int:
        with inside(self._pid):  # pyroute2 has a socket for each thread
            queues = self._netlink.get_qdiscs(index=self._index)
        (queue,) = (each for each in queues if each["parent"] == _ROOT)
        return int(queue.get_nested("TCA_STATS2", "TCA_STATS_QUEUE")[name])

    def _put_nowhere(self, length: int) -> None:
        self._raw.send(_NOWHERE.ljust(length, b"\0"))
