"""Being served first while a VM stands still: its pause is to be what was asked for, not more.

A hypervisor's switch-over does not queue for a CPU behind what else its server does.  Here it is
one thread of one process, beside switches, probes and a control plane on few cores; without this,
some pauses and recoveries are milliseconds longer, which is the machine's doing and no protocol's.
"""

import gc
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_SWITCH_INTERVAL_S = 100e-6
_lock = threading.Lock()
_urgent = 0
_usual_s = sys.getswitchinterval()


@contextmanager
def realtime_priority() -> Iterator[None]:
    """What the current thread does in the block goes before what others do.

    For the kernel it has a real-time priority, if root may give one; processes that it starts do
    not inherit that.  Within this process, other threads give the interpreter back sooner, and
    nobody collects garbage.
    """
    _share_sooner(1)
    usual, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    with suppress(PermissionError):  # not everywhere is root allowed real-time processes
        os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(1))
    try:
        yield
    finally:
        os.sched_setscheduler(0, usual, parameters)
        _share_sooner(-1)


def _share_sooner(more: int) -> None:
    global _urgent
    with _lock:
        _urgent += more
        (gc.disable if _urgent else gc.enable)()
        sys.setswitchinterval(_SWITCH_INTERVAL_S if _urgent else _usual_s)
