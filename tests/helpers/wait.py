"""Waits in tests for conditions, never for a length of time.  Nothing else in the tests sleeps."""

from collections.abc import Callable

from nve.linux import wait


def wait_until(check: Callable[[], object], timeout_s: float = 10.0) -> None:
    """Return as soon as `check` returns None; fail with the last difference it returned."""
    try:
        wait.wait_until(lambda: _printable(check()), timeout_s)
    except TimeoutError as late:
        raise AssertionError(str(late)) from None


def _printable(difference: object) -> str | None:
    return None if difference is None else str(difference)
