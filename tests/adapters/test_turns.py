"""No process is started while a VM is switched over."""

import threading
import time

import pytest

from nve.linux import turns
from nve.linux.namespace import run
from nve.linux.turns import none_started, starting


def in_a_thread(started: threading.Event) -> threading.Thread:
    def start() -> None:
        run(["true"])
        started.set()

    thread = threading.Thread(target=start)
    thread.start()
    return thread


def test_who_starts_a_process_waits_until_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "PATIENCE_S", 60)
    started = threading.Event()
    with none_started():
        thread = in_a_thread(started)
        assert not started.wait(0.2)
    assert started.wait(60)
    thread.join()


def test_nobody_waits_for_long() -> None:
    started = threading.Event()
    with none_started():
        in_a_thread(started).join(60)
    assert started.is_set()


def test_who_has_asked_for_it_may_start_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "PATIENCE_S", 60)
    with none_started():
        assert run(["echo", "there"]) == "there\n"


def test_it_begins_when_those_that_are_being_started_are_there() -> None:
    begun, in_line = threading.Event(), threading.Event()

    def start() -> None:
        with starting():
            begun.set()
            time.sleep(turns.PATIENCE_S / 2)
            assert not in_line.is_set()

    thread = threading.Thread(target=start)
    thread.start()
    begun.wait(60)
    with none_started():
        in_line.set()
        assert turns._starting == 0
    thread.join()
