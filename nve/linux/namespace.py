"""Does things inside another network namespace, which is named by a process that lives in it.

The namespaces of the data centre are anonymous: no file below /run/netns names them, so a killed
run leaves none behind.  A thread enters one through /proc/<pid>/ns/net, does something, and
returns; other threads of the process do not notice, because a namespace belongs to a thread.  What
is created meanwhile (a socket, a child process) stays there.
"""

import ctypes
import os
import re
import subprocess
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from nve.linux import ipv6
from nve.linux.turns import starting

CLONE_NEWNET = 0x40000000

_libc = ctypes.CDLL(None, use_errno=True)


@contextmanager
def inside(pid: int) -> Iterator[None]:
    """Put the current thread into the network namespace of process `pid` for the block."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        there = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            _set_namespace(there)
        finally:
            os.close(there)
        try:
            yield
        finally:
            _set_namespace(home)
    finally:
        os.close(home)


def run_in(pid: int, argv: Sequence[str], text: str | None = None) -> str:
    """Run a command in a namespace with `text` as its input; return what it printed."""
    with inside(pid):
        return run(argv, text)


def run(argv: Sequence[str], text: str | None = None, env: Mapping[str, str] | None = None) -> str:
    """Run a command; return what it printed.

    Raises RuntimeError with the command and its error message if it fails.
    """
    pipe = subprocess.PIPE
    with starting():
        started = subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=pipe, text=True, env=env)
    with started:
        try:
            said, complaint = started.communicate(text or "")
        except BaseException:  # such as Ctrl-C: it is not waited for
            started.kill()
            raise
    if started.returncode != 0:
        raise RuntimeError(
            f"'{' '.join(argv)}' failed ({started.returncode}): {complaint.strip() or said}"
        )
    return said


def ip(pid: int, commands: Sequence[str]) -> None:
    """Run `ip` commands with one process in a namespace.

    Their IPv6 parts are left out if the kernel has no IPv6.
    """
    _batch(pid, "ip", commands if ipv6.available() else ipv6.left_out(commands))


def tc(pid: int, commands: Sequence[str]) -> None:
    """Run `tc` commands in the same way."""
    _batch(pid, "tc", commands)


def bridge(pid: int, commands: Sequence[str]) -> None:
    """Run `bridge` commands in the same way."""
    _batch(pid, "bridge", commands)


def _batch(pid: int, tool: str, commands: Sequence[str]) -> None:
    try:
        run_in(pid, [tool, "-batch", "-"], "\n".join(commands) + "\n")
    except RuntimeError as error:
        line = re.search(r"Command failed -:(\d+)", str(error))
        if line is None:
            raise
        raise RuntimeError(f"'{tool} {commands[int(line[1]) - 1]}': {error}") from None


def without_carrier(pid: int, interfaces: Collection[str]) -> str | None:
    """Return a sentence with the interfaces that the kernel does not treat as connected yet, or
    None.

    This takes a moment after both ends of a cable are up; until then, the kernel drops what is
    sent.
    """
    shown = run_in(pid, ["ip", "-brief", "link", "show"])
    states = {line.split()[0].partition("@")[0]: line.split()[1] for line in shown.splitlines()}
    waiting = [name for name in interfaces if states.get(name) != "UP"]
    return f"no carrier on {', '.join(waiting)}" if waiting else None


def set_sysctls(pid: int, values: Mapping[str, int]) -> None:
    """Set network sysctls of a namespace, named by their path below /proc/sys/net.

    Those of IPv6 are left out if the kernel has no IPv6.
    """
    with inside(pid):
        for name, value in values.items():
            if name.startswith("ipv6/") and not ipv6.available():
                continue
            Path("/proc/sys/net", name).write_text(str(value), encoding="utf-8")


def _set_namespace(descriptor: int) -> None:
    if _libc.setns(descriptor, CLONE_NEWNET) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"cannot enter a network namespace: {os.strerror(error)}")
