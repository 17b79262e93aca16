"""A diskless client, run inside a VM: without an IPv4 address, it asks for one (R4.1.5; RFC 903).

    python -m experiments.workloads.rarp.client --mac MAC --prefix-length BITS --out FILE

It asks once when it starts, as at boot, and from then on whenever the kernel reports that the
address is gone.  It repeats the request until it is answered, gives its NIC the address, and writes
a line for each request.  It is ended with a signal.
"""

import argparse
import fcntl
import socket
import struct
import time
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import TextIO

from experiments.probes.process import say
from experiments.workloads.rarp import talk
from experiments.workloads.rarp.talk import Request
from nve.hypervisor.plug import NIC
from nve.linux.wait import readable
from nve.model import Mac, mac
from nve.wire import frames

_SIOCGIFADDR, _SIOCSIFADDR, _SIOCSIFNETMASK = 0x8915, 0x8916, 0x891C  # linux/sockios.h
_RTMGRP_IPV4_IFADDR = 0x10  # linux/rtnetlink.h
_INTERFACE_REQUEST = struct.Struct("=16sHxx4s16x")
"""A `struct ifreq` with an IPv4 socket address in it (linux/if.h)."""


class Nic:
    """The VM's NIC, with the operations that a diskless client needs."""

    def __init__(self) -> None:
        self.raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        self.raw.bind((NIC, frames.RARP))
        self._control = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._changes = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        self._changes.bind((0, _RTMGRP_IPV4_IFADDR))

    @property
    def has_address(self) -> bool:
        try:
            self._ask(_SIOCGIFADDR, IPv4Address(0))
        except OSError:  # EADDRNOTAVAIL
            return False
        return True

    def await_loss(self) -> None:
        """Return when the NIC has no address."""
        while self.has_address:
            self._changes.recv(65536)

    def set_address(self, address: IPv4Address, prefix_length: int) -> None:
        """Set address and netmask; without the latter, the kernel uses that of the address's
        class.
        """
        self._ask(_SIOCSIFADDR, address)
        self._ask(_SIOCSIFNETMASK, IPv4Network((0, prefix_length)).netmask)

    def _ask(self, what: int, address: IPv4Address) -> None:
        asked = _INTERFACE_REQUEST.pack(NIC.encode(), socket.AF_INET, address.packed)
        fcntl.ioctl(self._control, what, asked)


class Client:
    """Asks by reverse ARP, and writes each request down."""

    def __init__(self, nic: Nic, own: Mac, prefix_length: int, notes: TextIO) -> None:
        self._nic = nic
        self._own = own
        self._prefix_length = prefix_length
        self._notes = notes

    def obtain(self) -> None:
        """Ask until the client has been told its address, and give it to the NIC."""
        while self._receive(0.0):
            pass  # frames from before the request are no answer
        for attempt, wait_s in enumerate(talk.waits_s(), start=1):
            asked_ns = time.time_ns()
            self._nic.raw.send(talk.request(self._own))
            address = self._answer(wait_s)
            answered_ns = time.time_ns()
            if address is None:
                self._note(Request(asked_ns, attempt))
                continue
            needed = not self._nic.has_address
            if needed:
                self._nic.set_address(address, self._prefix_length)
            self._note(Request(asked_ns, attempt, answered_ns, str(address), needed))
            return

    def _answer(self, wait_s: float) -> IPv4Address | None:
        deadline_s = time.monotonic() + wait_s
        while (left_s := deadline_s - time.monotonic()) > 0:
            if address := talk.answer(self._receive(left_s), self._own):
                return address
        return None

    def _receive(self, wait_s: float) -> bytes:
        """Return a frame, or an empty one if none comes in time."""
        return self._nic.raw.recv(2048) if readable(self._nic.raw, wait_s) else b""

    def _note(self, request: Request) -> None:
        self._notes.write(request.line())
        self._notes.flush()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--mac", type=mac, required=True)
    parser.add_argument("--prefix-length", type=int, required=True)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    nic = Nic()
    with given.out.open("w", encoding="utf-8") as notes:
        client = Client(nic, given.mac, given.prefix_length, notes)
        client.obtain()
        say(ready=True)
        while True:
            nic.await_loss()
            client.obtain()


if __name__ == "__main__":
    main()
