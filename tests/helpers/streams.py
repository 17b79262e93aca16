"""Sockets inside VMs, and a TCP stream between two of them whose every byte is accounted for.

A socket belongs to the namespace in which it was made, whoever uses it then: so the tests' own
threads talk through VMs' kernels.  They are not frozen while a VM is suspended; to them only the
network is away, as to any host's kernel.
"""

import hashlib
import random
import select
import socket
import struct
import threading
from collections.abc import Callable
from ipaddress import IPv6Address
from types import TracebackType
from typing import Self

from nve.linux.namespace import inside
from tests.helpers.wait import wait_until
from topologies.emulation.data_centre import Vm

CHUNK_BYTES, CHUNK_EVERY_S = 16384, 0.02
"""The size and interval of chunks, some 6 Mbit/s: enough to fill packets, and little for a
switch."""
TIMEOUT_S = 60.0
# linux/in.h, linux/in6.h; Python names none of them
_MTU = {socket.AF_INET: (socket.IPPROTO_IP, 14), socket.AF_INET6: (socket.IPPROTO_IPV6, 24)}
_DISCOVER = {socket.AF_INET: (socket.IPPROTO_IP, 10), socket.AF_INET6: (socket.IPPROTO_IPV6, 23)}
_IPV6_RECVERR = 25
_EXTENDED_ERROR = struct.Struct("=IBBBxII")
"""errno, origin, type, code, info, data (linux/errqueue.h); the offender's `sockaddr_in6` follows,
whose address stands behind 8 octets."""
NEVER_DISCOVER, ALWAYS_DISCOVER = 0, 2
"""IP_PMTUDISC_DONT: packets may be fragmented on the way; _DO: what is too big is refused."""


def open_in(vm: Vm, family: str, kind: socket.SocketKind) -> socket.socket:
    """Return a socket of a VM, bound to its address."""
    with inside(vm.pid):
        opened = socket.socket(socket.AF_INET if family == "ipv4" else socket.AF_INET6, kind)
    opened.settimeout(TIMEOUT_S)
    opened.bind((str(getattr(vm.spec, family)), 0))
    return opened


def path_mtu(connected: socket.socket) -> int:
    """Return the path MTU that the VM's kernel assumes to the other end of the socket."""
    return connected.getsockopt(*_MTU[socket.AddressFamily(connected.family)])


def discover(opened: socket.socket, how: int) -> None:
    """Set whether the socket's packets may be fragmented."""
    opened.setsockopt(*_DISCOVER[socket.AddressFamily(opened.family)], how)


def set_hop_limit(opened: socket.socket, hops: int) -> None:
    """Set the hop limit of what the socket sends from now on."""
    opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, hops)


def tell_errors(opened: socket.socket) -> None:
    """Have the kernel keep the ICMPv6 errors that it takes for the socket's (`error_of`)."""
    opened.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVERR, 1)


def error_of(opened: socket.socket) -> tuple[int, str]:
    """Wait for the socket's next ICMPv6 error, and return its type and who has sent it."""
    poller = select.poll()
    poller.register(opened, select.POLLERR)
    assert poller.poll(TIMEOUT_S * 1000), "the socket has no error"
    _, said, _, _ = opened.recvmsg(2048, 512, socket.MSG_ERRQUEUE)
    (told,) = (data for _, kind, data in said if kind == _IPV6_RECVERR)
    _, _, icmp_type, _, _, _ = _EXTENDED_ERROR.unpack_from(told)
    offender = told[_EXTENDED_ERROR.size + 8 :][:16]
    return icmp_type, str(IPv6Address(offender))


class Stream:
    """A TCP connection between two VMs that carries data one way, from `start` to `finish`."""

    def __init__(self, sender: Vm, receiver: Vm, family: str) -> None:
        listener = open_in(receiver, family, socket.SOCK_STREAM)
        listener.listen()
        self.sending = open_in(sender, family, socket.SOCK_STREAM)
        self.sending.connect(listener.getsockname()[:2])
        self._receiving, _ = listener.accept()
        self._receiving.settimeout(TIMEOUT_S)
        listener.close()
        self.received_bytes = 0
        self._sent, self._received = hashlib.sha256(), hashlib.sha256()
        self._done = threading.Event()
        self._failed: list[Exception] = []
        self._threads = [
            threading.Thread(target=self._guarded, args=(each,), daemon=True)
            for each in (self._send, self._receive)
        ]

    def __enter__(self) -> Self:
        for each in self._threads:
            each.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._done.set()
        self.sending.close()
        self._receiving.close()

    def await_more(self, octets: int = 20 * CHUNK_BYTES) -> None:
        """Return when the receiver has got this many more octets."""
        goal = self.received_bytes + octets
        wait_until(lambda: self._missing(goal), timeout_s=TIMEOUT_S)

    def finish(self) -> None:
        """End the stream; raise AssertionError unless everything that was sent has arrived
        unchanged.
        """
        self._done.set()
        for each in self._threads:
            each.join(TIMEOUT_S)
        assert not self._failed, self._failed
        assert not any(each.is_alive() for each in self._threads), "the stream does not end"
        assert self._received.digest() == self._sent.digest()

    def _missing(self, goal: int) -> str | None:
        if self.received_bytes >= goal:
            return None
        return f"{self.received_bytes} of {goal} bytes have arrived; {self._failed}"

    def _send(self) -> None:
        chance = random.Random(1)
        while not self._done.is_set():
            chunk = chance.randbytes(CHUNK_BYTES)
            self.sending.sendall(chunk)
            self._sent.update(chunk)
            self._done.wait(CHUNK_EVERY_S)
        self.sending.shutdown(socket.SHUT_WR)

    def _receive(self) -> None:
        while chunk := self._receiving.recv(65536):
            self._received.update(chunk)
            self.received_bytes += len(chunk)

    def _guarded(self, act: Callable[[], None]) -> None:
        try:
            act()
        except OSError as error:
            self._failed.append(error)
