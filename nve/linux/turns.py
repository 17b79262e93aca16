"""No process is started while a VM is switched over.

Python starts a process by vfork: the thread that does it stands still, with the interpreter in its
hands, until the new process has begun its program.  That one has no real-time priority and waits
for those that have; meanwhile nobody of this process goes on, not even who switches the VM over.
Seen: 80 ms.

Who starts something waits (`starting`) while somebody else asks for none to be started
(`none_started`), for `PATIENCE_S` at most, for that is about time and nothing else.
"""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

PATIENCE_S = 0.1
_changed = threading.Condition()
_urgent: Counter[int] = Counter()
"""By thread, how often it has asked for none to be started."""
_starting = 0


@contextmanager
def starting() -> Iterator[None]:
    """Start a process in the block, when it is time.

    The thread that is the urgent one itself is not held up.
    """
    global _starting
    with _changed:
        _changed.wait_for(lambda: not set(_urgent) - {threading.get_ident()}, PATIENCE_S)
        _starting += 1
    try:
        yield
    finally:
        with _changed:
            _starting -= 1
            _changed.notify_all()


@contextmanager
def none_started() -> Iterator[None]:
    """Have nobody else start a process in the block; begin when those under way are there."""
    this = threading.get_ident()
    with _changed:
        _urgent[this] += 1
        _changed.wait_for(lambda: not _starting, PATIENCE_S)
    try:
        yield
    finally:
        with _changed:
            _urgent[this] -= 1
            if not _urgent[this]:
                del _urgent[this]
            _changed.notify_all()
