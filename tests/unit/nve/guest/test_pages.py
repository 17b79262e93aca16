"""Pages of a guest: a wrong one shows; and which are written next."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nve.guest.pages import Words, broken, content
from nve.guest.registers import COPY_SIZE, PLACES, Registers, newest
from nve.guest.service import ServiceReply, ServiceRequest, answer
from nve.guest.spec import PAGE_SIZE, GuestSpec
from nve.guest.writes import Pace, Writes, distinct

NUMBERS = np.arange(8)


def pages(version: int = 3) -> Words:
    return content(NUMBERS, np.full(8, version, np.uint64))


def test_whole_pages_are_not_broken() -> None:
    assert pages().nbytes == 8 * PAGE_SIZE
    assert list(broken(pages(), NUMBERS)) == []


@pytest.mark.parametrize("words", [2, 4, 256, 511])
def test_a_torn_page_is_broken(words: int) -> None:
    """Its first words are of one version, the rest of another."""
    torn = pages(3)
    torn[5, :words] = pages(4)[5, :words]
    assert list(broken(torn, NUMBERS)) == [5]


def test_a_page_may_end_in_zeros_and_another_word_there_shows() -> None:
    rows = content(NUMBERS, np.full(8, 3, np.uint64), 256)
    assert not rows[:, 256:].any()
    assert rows[:, :256].all(axis=1).sum() >= 7
    assert list(broken(rows, NUMBERS, 256)) == []
    rows[2, 400] = 1
    assert list(broken(rows, NUMBERS, 256)) == [2]


def test_a_page_at_the_wrong_place_or_without_content_is_broken() -> None:
    moved = pages()
    moved[[1, 2]] = moved[[2, 1]]
    moved[6] = 0
    assert list(broken(moved, NUMBERS)) == [1, 2, 6]


@given(st.integers(0, 7), st.integers(0, 511), st.integers(1, 2**64 - 1))
def test_no_word_can_change(page: int, word: int, difference: int) -> None:
    changed = pages()
    changed[page, word] ^= np.uint64(difference)
    assert list(broken(changed, NUMBERS)) == [page]


@pytest.mark.parametrize("pattern", ["uniform", "hot-spot", "sequential"])
def test_writes_go_to_the_working_set_and_follow_from_their_number(pattern: str) -> None:
    writes = Writes(pattern, 100, 50, seed=1)  # type: ignore[arg-type]
    all_at_once = writes.targets(0, 5000)
    assert set(all_at_once) == set(range(100, 150))
    assert list(writes.targets(1000, 7)) == list(all_at_once[1000:1007])


def test_nine_of_ten_writes_are_to_the_hot_tenth() -> None:
    targets = Writes("hot-spot", 0, 1000, seed=1).targets(0, 100_000)
    assert (targets < 100).mean() == pytest.approx(0.91, abs=0.01)


def test_a_pace_is_kept_and_a_pause_is_not_caught_up_with() -> None:
    pace = Pace(1000, 0.0)
    assert sum(pace.due(tick / 300) for tick in range(1, 301)) == pytest.approx(1000, abs=1)
    assert pace.due(31.0) == pytest.approx(100, abs=1)
    assert pace.due(31.1, throttle_pct=75) == pytest.approx(25, abs=1)


@given(st.integers(0, COPY_SIZE - 1))
def test_registers_that_are_torn_are_those_before(octets: int) -> None:
    """A guest may be stopped after any octet of a copy."""
    page = bytearray(PAGE_SIZE)
    registers = Registers()
    for writes in range(1, 6):
        before, registers = registers, registers.after(writes=writes)
        copy, place = registers.octets(), registers.place
        page[place : place + octets] = copy[:octets]
        if writes > 1:
            assert newest(bytes(page)) == before
        page[place : place + len(copy)] = copy
        assert newest(bytes(page)) == registers


def test_a_page_that_holds_no_registers_has_none() -> None:
    assert newest(bytes(PAGE_SIZE)) is None
    assert PLACES[1] >= COPY_SIZE


def test_a_request_is_answered_with_the_next_number_and_again_with_the_same() -> None:
    first, registers = answer(ServiceRequest(7, 1), Registers())
    assert first.counter == 1
    assert answer(ServiceRequest(7, 1), registers) == (first, registers)
    second, registers = answer(ServiceRequest(8, 1), registers)
    assert second.counter == registers.counter == 2


@given(st.binary(max_size=40))
def test_what_is_no_request_or_reply_is_none(octets: bytes) -> None:
    for kind in (ServiceRequest, ServiceReply):
        read = kind.of(octets)
        assert read is None or read.octets() == octets


def test_requests_replies_and_specs_are_read_as_they_were_written() -> None:
    assert ServiceRequest.of(ServiceRequest(1, 2).octets()) == ServiceRequest(1, 2)
    assert ServiceReply.of(ServiceReply(1, 2, 3).octets()) == ServiceReply(1, 2, 3)
    spec = GuestSpec(memory_mb=3, disk_mb=2, writes_mb_s=1.5, service=True)
    assert GuestSpec.of(spec.line()) == spec
    assert (spec.pages, spec.working_set_pages) == (5 * 256, 3 * 256)


@given(st.lists(st.integers(0, 50), min_size=1))
def test_distinct_numbers_are_there_once_and_in_order(numbers: list[int]) -> None:
    assert distinct(np.array(numbers)).tolist() == sorted(set(numbers))
