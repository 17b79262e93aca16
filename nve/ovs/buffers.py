"""The packet sockets of a userspace switch: enlarges them, and says when one is empty.

Open vSwitch's userspace datapath reads each port from a packet socket and writes all ports through
one.  The kernel gives a socket room for some two hundred small packets.  That is too little here,
in both directions: a switch that is busy for 40 ms (it adds a port, it revalidates its flows) would
lose packets that a switch in the kernel does not lose, and packets that wait in a gate
(`nve.hypervisor.gate`) count against the switch's one sending socket until they are delivered, for
all its VMs.

The sockets belong to another process; root can borrow them (pidfd_getfd, Linux 5.6) and set their
sizes, without changing the machine's defaults.
"""

import ctypes
import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

from nve.linux.steering import await_backlogs
from nve.linux.wait import wait_until

SOCKET_BYTES = 64 << 20
_SO_SNDBUFFORCE, _SO_RCVBUFFORCE, _SO_MEMINFO = 32, 33, 55
_MEMINFO, _WAITING, _DROPS = struct.Struct("=9I"), 0, 8  # linux/sock_diag.h, SK_MEMINFO_*
_AGAIN_S = 20e-6
_PIDFD_GETFD = 438
_libc = ctypes.CDLL(None, use_errno=True)


def enlarge_packet_sockets(pid: int) -> int:
    """Set the size of every packet socket of a process to `SOCKET_BYTES`; return their number."""
    number = 0
    for packet_socket in _borrowed(pid):
        for option in (_SO_SNDBUFFORCE, _SO_RCVBUFFORCE):
            packet_socket.setsockopt(socket.SOL_SOCKET, option, SOCKET_BYTES)
        number += 1
    return number


def dropped_by_packet_sockets(pid: int) -> int:
    """Return how many packets the packet sockets of a process have dropped for lack of room."""
    return sum(_meminfo(each)[_DROPS] for each in _borrowed(pid))


class Inlet:
    """What has come to a userspace switch by one of its ports, and waits there.

    Make it beforehand: to find the port's socket takes longer than all the rest.
    """

    def __init__(self, pid: int, interface: str) -> None:
        """Find the switch's socket for a port.  Raises RuntimeError if there is no such port."""
        # Not by `socket.dup`: that would make the switch's own socket a blocking one.
        found = (
            socket.socket(fileno=os.dup(each.fileno()))
            for each in _borrowed(pid)
            if each.getsockname()[0] == interface
        )
        inlet = next(found, None)
        if inlet is None:
            raise RuntimeError(f"{interface} is no port of process {pid}")
        self._socket, self._interface = inlet, interface

    def await_taken_in(self, timeout_s: float) -> None:
        """Return when the switch has taken in what had come when this was called.

        It deals with that before it looks at another port.  Raises TimeoutError.
        """
        await_backlogs(timeout_s)
        wait_until(self._left, timeout_s, _AGAIN_S)

    def _left(self) -> str | None:
        octets = _meminfo(self._socket)[_WAITING]
        return f"{octets} octets wait in {self._interface}" if octets else None

    def close(self) -> None:
        self._socket.close()


def _meminfo(packet_socket: socket.socket) -> tuple[int, ...]:
    read = packet_socket.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, _MEMINFO.size)
    return _MEMINFO.unpack(read)


def _borrowed(pid: int) -> Iterator[socket.socket]:
    """Yield each packet socket of a process, open as long as the caller looks at it."""
    inodes = _packet_socket_inodes(pid)
    process = os.pidfd_open(pid)
    try:
        for entry in list(Path(f"/proc/{pid}/fd").iterdir()):
            if _inode(entry) not in inodes:
                continue
            borrowed = _libc.syscall(_PIDFD_GETFD, process, int(entry.name), 0)
            if borrowed < 0:
                error = ctypes.get_errno()
                raise OSError(error, f"cannot borrow a socket: {os.strerror(error)}")
            with socket.socket(fileno=borrowed) as packet_socket:
                yield packet_socket
    finally:
        os.close(process)


def _packet_socket_inodes(pid: int) -> set[str]:
    """Return the inodes of all packet sockets in the process's network namespace."""
    lines = Path(f"/proc/{pid}/net/packet").read_text(encoding="utf-8").splitlines()[1:]
    return {line.split()[-1] for line in lines}


def _inode(entry: Path) -> str | None:
    try:
        target = os.readlink(entry)
    except OSError:  # closed meanwhile
        return None
    return target[8:-1] if target.startswith("socket:[") else None
