"""Room in the packet sockets of a userspace switch.

Open vSwitch's userspace datapath reads each port from a packet socket and writes all ports through
one.  The kernel gives a socket room for some two hundred small packets.  That is too little here,
in both directions: a switch that is busy for 40 ms (it adds a port, it revalidates its flows) would
lose packets that a switch in the kernel does not, and packets that wait in a gate
(`nve.hypervisor.gate`) count against the switch's one sending socket until they are delivered, for
all its VMs.

The sockets belong to another process; root can borrow them (pidfd_getfd, Linux 5.6) and set their
sizes, without changing the machine's defaults.
"""

import ctypes
import os
import socket
from pathlib import Path

SOCKET_BYTES = 64 << 20
_SO_SNDBUFFORCE, _SO_RCVBUFFORCE = 32, 33
_PIDFD_GETFD = 438
_libc = ctypes.CDLL(None, use_errno=True)


def enlarge_packet_sockets(pid: int) -> int:
    """Give every packet socket of a process room for `SOCKET_BYTES`; returns how many it has."""
    inodes = _packet_socket_inodes(pid)
    process = os.pidfd_open(pid)
    try:
        descriptors = [
            int(entry.name)
            for entry in Path(f"/proc/{pid}/fd").iterdir()
            if _inode(entry) in inodes
        ]
        for descriptor in descriptors:
            _enlarge(process, descriptor)
    finally:
        os.close(process)
    return len(descriptors)


def _enlarge(process: int, descriptor: int) -> None:
    borrowed = _libc.syscall(_PIDFD_GETFD, process, descriptor, 0)
    if borrowed < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"cannot borrow a socket: {os.strerror(error)}")
    with socket.socket(fileno=borrowed) as packet_socket:
        for option in (_SO_SNDBUFFORCE, _SO_RCVBUFFORCE):
            packet_socket.setsockopt(socket.SOL_SOCKET, option, SOCKET_BYTES)


def _packet_socket_inodes(pid: int) -> set[str]:
    """The inodes of all packet sockets in the process's network namespace."""
    lines = Path(f"/proc/{pid}/net/packet").read_text(encoding="utf-8").splitlines()[1:]
    return {line.split()[-1] for line in lines}


def _inode(entry: Path) -> str | None:
    try:
        target = os.readlink(entry)
    except OSError:  # closed meanwhile
        return None
    return target[8:-1] if target.startswith("socket:[") else None
