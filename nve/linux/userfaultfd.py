"""The kernel's userfaultfd: another process handles the page faults in a process's memory.

    MISSING         whoever touches a missing page waits until somebody has filled it (`copy`):
                    post-copy
    WRITE_PROTECT   the kernel notes which pages are written (`nve.linux.written_pages`)

See Documentation/admin-guide/mm/userfaultfd.rst.  Needs root (vm.unprivileged_userfaultfd).
"""

import ctypes
import errno
import fcntl
import os
import struct
from collections.abc import Iterator

PAGE_SIZE = 4096
MISSING, WRITE_PROTECT = 1, 2
MISSING_SHARED_MEMORY, WP_UNPOPULATED, WP_ASYNC = 1 << 5, 1 << 13, 1 << 15
"""Features to ask for."""

_USERFAULTFD = 323  # the system call, on x86-64
_TYPE = 0xAA
_PAGE_FAULT = 0x12
_MESSAGE = struct.Struct("=B7xQQQ")  # event, flags, address, thread
_COPY_ARGUMENT = struct.Struct("=QQQQq")  # to, from, length, mode, copied
_MESSAGES_AT_ONCE = 64

_libc = ctypes.CDLL(None, use_errno=True)


def _ioc(direction: int, number: int, size: int) -> int:
    return direction << 30 | size << 16 | _TYPE << 8 | number


_API, _REGISTER, _COPY = _ioc(3, 0x3F, 24), _ioc(3, 0x00, 32), _ioc(3, 0x03, 40)
_WAKE = _ioc(2, 0x02, 16)


def registered(address: int, length: int, mode: int, features: int) -> int:
    """Register memory of this process in a mode; return the descriptor.

    The registration lasts until all who have the descriptor have closed it.  Raises OSError if the
    kernel does not support it.
    """
    descriptor = _opened(features)
    try:
        argument = struct.pack("=QQQQ", address, length, mode, 0)
        fcntl.ioctl(descriptor, _REGISTER, bytearray(argument))
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _opened(features: int) -> int:
    descriptor = int(_libc.syscall(_USERFAULTFD, os.O_CLOEXEC | os.O_NONBLOCK))
    if descriptor < 0:
        raise OSError(ctypes.get_errno(), "userfaultfd")
    try:
        fcntl.ioctl(descriptor, _API, bytearray(struct.pack("=QQQ", _TYPE, features, 0)))
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def missing_available() -> bool:
    """Return whether the kernel can make a process wait for missing pages of shared memory."""
    try:
        os.close(_opened(MISSING_SHARED_MEMORY))
    except OSError:
        return False
    return True


def faults(descriptor: int) -> Iterator[int]:
    """Yield the addresses whose access has begun to wait since the last call."""
    try:
        octets = os.read(descriptor, _MESSAGES_AT_ONCE * _MESSAGE.size)
    except BlockingIOError:  # no further access waits
        return
    for event, _, address, _ in _MESSAGE.iter_unpack(octets):
        if event == _PAGE_FAULT:
            yield address


def copy(descriptor: int, target: int, source: int, length: int) -> None:
    """Fill missing pages with a copy of this process's memory; whoever waits for them continues.

    Raises FileExistsError if one of them is not missing.
    """
    done = 0
    while done < length:
        argument = bytearray(_COPY_ARGUMENT.pack(target + done, source + done, length - done, 0, 0))
        try:
            fcntl.ioctl(descriptor, _COPY, argument)
            return
        except OSError as error:
            if error.errno != errno.EAGAIN:  # its memory map was being changed: go on from there
                raise
        done += max(0, _COPY_ARGUMENT.unpack(argument)[-1])


def wake(descriptor: int, address: int) -> None:
    """Wake whoever waits for this page, to access it again."""
    fcntl.ioctl(descriptor, _WAKE, struct.pack("=QQ", address, PAGE_SIZE))
