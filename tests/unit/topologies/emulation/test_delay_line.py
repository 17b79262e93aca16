"""The queue of the delay line: nothing early, nothing overtakes, everything is counted."""

import random

from hypothesis import given
from hypothesis import strategies as st

from topologies.emulation.delay_line import MAX_QUEUED_BYTES, DelayQueue

MS = 1_000_000

arrivals = st.lists(st.integers(0, 50 * MS), min_size=1, max_size=50).map(sorted)


def queue(delay_ms: float, jitter_ms: float = 0, seed: int = 1) -> DelayQueue:
    return DelayQueue(round(delay_ms * MS), round(jitter_ms * MS), random.Random(seed))


def leave(line: DelayQueue) -> list[tuple[int, bytes]]:
    """Every frame with the time it is due, taken exactly then."""
    left = []
    while line.frames:
        due_ns = line.next_due_ns()
        assert line.take(due_ns - 1) is None
        frame = line.take(due_ns)
        assert frame is not None
        left.append((due_ns, frame))
    return left


@given(arrivals)
def test_without_jitter_each_frame_waits_exactly_the_delay(times_ns: list[int]) -> None:
    line = queue(5)
    for number, arrival_ns in enumerate(times_ns):
        line.put(arrival_ns, b"%d" % number)

    assert leave(line) == [
        (arrival_ns + 5 * MS, b"%d" % number) for number, arrival_ns in enumerate(times_ns)
    ]


@given(arrivals, st.integers())
def test_jitter_keeps_order_and_its_bounds(times_ns: list[int], seed: int) -> None:
    line = queue(5, 2, seed)
    for number, arrival_ns in enumerate(times_ns):
        line.put(arrival_ns, b"%d" % number)

    left = leave(line)

    assert [frame for _, frame in left] == [b"%d" % number for number in range(len(times_ns))]
    for arrival_ns, (due_ns, _) in zip(times_ns, left, strict=True):
        assert arrival_ns + 3 * MS <= due_ns <= arrival_ns + 7 * MS


def test_the_same_seed_gives_the_same_jitter() -> None:
    first, second, other = queue(5, 2, seed=1), queue(5, 2, seed=1), queue(5, 2, seed=2)
    for line in (first, second, other):
        for number in range(20):
            line.put(number * 10 * MS, b"frame")

    assert leave(first) == leave(second)
    assert first.last_due_ns != other.last_due_ns


def test_what_does_not_fit_is_counted() -> None:
    line = queue(5)
    half = bytes(MAX_QUEUED_BYTES // 2)

    for _ in range(3):
        line.put(0, half)

    assert line.overflowed == 1
    assert len(leave(line)) == 2
    line.put(0, half)
    assert line.overflowed == 1


def test_lateness_is_counted() -> None:
    line = queue(1)
    for late_us in [5] * 98 + [1000] * 2:
        line.put(0, b"frame")
        line.take(MS + late_us * 1000)

    counted = line.statistics()

    assert counted["forwarded"] == 100
    assert counted["late_us_p50"] == 10
    assert counted["late_us_p99"] == 1000
    assert counted["late_us_max"] == 1000


def test_an_unused_direction_has_statistics_too() -> None:
    assert queue(1).statistics()["late_us_p99"] == 0
