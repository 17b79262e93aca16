"""Being served first: while it lasts, and no longer."""

import gc
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from nve.hypervisor.realtime import first_in_line, realtime_priority, threads_in_line
from nve.linux.steering import go_first
from nve.model import Rank

USUAL_S = sys.getswitchinterval()


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The scheduling classes that the kernel was asked for; tests are no root."""
    classes: list[int] = []
    monkeypatch.setattr(os, "sched_setscheduler", lambda pid, kind, _: classes.append(kind))
    yield classes
    assert sys.getswitchinterval() == USUAL_S


def test_a_thread_has_its_priority_in_the_block_and_its_children_have_it_not(
    asked: list[int],
) -> None:
    usual = os.sched_getscheduler(0)
    with realtime_priority():
        assert asked == [os.SCHED_FIFO | os.SCHED_RESET_ON_FORK]
        assert sys.getswitchinterval() < USUAL_S
        assert not gc.isenabled()
    assert gc.isenabled()
    assert asked[1:] == [usual]


def test_it_ends_with_the_block_however_that_ends(asked: list[int]) -> None:
    with pytest.raises(RuntimeError), realtime_priority():
        raise RuntimeError("the move has failed")
    assert len(asked) == 2


def test_the_last_of_several_threads_gives_the_interpreter_back(asked: list[int]) -> None:
    begun, may_end = threading.Event(), threading.Event()

    def another() -> None:
        with realtime_priority():
            begun.set()
            may_end.wait(10)

    thread = threading.Thread(target=another)
    thread.start()
    begun.wait(10)
    with realtime_priority():
        pass
    assert sys.getswitchinterval() < USUAL_S
    may_end.set()
    thread.join()


def test_where_root_may_not_it_goes_on_as_it_is(
    asked: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(_pid: int, kind: int, _parameters: Any) -> None:
        if kind & ~os.SCHED_RESET_ON_FORK == os.SCHED_FIFO:
            raise PermissionError

    monkeypatch.setattr(os, "sched_setscheduler", refuses)
    with realtime_priority():
        assert sys.getswitchinterval() < USUAL_S


# -- the processes that a move waits for ----------------------------------------------------------

FIRST = os.SCHED_FIFO
ENDED = 2**22 + 1
"""No process has this number: the kernel's are lower."""


@pytest.fixture
def priorities() -> dict[int, int]:
    """The real-time priority that each thread of this process was given last."""
    return {}


@pytest.fixture
def classes(monkeypatch: pytest.MonkeyPatch, priorities: dict[int, int]) -> dict[int, int]:
    """The scheduling class of each thread of this process."""
    found = {int(name): os.SCHED_OTHER for name in os.listdir("/proc/self/task")}

    def ask(thread: int, kind: int, parameters: os.sched_param) -> None:
        this = thread or threading.get_native_id()
        found[this], priorities[this] = kind, parameters.sched_priority

    def asked_for(thread: int) -> os.sched_param:
        this = thread or threading.get_native_id()
        return os.sched_param(priorities.get(this, int(found[this] != os.SCHED_OTHER)))

    monkeypatch.setattr(
        os, "sched_getscheduler", lambda thread: found[thread or threading.get_native_id()]
    )
    monkeypatch.setattr(os, "sched_setscheduler", ask)
    monkeypatch.setattr(os, "sched_getparam", asked_for)
    monkeypatch.setattr(os, "listdir", lambda _: list(map(str, found)))
    return found


def test_a_switch_over_goes_on_before_all_where_nobody_is_in_line_for_a_while(
    classes: dict[int, int],
) -> None:
    with ExitStack() as helped, ExitStack() as switching:
        helped.enter_context(first_in_line({os.getpid(): Rank.SERVER}))
        switching.enter_context(realtime_priority())
        helped.close()
        assert classes[threading.get_native_id()] != os.SCHED_OTHER
        helped.enter_context(first_in_line({os.getpid(): Rank.SERVER}))
        switching.close()
    assert set(classes.values()) == {os.SCHED_OTHER}


def test_all_threads_of_a_process_go_first_in_the_block(classes: dict[int, int]) -> None:
    with first_in_line({os.getpid(): Rank.SERVER}):
        assert set(classes.values()) == {FIRST | os.SCHED_RESET_ON_FORK}
    assert set(classes.values()) == {os.SCHED_OTHER}


def test_threads_that_a_service_has_started_meanwhile_do_it_no_longer(
    classes: dict[int, int],
) -> None:
    with first_in_line({}, {os.getpid(): Rank.CONTROL}):
        assert set(classes.values()) == {FIRST}
        classes[1] = FIRST
    assert set(classes.values()) == {os.SCHED_OTHER}


def test_a_thread_that_goes_first_anyway_goes_on_to(classes: dict[int, int]) -> None:
    classes[1] = FIRST
    with first_in_line({os.getpid(): Rank.SERVER}):
        assert classes[1] == FIRST
    assert classes.pop(1) == FIRST
    assert set(classes.values()) == {os.SCHED_OTHER}


def test_of_two_moves_the_last_gives_it_back(classes: dict[int, int]) -> None:
    with first_in_line({os.getpid(): Rank.SERVER}):
        with first_in_line({os.getpid(): Rank.SERVER}):
            pass
        assert set(classes.values()) == {FIRST | os.SCHED_RESET_ON_FORK}
    assert set(classes.values()) == {os.SCHED_OTHER}


def test_of_two_moves_the_higher_rank_counts(
    classes: dict[int, int], priorities: dict[int, int]
) -> None:
    here = os.getpid()
    with first_in_line({}, {here: Rank.CONTROL}):
        with first_in_line({}, {here: Rank.PATH}):
            assert set(priorities.values()) == {Rank.PATH}
        assert set(priorities.values()) == {Rank.CONTROL}
    assert set(classes.values()) == {os.SCHED_OTHER}


def test_a_thread_that_is_started_in_line_is_in_line_and_goes_back_with_the_others(
    classes: dict[int, int], priorities: dict[int, int]
) -> None:
    this, started = threading.get_native_id(), 1
    with first_in_line({os.getpid(): Rank.SERVER}), realtime_priority():
        with threads_in_line():
            assert (classes[this], priorities[this]) == (FIRST, Rank.SERVER)
            classes[started], priorities[started] = classes[this], priorities[this]
        assert classes[this] == FIRST | os.SCHED_RESET_ON_FORK
        assert priorities[this] == Rank.SWITCH_OVER
    assert set(classes.values()) == {os.SCHED_OTHER}


def test_threads_that_are_started_by_one_without_priority_have_none(
    classes: dict[int, int],
) -> None:
    with threads_in_line():
        assert set(classes.values()) == {os.SCHED_OTHER}


def test_a_process_that_has_ended_is_left_out() -> None:
    with first_in_line({ENDED: Rank.PATH}):
        pass


def test_a_switch_of_the_kernels_datapath_goes_first_with_all_that_it_starts(
    asked: list[int],
) -> None:
    go_first(os.getpid(), Rank.SERVER)
    assert asked == [os.SCHED_FIFO]
