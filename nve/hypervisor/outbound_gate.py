"""A gate in a VM's outbound path: closed, it holds what the VM sends; open, it lets it through.

    eth0 --> plug --tbf--> the NVE

The queue of the plug itself is a token bucket (tbf) from the beginning, and everything that the VM
sends passes it, so that held packets leave before later ones by construction.  At the other end of
the cable one processor takes in all of them (`nve.linux.steering`): the kernel lets out what was
held on one processor while the VM sends from another.

Open, the bucket is larger than anything here.  Closed, each packet costs more octets than the
bucket takes (`mpu`, the least that a packet is counted as: Linux 5.17), so that none ever passes;
nothing has to be sent to stop the queue, as in the other direction (`nve.hypervisor.gate`), and
nothing that the NVE would see.  A token bucket looks again when the next packet should pass, by its
rate; closed, that is every 0.1 ms, so that an opened gate needs no packet to go on, either.

What was held is let out at a rate at which the queue of that one processor, 1,000 packets, does not
overflow even if the processor is busy for some milliseconds; when nothing is left, the gate is open
altogether.

What is held is bounded in packets and bytes; what finds no room is dropped and counted.  The user
bounds the time, by opening it.
"""

import fcntl
import socket
import struct
import threading
from contextlib import suppress

from nve.linux.namespace import inside, tc
from nve.linux.netlink import ACK, ECHO, REQUEST, Netlink, attribute, attributes
from nve.linux.wait import wait_until
from nve.model import Bounds

_OPEN_BYTES_PER_S, _OPEN_BURST = 10**10 // 8, 1 << 20
_DRAINED_PPS, _DRAINED_BURST = 50_000, 64
_DRAIN_TIMEOUT_S = 5.0
_COST = 65535
"""What a packet costs at a gate that is not quite open, in octets; no packet is longer."""
_LOOKED_AT_S = 1e-4
"""The interval at which a closed gate checks whether it was opened, in seconds."""
_TICK_S = 64e-9  # linux/pkt_sched.h, PSCHED_SHIFT

# linux/sockios.h, linux/if.h
_SIOCGIFMTU = 0x8921
_IFREQ = struct.Struct("=16si20x")

# linux/pkt_sched.h, linux/rtnetlink.h, linux/gen_stats.h
_ROOT, _HANDLE = 0xFFFFFFFF, 0x00010000
_ETHERNET = 1
_RTM_NEWQDISC, _RTM_GETQDISC = 36, 38
_TCA_KIND, _TCA_OPTIONS, _TCA_STATS2, _TCA_TBF_PARMS = 1, 2, 7, 1
_TCA_STATS_QUEUE = 3
_HEADER = struct.Struct("=BxxxiIII")  # family, interface, handle, parent, info
_QUEUE = struct.Struct("=IIIII")  # packets, octets, drops, requeues, overlimits


class OutboundGate:
    """The gate before one plug; it is open at first."""

    def __init__(self, vm_pid: int, interface: str, bounds: Bounds) -> None:
        """`interface` is the VM's side of the plug.

        It must not forward yet, as the kernel drops what passes a device while its queue is
        replaced.
        """
        with inside(vm_pid), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
            self._index = socket.if_nametoindex(interface)
            answer = fcntl.ioctl(asking, _SIOCGIFMTU, _IFREQ.pack(interface.encode(), 0))
        _, mtu = _IFREQ.unpack(answer)
        self._room = bounds.packets_of(mtu)
        self._netlink = Netlink(vm_pid)
        self._lock = threading.Lock()
        self._dropped_before = 0
        self.closed = False
        tc(
            vm_pid,
            [
                # A tbf passes its limit to the queue inside, which counts packets here.
                f"qdisc add dev {interface} root handle 1: tbf limit {self._room} "
                f"rate {_OPEN_BYTES_PER_S * 8}bit burst {_OPEN_BURST}",
                f"qdisc add dev {interface} parent 1:1 handle 2: pfifo limit {self._room}",
            ],
        )

    def close(self) -> None:
        """Hold what the VM sends from now on.  Takes some 0.1 ms."""
        with self._lock:
            _, self._dropped_before = self._queue()
            bucket = _COST // 2
            self._change(round((_COST - bucket) / _LOOKED_AT_S), _COST, bucket)
            self.closed = True

    def open(self) -> int:
        """Let everything through, the held packets first; return how many were held.

        Returns when all are out, or when the VM has kept the queue full for some seconds.
        """
        with self._lock:
            if not self.closed:
                return 0
            held, _ = self._queue()
            self._change(_DRAINED_PPS * _COST, _COST, _DRAINED_BURST * _COST)
            self.closed = False
            with suppress(TimeoutError):
                wait_until(self._difference, _DRAIN_TIMEOUT_S, _LOOKED_AT_S)
            self._change(_OPEN_BYTES_PER_S, 0, _OPEN_BURST)
            return held

    def queued(self) -> int:
        """Return how many packets are in it."""
        with self._lock:
            packets, _ = self._queue()
            return packets

    def dropped(self) -> int:
        """Return how many packets have found no room since it was closed last."""
        with self._lock:
            _, drops = self._queue()
            return drops - self._dropped_before

    def end(self) -> None:
        """Close the connection to the kernel; the gate goes with the plug."""
        self._netlink.close()

    def _change(self, rate: int, least: int, bucket: int) -> None:
        """Change the tbf's rate in octets per second, the price of a packet, and the size of the
        bucket.

        The bucket is full then; what is queued stays.
        """
        rate_spec = struct.pack("=BBHhHI", 0, _ETHERNET, 0, 0, least, rate)
        ticks = round(bucket / rate / _TICK_S) + 1
        parameters = rate_spec + bytes(12) + struct.pack("=III", self._room, ticks, 0)
        options = attribute(_TCA_TBF_PARMS, parameters)
        body = _HEADER.pack(0, self._index, _HANDLE, _ROOT, 0)
        body += attribute(_TCA_KIND, b"tbf\0") + attribute(_TCA_OPTIONS, options)
        self._netlink.ask(_RTM_NEWQDISC, REQUEST | ACK, body)

    def _difference(self) -> str | None:
        packets, _ = self._queue()
        return f"{packets} packets are in the gate" if packets else None

    def _queue(self) -> tuple[int, int]:
        """Return how many packets wait, and how many were dropped since the start."""
        asked = _HEADER.pack(0, self._index, 0, _ROOT, 0)
        reply = self._netlink.ask(_RTM_GETQDISC, REQUEST | ECHO, asked)
        statistics = attributes(attributes(reply[_HEADER.size :])[_TCA_STATS2])
        packets, _, drops, _, _ = _QUEUE.unpack_from(statistics[_TCA_STATS_QUEUE])
        return packets, drops
