"""Waiting for facts, never for time.

A check returns None when it is satisfied and a printable difference otherwise; the waiter asks
again until then, and the last difference is what a time-out says.  This is the only place outside
the tests that sleeps while waiting for something.
"""

import time
from collections.abc import Callable

POLL_S = 0.002


def wait_until(check: Callable[[], str | None], timeout_s: float) -> None:
    """Returns as soon as `check` does not find a difference.  Raises TimeoutError with the last."""
    deadline = time.monotonic() + timeout_s
    while (difference := check()) is not None:
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {timeout_s:g} s: {difference}")
        time.sleep(POLL_S)
