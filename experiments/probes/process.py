"""Makes a Python process a punctual instrument, and tells it to start and to stop.

* timer slack 1 ns (the kernel's default of 50 us is added to every sleep),
* a real-time priority, if permitted: the sender sleeps nearly always, and a sender that queues for
a
  CPU behind the very switches it measures would measure itself,
* one processor for a sender: each processor has a queue of its own for packets that come out of a
  virtual cable, so that a sender that changes the processor may overtake itself,
* no garbage collection and no page faults while it measures.

A process prints `{"ready": true}` on its standard output when it can begin.  SIGTERM and SIGINT ask
it to stop; it then writes what it has measured.  Meanwhile it reports its progress about once a
second (`progress`).
"""

import ctypes
import gc
import json
import os
import signal
import sys
from contextlib import suppress
from types import FrameType
from typing import Any

from nve.model import Rank

_PR_SET_TIMERSLACK = 29
_MCL_CURRENT, _MCL_FUTURE = 1, 2


class StopFlag:
    """True once the process was asked to stop."""

    def __init__(self) -> None:
        self._stopped = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        self._stopped = True

    def __bool__(self) -> bool:
        return self._stopped


def be_punctual() -> None:
    """Prepare the process; call this after everything is imported and allocated."""
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_TIMERSLACK, 1, 0, 0, 0)
    libc.mlockall(_MCL_CURRENT | _MCL_FUTURE)
    gc.collect()
    gc.disable()


def be_first_in_line() -> str:
    """Ask for a real-time priority; return the name of the scheduling class that the process has
    got.
    """
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(Rank.PATH))
    except PermissionError:
        return "other"
    return "fifo"


def stay_on_one_processor(place: int) -> None:
    """Bind a sender to one processor; senders with different places share the processors evenly."""
    processors = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {processors[place % len(processors)]})


def say(**message: Any) -> None:
    print(json.dumps(message), flush=True)


class Teller:
    """Reports about once a second while the process measures, and never waits for a reader.

    A report that finds no room in the pipe is dropped.
    """

    def __init__(self) -> None:
        self._descriptor = sys.stdout.fileno()
        os.set_blocking(self._descriptor, False)

    def tell(self, **message: Any) -> None:
        with suppress(BlockingIOError):
            os.write(self._descriptor, json.dumps(message).encode() + b"\n")

    def end(self) -> None:
        """Make the reports from now on wait for room in the pipe."""
        os.set_blocking(self._descriptor, True)
