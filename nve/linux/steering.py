"""One processor takes in all that comes by an interface, in order (receive packet steering).

The kernel takes in what comes out of a virtual cable on the processor on which it was sent, from a
queue of that processor.  So a packet that waits in one of them is overtaken by a later one that
somebody sends from another processor; where processors are busy, by many.
"""

import os

from nve.linux.namespace import run_in

_MASKED = 32
"""How many processors a mask of one word names."""


def take_in_by_one_processor(pid: int, interface: str) -> None:
    """Of an interface in the network namespace of process `pid`."""
    processors = sorted(each for each in os.sched_getaffinity(0) if each < _MASKED)
    mask = 1 << processors[sum(interface.encode()) % len(processors)]
    # The /sys of a network namespace shows its interfaces where it is mounted from inside.
    file = f"/sys/class/net/{interface}/queues/rx-0/rps_cpus"
    steered = f"mount -t sysfs none /sys && echo {mask:x} > {file}"
    run_in(pid, ["unshare", "--mount", "sh", "-c", steered])
