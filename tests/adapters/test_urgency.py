"""Being served first: while it lasts, and no longer."""

import gc
import os
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from nve.hypervisor.realtime import realtime_priority

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
        if kind & os.SCHED_FIFO:
            raise PermissionError

    monkeypatch.setattr(os, "sched_setscheduler", refuses)
    with realtime_priority():
        assert sys.getswitchinterval() < USUAL_S
