"""What is missing in a post-copy, what is asked for, and what is pushed."""

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from nve.transfer.framing import PageRun, runs_of_bits, size_of
from nve.transfer.page_runs import Remaining, bitmap_of, runs_of, together
from nve.transfer.presence import PageFault, Presence

PAGES = 60
NUMBERS = st.sets(st.integers(0, PAGES - 1)).map(sorted)


def in_(runs: list[PageRun]) -> list[int]:
    return [page for first, count in runs for page in range(first, first + count)]


@given(NUMBERS, st.integers(0, PAGES))
def test_numbers_are_runs_that_do_not_cross_a_boundary(numbers: list[int], boundary: int) -> None:
    runs = runs_of(np.array(numbers, dtype=np.int64), boundary)
    assert in_(runs) == numbers
    assert all(first + count <= boundary or first >= boundary for first, count in runs)
    assert all(sum(a) < b or b == boundary for a, (b, _) in itertools.pairwise(runs))


@given(NUMBERS, NUMBERS)
def test_numbers_are_together_once_and_in_order(some: list[int], others: list[int]) -> None:
    parts = [np.array(each[::-1], dtype=np.int64) for each in (some, others)]
    assert together(PAGES, *parts).tolist() == sorted({*some, *others})


@given(NUMBERS)
def test_a_bitmap_says_the_same(numbers: list[int]) -> None:
    bitmap = bitmap_of(np.array(numbers, dtype=np.int64), PAGES)
    assert in_(runs_of_bits(bitmap, PAGES)) == numbers


@given(NUMBERS, st.lists(st.integers(0, PAGES - 1)), st.integers(1, 9))
def test_each_page_is_pushed_once_unless_it_was_asked_for(
    numbers: list[int], asked: list[int], most: int
) -> None:
    remaining = Remaining(runs_of(np.array(numbers, dtype=np.int64), PAGES), PAGES)
    assert len(remaining) == len(numbers)
    pushed: list[int] = []
    waiting = iter(asked)
    while runs := remaining.take(most):
        assert 0 < size_of(runs) <= most
        pushed += in_(runs)
        if (page := next(waiting, None)) is not None:
            remaining.asked(page)
            numbers = [each for each in numbers if each != page or each in pushed]
    assert sorted(pushed) == numbers
    assert len(remaining) == 0


def test_it_is_pushed_from_where_the_guest_has_touched_it() -> None:
    remaining = Remaining([(0, PAGES)], PAGES)
    remaining.asked(40)
    assert remaining.take(5) == [(41, 5)]
    assert remaining.take(PAGES) == [(46, 14), (0, 40)]


def test_a_page_is_asked_for_once_and_its_latency_is_that_of_the_first_time() -> None:
    presence = Presence(PAGES)
    assert presence.touched(5, 1_000) is None
    presence.take_away((4, 4))
    presence.take_away((6, 4))
    assert presence.missing == 6
    assert presence.touched(5, 1_000_000) is True
    assert presence.touched(5, 2_000_000) is False
    presence.arrived((4, 2), 3_500_000)
    assert presence.faults == [PageFault(1_000_000, 5, 2.5)]
    assert presence.touched(5, 4_000_000) is None
    assert presence.missing == 4


@given(st.lists(st.tuples(st.integers(0, PAGES - 1), st.integers(1, 9)), max_size=40))
def test_what_comes_twice_is_put_in_place_once(came: list[PageRun]) -> None:
    presence, placed = Presence(PAGES + 9), []
    presence.take_away((0, PAGES))
    for run in came:
        for part in presence.absent(run):
            presence.arrived(part, 0)
            placed += in_([part])
    assert len(placed) == len(set(placed)) == PAGES - presence.missing
    assert set(placed) == set(in_(came)) & set(range(PAGES))
