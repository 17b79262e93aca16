"""Makes one processor take in everything that comes by a cable, so that order is kept.

The kernel takes in what comes out of a virtual cable on the processor on which it was sent, from a
queue of that processor.  So a packet that waits in one queue is overtaken by a later one that was
sent from another processor; if processors are busy, by many.  What a kernel forwards is sent from
the processor on which it was taken in or released: order would be lost at each cable on the way.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from nve.linux.namespace import run_in
from nve.linux.wait import wait_until

_AGAIN_S = 20e-6
_BACKLOG = 11
"""The column of /proc/net/softnet_stat that says how many packets wait (Linux 5.10)."""
_MASKED = 32
"""The number of processors that a mask of one word names."""


def take_in_by_one_processor(pid: int, interfaces: Sequence[str], place: str = "") -> None:
    """Make one processor take in what arrives on each interface in the network namespace of `pid`.

    The processor follows from the interface's name and `place`, so that interfaces of the same name
    do not all get the same one.
    """
    processors = sorted(each for each in os.sched_getaffinity(0) if each < _MASKED)
    if not interfaces:
        return
    # The /sys of a network namespace shows its interfaces where it is mounted from inside.
    steered = ["mount -t sysfs none /sys"]
    for interface in interfaces:
        mask = 1 << processors[sum(f"{place}{interface}".encode()) % len(processors)]
        steered.append(f"echo {mask:x} > /sys/class/net/{interface}/queues/rx-0/rps_cpus")
    run_in(pid, ["unshare", "--mount", "sh", "-c", " && ".join(steered)])


def stay_on_one_processor(pid: int, place: int) -> None:
    """Bind a process and all threads that it is going to start to one processor.

    Processes with different places share the processors evenly.
    """
    processors = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(pid, {processors[place % len(processors)]})


def go_first(pid: int, priority: int) -> None:
    """Give a process, with all threads that it is going to start, a real-time priority.

    A packet that waits for it is overtaken by those that do not have to, so that it goes before the
    senders of probes.
    """
    with suppress(PermissionError):  # not everywhere is root allowed real-time processes
        os.sched_setscheduler(pid, os.SCHED_FIFO, os.sched_param(priority))


def await_backlogs(timeout_s: float) -> None:
    """Return when what waited in the queues of all processors has been taken in.

    Raises TimeoutError.
    """
    waiting = set(_backlogs())

    def left() -> str | None:
        waiting.intersection_update(_backlogs())
        return f"packets wait on the processors {sorted(waiting)}" if waiting else None

    wait_until(left, timeout_s, _AGAIN_S)


def _backlogs() -> Iterator[int]:
    """Yield the processors whose queue is not empty."""
    lines = Path("/proc/net/softnet_stat").read_text(encoding="ascii").splitlines()
    columns = (line.split() for line in lines)
    return (number for number, each in enumerate(columns) if int(each[_BACKLOG], 16))
