"""What a program has to have so that it can move while it is connected (R4.2.3).

    class Program:                                    # the whole of one that can move
        def start(self, place: Place) -> None:
            self.sockets, self.octets = place.listen(7), 0

        def work(self) -> None:
            for each in ready(self.sockets, 0.01):
                if listens(each):
                    self.sockets.append(each.accept()[0])
                elif said := each.recv(4096):
                    each.sendall(said)
                    self.octets += len(said)
                else:
                    self.sockets.remove(each)

        def checkpoint(self) -> tuple[bytes, list[Socket]]:
            return str(self.octets).encode(), self.sockets

        def restore(self, state: bytes, sockets: list[Socket | None]) -> None:
            self.sockets, self.octets = [each for each in sockets if each], int(state)

`work` is called over and over, and returns after some milliseconds at most; between two calls the
task may be stopped and moved.  What the program does not name in `checkpoint` does not move.  Of
its sockets, those that listen and those that are connected do; `restore` gets them in the same
order, with None for one that was closed, and behind them connections that nobody had accepted yet.
It only takes them over: they can be used in `work`.  The same happens at the source where a move is
given up.

A program with arguments may name a dataclass of them, `ARGUMENTS`: then a scenario with an argument
that it does not have, or of another type, is refused before anything is built.
"""

import importlib
import pkgutil
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any, Protocol, TypeAlias, cast, runtime_checkable

from nve.linux.wait import all_readable
from nve.model import IPAddress

Socket: TypeAlias = socket.socket

PROGRAMS = "nve.task.programs"
"""The package of the programs that come with vmmlab."""
_MPTCP = 262
"""linux/in.h, IPPROTO_MPTCP."""
_ANY: Mapping[int, IPAddress] = {4: IPv4Address("0.0.0.0"), 6: IPv6Address("::")}


@dataclass(frozen=True)
class Place:
    """A task's place as its program sees it: the task's addresses, which move with it."""

    addresses: tuple[IPAddress, ...]
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """The arguments that the scenario gives the program."""
    multipath: bool = False
    """Connections to it are Multipath TCP's (RFC 8684): they go on over other addresses."""

    def listen(self, port: int, backlog: int = 128) -> list[Socket]:
        """Return a non-blocking listening socket for each address."""
        if not self.multipath:
            return [self._listening(address, port, backlog) for address in self.addresses]
        versions = sorted({address.version for address in self.addresses})
        return [self._listening(_ANY[each], port, backlog, _MPTCP) for each in versions]

    def connect(self, address: str, port: int, timeout_s: float = 10) -> Socket:
        """Return a connection from the task's own address.  Raises OSError."""
        own = next(each for each in self.addresses if each.version == ip_address(address).version)
        return socket.create_connection((address, port), timeout_s, (str(own), 0))

    @staticmethod
    def _listening(address: IPAddress, port: int, backlog: int, protocol: int = 0) -> Socket:
        family = socket.AF_INET if address.version == 4 else socket.AF_INET6
        opened = socket.socket(family, socket.SOCK_STREAM, protocol)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if address.version == 6:
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        opened.bind((str(address), port))
        opened.listen(backlog)
        opened.setblocking(False)
        return opened


class MovableProgram(Protocol):
    """What a program has to offer in order to move."""

    def start(self, place: Place) -> None:
        """Begin the task, at its first host."""

    def work(self) -> None:
        """Do the work that is pending, and return soon."""

    def checkpoint(self) -> tuple[bytes, Sequence[Socket]]:
        """Return what the program has to remember, and its sockets."""

    def restore(self, state: bytes, sockets: Sequence[Socket | None]) -> None:
        """Continue with this state and these sockets, which do not block."""


@runtime_checkable
class FromOutside(Protocol):
    """What a program has to offer in addition if its process does not know of the move."""

    def pause(self) -> None:
        """Stop the process; `checkpoint` follows.  Raises RuntimeError if it cannot be stopped."""

    def take_over(self) -> None:
        """Let the process continue with what was restored."""

    def end(self) -> None:
        """End the process; this is safe at any time."""


class NoSuchProgram(ValueError):
    """There is no program of that name, or it cannot move; the message says what it lacks."""


def ready(sockets: Sequence[Socket], timeout_s: float) -> list[Socket]:
    """Return the sockets that have data, a connection to accept, or end of file."""
    return all_readable(sockets, timeout_s)


def listens(each: Socket) -> bool:
    """Return whether a socket listens for connections."""
    return bool(each.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))


def in_range(what: str, number: int, least: int, most: int) -> None:
    """Raise ValueError if an argument is out of its range."""
    if not least <= number <= most:
        raise ValueError(f"{what} is {number}; give a number from {least} to {most}")


def find(name: str) -> type[MovableProgram]:
    """Return the class of the program `http-server` (`nve/task/programs/http_server.py`), or of
    `package.module:Class`.

    Raises NoSuchProgram.
    """
    module, _, kind = name.partition(":")
    if not kind:
        module, kind = f"{PROGRAMS}.{name.replace('-', '_')}", "Program"
    try:
        found = getattr(importlib.import_module(module), kind)
    except (ImportError, AttributeError) as error:
        why = str(error) if ":" in name else f"there are {', '.join(names())}"
        raise NoSuchProgram(f"there is no program {name!r}; {why}") from None
    except Exception as error:  # of the program's own file
        raise NoSuchProgram(
            f"the program {name!r} cannot be read: {type(error).__name__}: {error}"
        ) from None
    lacking = [
        each for each in ("start", "work", "checkpoint", "restore") if not hasattr(found, each)
    ]
    if lacking:
        lacks = " and no ".join(lacking)
        raise NoSuchProgram(f"the program {name!r} cannot move: it has no {lacks}")
    return cast(type[MovableProgram], found)


def names() -> list[str]:
    """Return the names of the programs that come with vmmlab."""
    modules = pkgutil.iter_modules(importlib.import_module(PROGRAMS).__path__)
    return [
        each.name.replace("_", "-")
        for each in modules
        if hasattr(importlib.import_module(f"{PROGRAMS}.{each.name}"), "Program")
    ]
