"""Suspends and resumes a VM with the cgroup v2 freezer.

Freezing stops all processes of a cgroup, children forked later included, without their noticing
(unlike SIGSTOP).  It does not stop the guest's network stack, which is the kernel's: a suspended VM
would still answer ARP and acknowledge TCP.  So its plug has to be shut as well (plug.py).

The kernel reports in cgroup.events when the last process has stopped, which is polled here: being
woken by a change there takes a worker of the kernel's, and up to 10 ms if there was a change
shortly before.  Freezing takes some 0.2 ms, thawing a tenth of that.
"""

import os
from pathlib import Path

from nve.linux.wait import wait_until

TIMEOUT_S = 2.0
_AGAIN_S = 10e-6
"""The time between two polls, which take less than this; it leaves the CPU to the processes."""


def freeze(cgroup: Path) -> None:
    """Freeze a cgroup; return when every process has stopped.  Raises TimeoutError."""
    _set_frozen(cgroup, True)


def thaw(cgroup: Path) -> None:
    """Thaw a cgroup; return when its processes run again.  Raises TimeoutError."""
    _set_frozen(cgroup, False)


def is_frozen(cgroup: Path) -> bool:
    """Return whether the processes of the cgroup are stopped."""
    return "frozen 1" in (cgroup / "cgroup.events").read_text(encoding="utf-8")


def _set_frozen(cgroup: Path, frozen: bool) -> None:
    wanted = b"frozen %d" % frozen
    events = os.open(cgroup / "cgroup.events", os.O_RDONLY)

    def difference() -> str | None:
        now = os.pread(events, 200, 0)
        return None if wanted in now else f"{cgroup} is not '{wanted!r}' but {now!r}"

    try:
        switch = os.open(cgroup / "cgroup.freeze", os.O_WRONLY)
        try:
            os.write(switch, b"%d" % frozen)
        finally:
            os.close(switch)
        wait_until(difference, TIMEOUT_S, _AGAIN_S)
    finally:
        os.close(events)
