"""Which processor takes in what comes by an interface: always the same, so that order holds.

A veth's other end hands its packets to the processor that their sender happens to run on, and each
processor has a queue of its own, which on a busy machine waits for milliseconds.  So when a sender,
such as a userspace switch, goes on on another processor, later packets overtake earlier ones; and a
frame that is sent after others in order to come out after them (`nve.sounder`, `nve.endmarker`)
proves nothing.  Receive packet steering (Documentation/networking/scaling.rst of the kernel) to a
single processor makes one queue of them.

It is set by sysfs, which shows the interfaces of the namespace that it was mounted in.  The mount
made here has no place in the file system, and ends with its descriptor (fsmount, Linux 5.2).
"""

import ctypes
import os
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager

from nve.namespace import inside

_FSOPEN, _FSCONFIG, _FSMOUNT = 430, 431, 432  # the same on all architectures
_FSCONFIG_CMD_CREATE = 6
_CLOEXEC = 1  # FSOPEN_CLOEXEC, FSMOUNT_CLOEXEC
_libc = ctypes.CDLL(None, use_errno=True)


def steer(pid: int, node: str, interfaces: Collection[str]) -> None:
    """What comes by these interfaces of the namespace of `pid` is taken in by one processor.

    It is the same for all interfaces of a node, and for consecutive numbers in nodes' names
    different ones take turns.  Raises OSError.
    """
    mask = mask_of(processor(node, sorted(os.sched_getaffinity(0)))).encode()
    with inside(pid), _sysfs() as mount:
        for interface in interfaces:
            path = f"class/net/{interface}/queues/rx-0/rps_cpus"
            file = os.open(path, os.O_WRONLY | os.O_CLOEXEC, dir_fd=mount)
            try:
                os.write(file, mask)
            finally:
                os.close(file)


def processor(node: str, available: Sequence[int]) -> int:
    """One of the available processors, for a node of this name."""
    return available[sum(node.encode()) % len(available)]


def mask_of(processor: int) -> str:
    """A processor as the kernel writes sets of them: hexadecimal, 32 bits between commas."""
    return f"{1 << processor % 32:x}" + ",00000000" * (processor // 32)


@contextmanager
def _sysfs() -> Iterator[int]:
    """A directory: /sys as it is in the current network namespace."""
    context = _call(_FSOPEN, b"sysfs", _CLOEXEC)
    try:
        _call(_FSCONFIG, context, _FSCONFIG_CMD_CREATE, None, None, 0)
        mount = _call(_FSMOUNT, context, _CLOEXEC, 0)
    finally:
        os.close(context)
    try:
        yield mount
    finally:
        os.close(mount)


def _call(number: int, *arguments: object) -> int:
    result = int(_libc.syscall(number, *arguments))
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"cannot look into sysfs of a namespace: {os.strerror(error)}")
    return result
