"""When a transfer is given up."""

import pytest

from nve.transfer.stall import Stall

PATIENCE_S = 3.0


def gives_up_at(arrivals: dict[float, int], usual: float = 0) -> float | None:
    """`arrivals` are the octets by then, at times in seconds; looked at ten times a second."""
    stall, octets = Stall(PATIENCE_S, 0.0, 0, usual), 0
    for tenth in range(1, 101):
        octets = arrivals.get(tenth / 10, octets)
        if stall.has_stalled(octets, tenth / 10):
            return tenth / 10
    return None


def test_one_that_never_begins_is_given_up() -> None:
    assert gives_up_at({}) == PATIENCE_S


def test_one_that_stops_is_given_up_after_the_same_time() -> None:
    assert gives_up_at({0.5: 1000, 2.0: 2000}) == 2.0 + PATIENCE_S


def test_a_vm_that_runs_waits_for_the_slowest_path() -> None:
    assert gives_up_at({float(second): second for second in range(1, 11)}) is None


@pytest.mark.parametrize(("share", "gives_up"), [(0.04, True), (0.06, False), (1.0, False)])
def test_a_vm_that_stands_still_does_not_wait_for_next_to_nothing(
    share: float, gives_up: bool
) -> None:
    usual = 1_000_000
    arrivals = {tenth / 10: int(tenth / 10 * usual * share) for tenth in range(1, 101)}
    assert (gives_up_at(arrivals, usual) is not None) == gives_up
