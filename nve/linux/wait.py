"""Waits for conditions, never for a length of time.

A check returns None when it is satisfied and a printable difference otherwise; the waiter repeats
it until then, and a time-out reports the last difference.  What else sleeps, and until when, is
listed in tests/unit/test_rules.py.
"""

import select
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Protocol, TypeVar

POLL_S = 0.002
_LONGEST_PACKET = 2048


class HasDescriptor(Protocol):
    """A file, a pipe or a socket."""

    def fileno(self) -> int: ...


File = TypeVar("File", bound=HasDescriptor)


def wait_until(check: Callable[[], str | None], timeout_s: float, poll_s: float = POLL_S) -> None:
    """Return as soon as `check` finds no difference.  Raises TimeoutError with the last one."""
    deadline = time.monotonic() + timeout_s
    while (difference := check()) is not None:
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {timeout_s:g} s: {difference}")
        time.sleep(poll_s)


def readable(file: HasDescriptor, timeout_s: float | None) -> bool:
    """Return whether there is data, or end of file, before the time is over; None waits without
    limit.
    """
    return bool(all_readable([file], timeout_s))


def waiting_in(receiving: socket.socket) -> Iterator[bytes]:
    """Yield each packet that waits in a socket, until none does."""
    with suppress(BlockingIOError):
        while True:
            yield receiving.recv(_LONGEST_PACKET, socket.MSG_DONTWAIT)


def all_readable(files: Sequence[File], timeout_s: float | None = None) -> list[File]:
    """Return the files with data or end of file; none if the time is over first.

    This uses poll, not select, which cannot handle descriptors beyond 1023: a run of many VMs has
    them.
    """
    waiting = select.poll()
    for file in files:
        waiting.register(file, select.POLLIN)
    found = waiting.poll(None if timeout_s is None else max(0.0, timeout_s) * 1000)
    ready = {descriptor for descriptor, _ in found}
    return [file for file in files if file.fileno() in ready]


def sleep_until(t_ns: int) -> None:
    """Return at that time (ns since the epoch), or at once if it is past."""
    while (left_ns := t_ns - time.time_ns()) > 0:
        time.sleep(left_ns / 1e9)
