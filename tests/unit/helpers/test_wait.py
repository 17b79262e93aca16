"""The waiter itself: it returns on a fact, and fails with the last difference."""

from itertools import count

import pytest

from tests.helpers.wait import wait_until


def test_returns_when_the_check_is_satisfied() -> None:
    tries = count(1)

    wait_until(lambda: None if next(tries) == 3 else "not yet")

    assert next(tries) == 4


def test_fails_with_the_last_difference() -> None:
    tries = count(1)

    with pytest.raises(AssertionError, match=r"not within 0\.02 s: asked [0-9]+ times"):
        wait_until(lambda: f"asked {next(tries)} times", timeout_s=0.02)

    assert next(tries) > 2


@pytest.mark.parametrize("difference", ["", 0, False])
def test_only_none_is_satisfaction(difference: object) -> None:
    with pytest.raises(AssertionError):
        wait_until(lambda: difference, timeout_s=0.0)


def test_asks_at_least_once() -> None:
    wait_until(lambda: None, timeout_s=-1.0)


def test_what_a_check_raises_is_not_waited_for() -> None:
    def broken() -> str:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        wait_until(broken)
