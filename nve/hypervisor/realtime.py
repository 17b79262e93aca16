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
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from types import MappingProxyType

from nve.model import Rank

_SWITCH_INTERVAL_S = 100e-6
_lock = threading.Lock()
_urgent = 0
_usual_s = sys.getswitchinterval()


@dataclass
class _Raised:
    """A process that has priority."""

    policy: int
    rank: int = 0
    """The highest of those that its users want."""
    wanted: list[Rank] = field(default_factory=list)
    anyway: set[int] = field(default_factory=set)
    """Its threads that would have it anyway."""


_raised: dict[int, _Raised] = {}


@contextmanager
def first_in_line(
    processes: Mapping[int, Rank], services: Mapping[int, Rank] = MappingProxyType({})
) -> Iterator[None]:
    """Give all threads of these processes their rank, and so priority over others, in the block.

    The threads that `services` start meanwhile get it as well; those that the other processes start
    do not, nor do their children, which may live long.  Threads that have a real-time priority
    already stay as they are.
    """
    wanted = [(each, rank, os.SCHED_RESET_ON_FORK) for each, rank in processes.items()]
    wanted += [(each, rank, 0) for each, rank in services.items()]
    with _lock:
        for process, rank, flag in wanted:
            raised = _raised.setdefault(process, _Raised(os.SCHED_FIFO | flag))
            raised.wanted.append(rank)
            _put_in_line(process, raised)
    try:
        yield
    finally:
        with _lock:
            for process, rank, _ in wanted:
                raised = _raised[process]
                raised.wanted.remove(rank)
                _put_in_line(process, raised)
                if not raised.wanted:
                    del _raised[process]


def _threads(process: int) -> list[int]:
    try:
        return [int(name) for name in os.listdir(f"/proc/{process}/task")]
    except OSError:  # it has ended
        return []


def _put_in_line(process: int, raised: _Raised) -> None:
    """Give every thread of a process the rank that is wanted now."""
    before, raised.rank = raised.rank, max(raised.wanted, default=0)
    if before == raised.rank:
        return
    policy = raised.policy if raised.rank else os.SCHED_OTHER
    for thread in set(_threads(process)) - raised.anyway:
        with suppress(OSError):  # ended, or real-time processes are not allowed here
            now = os.sched_getparam(thread).sched_priority
            if now == before:
                os.sched_setscheduler(thread, policy, os.sched_param(raised.rank))
            elif now == raised.rank:
                raised.anyway.add(thread)


@contextmanager
def realtime_priority() -> Iterator[None]:
    """Give what the current thread does in the block priority over what others do.

    To the kernel it has a real-time priority above those of others, if root may give one;
    processes that it starts do not inherit that.  Within this process, other threads give the
    interpreter back sooner, and there is no garbage collection.
    """
    _share_sooner(1)
    usual, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    with suppress(PermissionError):  # not everywhere is root allowed real-time processes
        os.sched_setscheduler(
            0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(Rank.SWITCH_OVER)
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


@contextmanager
def threads_in_line() -> Iterator[None]:
    """Give threads that this one starts in the block its priority, until `first_in_line` ends.

    A thread without it may not run as long as others have work, and may hold the interpreter.
    """
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    if policy & ~os.SCHED_RESET_ON_FORK == os.SCHED_OTHER:
        yield
        return
    with suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(Rank.SERVER))
    try:
        yield
    finally:
        with suppress(PermissionError):
            os.sched_setscheduler(0, policy, parameters)
