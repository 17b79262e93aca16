"""When a pre-copy sends another round, throttles, or has the VM stopped; and the simple model."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nve.guest.spec import PAGE_SIZE
from nve.transfer.convergence import (
    LARGEST_THROTTLE_PCT,
    Again,
    Convergence,
    Round,
    Stop,
    TransferLimits,
)
from nve.transfer.model import expected

RATE = 10_000
"""Pages a second that the path carries."""


def round_of(pages: int, left: int) -> Round:
    return Round(pages, pages / RATE, left)


def rounds_until_stop(limits: TransferLimits, memory: int, written: float) -> tuple[int, Stop]:
    """A guest that writes so many pages for each that is sent."""
    convergence, pages = Convergence(limits), memory
    for number in range(1, 1000):
        share = 1 - convergence.throttle_pct / 100
        left = int(pages * written * share)
        decided = convergence.after(round_of(pages, left))
        if isinstance(decided, Stop):
            return number, decided
        pages = left
    raise AssertionError("it never stops")


def test_what_is_left_is_sent_when_it_fits_into_the_pause() -> None:
    """10,000 pages, half of them again, …: 300 ms are 3,000 pages."""
    assert rounds_until_stop(TransferLimits(), 10_000, 0.5) == (2, Stop("converged"))
    assert rounds_until_stop(TransferLimits(downtime_limit_ms=1), 10_000, 0.5)[0] == 10


def test_a_guest_that_writes_too_fast_is_stopped_by_force() -> None:
    few = TransferLimits(max_iterations=7)
    assert rounds_until_stop(few, 10_000, 1.0) == (7, Stop("forced"))
    assert rounds_until_stop(TransferLimits(max_time_s=2.5), 10_000, 1.0) == (3, Stop("forced"))


def test_a_guest_that_is_throttled_converges() -> None:
    limits = TransferLimits(auto_converge=True, downtime_limit_ms=10)
    assert rounds_until_stop(limits, 10_000, 1.2)[1] == Stop("converged")
    slow = TransferLimits(auto_converge=True, throttle_step_pct=99, max_iterations=3)
    assert rounds_until_stop(slow, 10_000, 0.4)[1] == Stop("converged")


def test_only_a_guest_that_writes_too_much_is_throttled() -> None:
    convergence = Convergence(TransferLimits(auto_converge=True, downtime_limit_ms=0))
    assert convergence.after(round_of(1000, 500)) == Again(0)
    assert convergence.after(round_of(1000, 501)) == Again(10)
    for _ in range(20):
        convergence.after(round_of(1000, 900))
    assert convergence.throttle_pct == LARGEST_THROTTLE_PCT


def test_stop_and_copy_stops_after_the_disk() -> None:
    convergence = Convergence(TransferLimits(kind="stop-and-copy"))
    assert convergence.after(round_of(1000, 900)) == Stop("asked")


def test_a_hybrid_goes_over_to_post_copy_after_its_rounds_or_at_its_limits() -> None:
    soon = TransferLimits(kind="hybrid", post_copy_after=2, downtime_limit_ms=1)
    assert rounds_until_stop(soon, 10_000, 0.9) == (2, Stop("post-copy"))
    assert rounds_until_stop(soon, 10_000, 0.0) == (1, Stop("converged"))
    late = TransferLimits(kind="hybrid", post_copy_after=99, downtime_limit_ms=1, max_iterations=4)
    assert rounds_until_stop(late, 10_000, 1.0) == (4, Stop("post-copy"))
    only = Convergence(TransferLimits(kind="post-copy"))
    assert only.after(round_of(1000, 900)) == Stop("post-copy")


@given(
    st.integers(1, 10**6), st.floats(0, 3), st.integers(1, 40), st.booleans(), st.floats(0, 1000)
)
def test_every_transfer_stops(
    memory: int, written: float, iterations: int, throttled: bool, limit_ms: float
) -> None:
    limits = TransferLimits(
        max_iterations=iterations, auto_converge=throttled, downtime_limit_ms=limit_ms
    )
    assert rounds_until_stop(limits, memory, written)[0] <= iterations


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 0.8])
def test_the_model_and_the_decisions_agree(share: float) -> None:
    memory = 100_000
    limits = TransferLimits(downtime_limit_ms=50)
    rounds, _ = rounds_until_stop(limits, memory, share)
    octets, rate = memory * PAGE_SIZE, RATE * PAGE_SIZE
    model = expected(octets, share * rate, octets, rate, limits)
    assert model.iterations == rounds
    assert model.pause_ms <= 50
    assert model.total_ms == pytest.approx(
        sum(share**n for n in range(rounds + 1)) * memory / RATE * 1e3
    )


def test_the_model_of_a_stop_is_the_memory_over_the_bandwidth() -> None:
    model = expected(1e6, 5e5, 1e6, 1e6, TransferLimits(kind="stop-and-copy"))
    assert (model.pause_ms, model.total_ms, model.iterations) == (1000, 1000, 0)


def test_the_model_is_bounded_by_the_working_set_and_by_random_writes() -> None:
    limits = TransferLimits(max_iterations=5)
    assert expected(1e8, 2e7, 1e6, 1e7, limits).pause_ms == pytest.approx(100)
    forced = expected(1e8, 2e7, 5e7, 1e7, limits)
    assert forced.pause_ms == pytest.approx(5000)
    uniform = expected(1e8, 2e7, 5e7, 1e7, limits, uniform=True)
    fixed_point = 0.797  # x = 1 - exp(-2 x)
    assert uniform.pause_ms == pytest.approx(5000 * fixed_point, rel=0.02)
    with pytest.raises(ValueError, match="carries nothing"):
        expected(1, 1, 1, 0, limits)
