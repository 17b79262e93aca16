"""A process that does not know that it is moved: its sockets are taken from outside.

`command` is what is run; `{ipv4}` and `{ipv6}` in it stand for the task's addresses.  For a move
the process is stopped (SIGSTOP), and copies of its TCP sockets are taken (`pidfd_getfd`).  When
they are at the destination, `nve.linux.injection` makes the process itself replace its own sockets
by them and enter the destination's network namespace and cgroup.  Then it continues: it has waited
for its sockets, and they have the same numbers.

Its memory is not sent, as both hosts are on one machine and it stays where it is.  The process has
one thread.  A connection that it had not accepted is closed.
"""

import ctypes
import json
import os
import re
import select
import shutil
import signal
import socket
import struct
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from nve.linux.capabilities import cgroup2_mount
from nve.linux.injection import Injection, go_on, injected, stands_still, stop
from nve.linux.namespace import CLONE_NEWNET
from nve.linux.wait import wait_until
from nve.task.program import Place, Socket

_PATIENCE_MS: Final = 10
_STOP_S: Final = 2.0
# asm/unistd_64.h
_CLOSE, _EPOLL_CTL, _DUP3, _SETNS, _PIDFD_OPEN, _PIDFD_GETFD = 3, 233, 292, 308, 434, 438
_EPOLL_ADD: Final = 1
_WATCHED: Final = re.compile(r"^tfd:\s*(\d+) events:\s*([0-9a-f]+) data:\s*([0-9a-f]+)", re.M)


_libc = ctypes.CDLL(None, use_errno=True)


class ProcessGone(RuntimeError):
    """The process has ended, although it should not."""


@dataclass(frozen=True)
class ProcessArguments:
    """The arguments that a scenario gives it."""

    command: list[str]

    def __post_init__(self) -> None:
        if not self.command or shutil.which(self.command[0]) is None:
            named = self.command[0] if self.command else ""
            raise ValueError(f"command: there is no program {named!r} on this machine; install it")


class Program:
    """The process, and the copies of its sockets."""

    ARGUMENTS: Final = ProcessArguments

    def __init__(self) -> None:
        self._pid = 0
        self._numbers: list[int] = []
        """The numbers of the sockets' descriptors in the process."""
        self._blocking: list[bool] = []
        self._sockets: list[Socket | None] = []
        """Copies of what they stand for, or what is to take their place."""
        self._watched: list[tuple[int, int, int, int]] = []
        self._moved = False

    def start(self, place: Place) -> None:
        named = {f"ipv{address.version}": str(address) for address in place.addresses}
        given = ProcessArguments(**place.arguments)
        try:
            command = [word.format(**named) for word in given.command]
        except (KeyError, IndexError, ValueError) as error:
            raise RuntimeError(
                f"command: only {' and '.join(f'{{{each}}}' for each in named)} can be put in "
                f"place ({error}); write other braces twice"
            ) from None
        quiet = subprocess.DEVNULL
        started = subprocess.Popen(command, stdin=quiet, stdout=quiet, stderr=quiet)
        self._pid = started.pid

    def work(self) -> None:
        select.poll().poll(_PATIENCE_MS)
        with suppress(ChildProcessError):  # of another host's process
            os.waitpid(self._pid, os.WNOHANG)
        if not Path(f"/proc/{self._pid}").exists():
            raise ProcessGone(f"process {self._pid} has ended")

    def pause(self) -> None:
        """Stop the process.  Raises InjectionError if it cannot be moved."""
        stop(self._pid)
        wait_until(lambda: None if stands_still(self._pid) else "it runs", _STOP_S, poll_s=0.0001)

    def checkpoint(self) -> tuple[bytes, Sequence[Socket]]:
        self._give_copies_back()
        found = dict(_tcp_sockets(self._pid))
        self._numbers, self._sockets = list(found), list(found.values())
        self._blocking = [os.get_blocking(each.fileno()) for each in found.values()]
        state = {
            "pid": self._pid,
            "numbers": self._numbers,
            "blocking": self._blocking,
            "watched": list(_watched(self._pid, self._numbers)),
        }
        return json.dumps(state).encode(), list(found.values())

    def restore(self, state: bytes, sockets: Sequence[Socket | None]) -> None:
        told = json.loads(state)
        self._moved = told["pid"] != self._pid
        self._pid, self._numbers = told["pid"], told["numbers"]
        self._blocking, self._watched = told["blocking"], told["watched"]
        self._sockets = list(sockets)

    def take_over(self) -> None:
        """Let the process continue with these sockets."""
        for each, blocking in zip(self._sockets, self._blocking, strict=False):
            if each is not None:
                each.setblocking(blocking)
        if self._moved:
            with injected(self._pid) as process:
                self._bring_here(process)
            _into_our_cgroup(self._pid)
        self._give_copies_back()
        go_on(self._pid)

    def end(self) -> None:
        """Kill the process; this is safe if it has ended."""
        with suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGKILL)

    def _bring_here(self, process: Injection) -> None:
        ours = process.call(_PIDFD_OPEN, os.getpid(), 0)
        process.call(_SETNS, ours, CLONE_NEWNET)
        for number, each in zip(self._numbers, self._sockets, strict=False):
            if each is not None:
                taken = process.call(_PIDFD_GETFD, ours, each.fileno(), 0)
                # This closes the former socket, which is in repair mode: the peer is not told.
                process.call(_DUP3, taken, number, 0)
                process.call(_CLOSE, taken)
        for poll, number, events, data in self._watched:
            event = process.put(struct.pack("=IQ", events, data))
            process.call(_EPOLL_CTL, poll, _EPOLL_ADD, number, event)
        process.call(_CLOSE, ours)

    def _give_copies_back(self) -> None:
        """Close the copies, so that a connection is closed when the process closes it."""
        for each in filter(None, self._sockets):
            each.close()
        self._sockets = []


def _tcp_sockets(pid: int) -> list[tuple[int, Socket]]:
    """Return its listening and connected TCP sockets, by their numbers in the process."""
    opened = os.pidfd_open(pid)
    found = []
    try:
        for name in sorted(os.listdir(f"/proc/{pid}/fd"), key=int):
            with suppress(OSError):
                if os.readlink(f"/proc/{pid}/fd/{name}").startswith("socket:"):
                    each = socket.socket(fileno=_taken(opened, int(name)))
                    if _is_tcp(each):
                        found.append((int(name), each))
                    else:
                        each.close()
    finally:
        os.close(opened)
    return found


def _taken(pidfd: int, number: int) -> int:
    """Return a copy of a descriptor of another process.  Raises OSError."""
    taken: int = _libc.syscall(_PIDFD_GETFD, pidfd, number, 0)
    if taken < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return taken


def _is_tcp(each: Socket) -> bool:
    return (
        each.family in (socket.AF_INET, socket.AF_INET6)
        and each.type == socket.SOCK_STREAM
        and each.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] != 7  # not connected
    )


def _watched(pid: int, numbers: Sequence[int]) -> list[tuple[int, int, int, int]]:
    """Return what its epoll instances watch of these: instance, descriptor, events, data."""
    found = []
    for name in os.listdir(f"/proc/{pid}/fd"):
        with suppress(OSError):
            if os.readlink(f"/proc/{pid}/fd/{name}") == "anon_inode:[eventpoll]":
                text = Path(f"/proc/{pid}/fdinfo/{name}").read_text(encoding="ascii")
                for number, events, data in _WATCHED.findall(text):
                    if int(number) in numbers:
                        found.append((int(name), int(number), int(events, 16), int(data, 16)))
    return found


def _into_our_cgroup(pid: int) -> None:
    mount = cgroup2_mount()
    for line in Path("/proc/self/cgroup").read_text(encoding="ascii").splitlines():
        if mount and line.startswith("0::"):
            procs = mount / line[3:].strip().lstrip("/") / "cgroup.procs"
            procs.write_text(str(pid), encoding="ascii")
