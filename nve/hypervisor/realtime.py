"""Being served first while a VM is switched over: its pause is to be what was asked for, not more.

A hypervisor's switch-over does not queue for a CPU behind what else its server does, and switches
and a control plane have servers of their own.  Here all of them are processes beside each other,
and beside probes, on few cores; without this, pauses and silences are milliseconds longer, which
is the machine's doing and no protocol's.

Not for longer: a switch that always goes first is woken for every packet instead of for a few.
"""

import gc
import os
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

_SWITCH_INTERVAL_S = 100e-6
_IN_LINE, _BEFORE_ALL = 1, 2
"""Real-time priorities: that of first_in_line and of probes' senders, and that of a switch-over."""
_lock = threading.Lock()
_urgent = 0
_usual_s = sys.getswitchinterval()


@dataclass
class _Raised:
    """A process that has priority, for how many users, and its threads that would have it
    anyway.
    """

    holders: int
    anyway: set[int]


_raised: dict[int, _Raised] = {}


@contextmanager
def first_in_line(processes: Iterable[int], services: Iterable[int] = ()) -> Iterator[None]:
    """Give all threads of these processes priority over others in the block.

    The threads that `services` start meanwhile get it as well; those that the other processes start
    do not, nor do their children, which may live long.  Threads that have a real-time priority
    already stay as they are.
    """
    wanted = [(each, os.SCHED_RESET_ON_FORK) for each in processes]
    wanted += [(each, 0) for each in services]
    with _lock:
        for process, flag in wanted:
            _raise(process, os.SCHED_FIFO | flag)
    try:
        yield
    finally:
        with _lock:
            for process, _ in wanted:
                _lower(process)


def _threads(process: int) -> list[int]:
    try:
        return [int(name) for name in os.listdir(f"/proc/{process}/task")]
    except OSError:  # it has ended
        return []


def _raise(process: int, policy: int) -> None:
    raised = _raised.setdefault(process, _Raised(0, set()))
    raised.holders += 1
    if raised.holders > 1:
        return
    for thread in _threads(process):
        with suppress(OSError):  # ended, or real-time processes are not allowed here
            if os.sched_getscheduler(thread) == os.SCHED_OTHER:
                os.sched_setscheduler(thread, policy, os.sched_param(_IN_LINE))
            elif os.sched_getparam(thread).sched_priority == _IN_LINE:
                raised.anyway.add(thread)


def _lower(process: int) -> None:
    raised = _raised[process]
    raised.holders -= 1
    if raised.holders:
        return
    del _raised[process]
    for thread in set(_threads(process)) - raised.anyway:
        with suppress(OSError):
            if os.sched_getparam(thread).sched_priority == _IN_LINE:
                os.sched_setscheduler(thread, os.SCHED_OTHER, os.sched_param(0))


@contextmanager
def realtime_priority() -> Iterator[None]:
    """Give what the current thread does in the block priority over what others do.

    To the kernel it has a real-time priority above those of `first_in_line`, if root may give one;
    processes that it starts do not inherit that.  Within this process, other threads give the
    interpreter back sooner, and there is no garbage collection.
    """
    _share_sooner(1)
    usual, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    with suppress(PermissionError):  # not everywhere is root allowed real-time processes
        os.sched_setscheduler(
            0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(_BEFORE_ALL)
        )
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
