"""Receives all probe flows of one VM.  Runs inside the VM: `python -m experiments.probes.receiver`.

Arrival times are the kernel's (SO_TIMESTAMPNS: taken where the frame enters the VM's last network
device), so a receiver that is late, or frozen, delays nothing.  What the socket itself had to drop
(SK_MEMINFO_DROPS, the counter behind SO_RXQ_OVFL, which also tells of drops after the last packet
read) is the receiver's failure and is reported as such, never as loss in the network.

Whenever the kernel's clock begins another second, it reports how much it has got.  This costs one
more comparison per packet, and some hundred nanoseconds for counting.

It receives until SIGTERM or SIGINT and then writes its samples.
"""

import argparse
import socket
import struct
import sys
import time
from array import array
from collections import Counter
from pathlib import Path

from experiments.probes import samples
from experiments.probes.process import StopFlag, Teller, be_punctual, say
from experiments.probes.udp import MAX_SIZE_BYTES, Plan, parse
from nve.linux.ipv6 import udp_socket

_SO_TIMESTAMPNS = 35
_SO_RCVBUFFORCE = 33
_SO_MEMINFO = 55
_SK_MEMINFO_DROPS = 8
_MEMINFO = struct.Struct("=9I")
_TIMESPEC = struct.Struct("@qq")
_TIMEVAL = struct.Struct("@ll")
_BUFFER_BYTES = 64 << 20
_WAKE_UP_US = 100_000
"""How long a receive call may block: the longest time for which a request to stop goes
unnoticed."""


def open_socket(port: int) -> socket.socket:
    """Return a socket for IPv4 and IPv6 that stamps arrivals and has room for seconds of
    packets.
    """
    receiver = udp_socket(port)
    receiver.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
    receiver.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER_BYTES)
    receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _TIMEVAL.pack(0, _WAKE_UP_US))
    return receiver


def dropped_by(receiver: socket.socket) -> int:
    """Return the number of packets that reached the socket and found its buffer full."""
    counters = receiver.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, _MEMINFO.size)
    return int(_MEMINFO.unpack(counters)[_SK_MEMINFO_DROPS])


class Got:
    """How many packets of each flow were received, and the last number of each."""

    def __init__(self, teller: Teller) -> None:
        self._teller = teller
        self._counted = 0
        self._packets: Counter[int] = Counter()
        self._last: dict[int, int] = {}

    def tell(self, rows: "array[int]", at_s: float) -> None:
        flows, numbers = rows[self._counted :: 3], rows[self._counted + 1 :: 3]
        self._counted = len(rows)
        self._packets.update(flows)
        self._last.update(zip(flows, numbers, strict=True))
        told = {flow: (packets, self._last[flow]) for flow, packets in self._packets.items()}
        self._teller.tell(told="received", at_s=at_s, flows=told)


def receive_until_stopped(
    receiver: socket.socket, nonce: int, stop: StopFlag, got: Got
) -> tuple["array[int]", int]:
    """Return (flow, seq, received_ns) of every probe packet, and how many other packets there
    were.
    """
    rows = array("q")
    foreign = told_s = 0
    buffer = bytearray(MAX_SIZE_BYTES)
    view = memoryview(buffer)
    ancillary_bytes = socket.CMSG_SPACE(_TIMESPEC.size)
    while not stop:
        try:
            size, ancillary, _flags, _peer = receiver.recvmsg_into([buffer], ancillary_bytes)
        except BlockingIOError:
            now_s = time.time()
            if rows and int(now_s) != told_s:
                told_s = int(now_s)
                got.tell(rows, now_s)
            continue
        stamp = parse(view[:size], nonce)
        if stamp is None:
            foreign += 1
            continue
        seconds, nanoseconds = _TIMESPEC.unpack(ancillary[0][2])
        if seconds != told_s:
            told_s = seconds
            got.tell(rows, seconds + nanoseconds / 1e9)
        rows.extend((stamp.flow, stamp.seq, seconds * 1_000_000_000 + nanoseconds))
    return rows, foreign


def main() -> None:
    parser = argparse.ArgumentParser(description="Receive the probe flows of one VM.")
    parser.add_argument("--plan", type=Path, required=True, help="the run's plan, as JSON")
    parser.add_argument("--vm", required=True, help="the VM whose flows are received")
    parser.add_argument("--out", type=Path, required=True, help="where the samples are written")
    arguments = parser.parse_args()
    plan = Plan.from_json(arguments.plan.read_text(encoding="utf-8"))
    stop = StopFlag()
    try:
        receiver = open_socket(plan.port)
    except OSError as failure:
        sys.exit(f"probe receiver: cannot listen on UDP port {plan.port}: {failure}")
    mine = [flow for flow in plan.flows if flow.destination == arguments.vm]
    samples.reserve(arguments.out, 3 * plan.packets(mine))
    be_punctual()
    say(ready=True)
    teller = Teller()
    rows, foreign = receive_until_stopped(receiver, plan.nonce, stop, Got(teller))
    teller.end()
    samples.write(arguments.out, {"overflow": dropped_by(receiver), "foreign": foreign}, rows)
    say(done=True)


if __name__ == "__main__":
    main()
