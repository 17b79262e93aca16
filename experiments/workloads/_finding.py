"""How a client finds a task and connects to it, and the effort that this took.

A client finds it by an address that moves with the task; or by a name, which is looked up when
there is no connection (RFC 1035): an answer is used until its TTL is over, even if a connection to
it has failed.
"""

import argparse
import socket
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Literal, cast

import dns.exception
import dns.resolver

from nve.linux.wait import sleep_until
from nve.task import multipath

Protocol = Literal["tcp", "mptcp"]
MPTCP: Final = 262
"""linux/in.h, IPPROTO_MPTCP."""
CONNECT_S: Final = 0.5
LOOKUP_S: Final = 1.0
PAUSE_NS: Final = 20_000_000
"""The pause before something that has failed is tried again, in nanoseconds."""


@dataclass
class Effort:
    """The effort of a client."""

    connects: int = 0
    """How many connections it has tried to open."""
    lookups: int = 0
    """How many questions it has sent to the name server."""


class Finder:
    """Opens connections to one task."""

    def __init__(self, port: int, protocol: Protocol = "tcp") -> None:
        self.effort = Effort()
        self._port = port
        self._protocol = protocol

    def connect(self, patience_s: float = CONNECT_S) -> socket.socket:
        """Return a connection.  Raises OSError, after a short wait."""
        try:
            self.effort.connects += 1
            address = self.address()
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            kind = MPTCP if self._protocol == "mptcp" else 0
            opened = socket.socket(family, socket.SOCK_STREAM, kind)
            opened.settimeout(patience_s)
            try:
                opened.connect((address, self._port))
            except OSError:
                opened.close()
                raise
        except OSError:
            sleep_until(time.time_ns() + PAUSE_NS)
            raise
        return opened

    def address(self) -> str:
        """Return the task's address.  Raises OSError if there is none."""
        raise NotImplementedError


class FinderByAddress(Finder):
    """Uses an address that never changes."""

    def __init__(self, address: str, port: int, protocol: Protocol = "tcp") -> None:
        super().__init__(port, protocol)
        self._address = address

    def address(self) -> str:
        return self._address


class FinderByName(Finder):
    """Uses the last answer of the name server, until it is too old."""

    def __init__(
        self, name: str, server: str, version: int, port: int, protocol: Protocol = "tcp"
    ) -> None:
        super().__init__(port, protocol)
        self._name = name
        self._kind = "A" if version == 4 else "AAAA"
        self._resolver = dns.resolver.Resolver(configure=False)
        self._resolver.nameservers = [server]
        self._believed = ("", 0.0)
        """The address, and until when."""

    def address(self) -> str:
        address, until_s = self._believed
        if time.monotonic() >= until_s:
            self.effort.lookups += 1
            try:
                answer = self._resolver.resolve(f"{self._name}.", self._kind, lifetime=LOOKUP_S)
            except dns.exception.DNSException as error:
                raise OSError(f"{self._name} cannot be looked up: {error}") from None
            assert answer.rrset is not None
            address = str(answer.rrset[0])
            self._believed = address, time.monotonic() + answer.rrset.ttl
        return address


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of a client's program."""
    parser.add_argument("--address")
    parser.add_argument("--name")
    parser.add_argument("--server")
    parser.add_argument("--ip-version", type=int)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--protocol", choices=("tcp", "mptcp"), default="tcp")


def finder_of(given: argparse.Namespace) -> Finder:
    """Return the finder that the options ask for."""
    protocol = cast(Protocol, given.protocol)
    if protocol == "mptcp":
        multipath.allow_here()
    if given.address:
        return FinderByAddress(given.address, given.port, protocol)
    return FinderByName(given.name, given.server, given.ip_version, given.port, protocol)


def request(method: str) -> bytes:
    """Return a request for the one document that a task's server has."""
    return f"{method} / HTTP/1.1\r\nHost: task\r\n\r\n".encode()


def head(connected: socket.socket) -> tuple[bytes, bytes]:
    """Return the head of an answer, and what has come of its body.  Raises OSError."""
    found = b""
    while b"\r\n\r\n" not in found:
        said = connected.recv(65536)
        if not said:
            raise ConnectionResetError("the answer has ended early")
        found += said
    first, _, rest = found.partition(b"\r\n\r\n")
    if not first.startswith(b"HTTP/1.1 200 "):
        raise ConnectionResetError("the answer is not what was asked for")
    return first, rest


def closed(each: socket.socket | None) -> None:
    """Close a socket, if there is one."""
    if each is not None:
        with suppress(OSError):
            each.close()
