"""Pausing and resuming a VM: the cgroup v2 freezer.

Freezing stops all processes of a cgroup, children forked later included, without their noticing
(unlike SIGSTOP).  It does not stop the guest's network stack, which is the kernel's: a paused VM
would still answer ARP and acknowledge TCP.  So whoever pauses a VM gates its plug, too (plug.py).

The kernel reports in cgroup.events when the last process has stopped; a change there wakes a poll
for POLLPRI.  Takes about 0.5 ms.
"""

import os
import select
import time
from pathlib import Path

TIMEOUT_S = 2.0


def freeze(cgroup: Path) -> None:
    """Returns when every process of the cgroup has stopped.  Raises TimeoutError."""
    _set_frozen(cgroup, True)


def thaw(cgroup: Path) -> None:
    """Returns when the processes of the cgroup run again.  Raises TimeoutError."""
    _set_frozen(cgroup, False)


def is_frozen(cgroup: Path) -> bool:
    """Whether the processes of the cgroup are stopped."""
    return "frozen 1" in (cgroup / "cgroup.events").read_text()


def _set_frozen(cgroup: Path, frozen: bool) -> None:
    wanted = f"frozen {int(frozen)}"
    deadline = time.monotonic() + TIMEOUT_S
    events = os.open(cgroup / "cgroup.events", os.O_RDONLY)
    try:
        changes = select.poll()
        changes.register(events, select.POLLPRI)
        (cgroup / "cgroup.freeze").write_text(str(int(frozen)))
        while wanted not in (now := os.pread(events, 200, 0).decode()):
            left_ms = (deadline - time.monotonic()) * 1000
            if left_ms <= 0:
                raise TimeoutError(
                    f"{cgroup} is not '{wanted}' after {TIMEOUT_S:g} s but '{now.strip()}'"
                )
            changes.poll(left_ms)
    finally:
        os.close(events)
