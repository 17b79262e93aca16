"""One processor takes in all that comes by a cable, in order.

The kernel takes in what comes out of a virtual cable on the processor on which it was sent, from a
queue of that processor.  So a packet that waits in one of them is overtaken by a later one that
somebody sends from another processor; where processors are busy, by many.  What a kernel forwards
is sent from wherever it was taken in or let go: order is lost at each cable on the way.
"""

import os
from collections.abc import Sequence

from nve.linux.namespace import run_in

_MASKED = 32
"""How many processors a mask of one word names."""


def take_in_by_one_processor(pid: int, interfaces: Sequence[str], place: str = "") -> None:
    """Of each of these interfaces in the network namespace of process `pid`.

    Which one it is follows from the name, together with that of its place, so that interfaces of
    the same name do not all have the same one.
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
    """A process, with all threads that it is going to start; those with different places share the
    processors evenly."""
    processors = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(pid, {processors[place % len(processors)]})
