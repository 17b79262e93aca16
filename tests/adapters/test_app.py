"""The application's queue: what waits in it is decided before anything of it is carried out."""

import queue
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import pytest

from controller.app import TOGETHER, NvaApplication


class FakeNva:
    def __init__(self) -> None:
        self.did: list[Any] = []

    def packet_came(self, message: Any) -> None:
        if message == "bad":
            raise ValueError(message)
        self.did.append(message)

    def echoed(self, message: Any) -> None:
        self.did.append("echo")

    def act(self) -> None:
        self.did.append("act")


@pytest.fixture
def application() -> Any:
    """Without the framework around it."""
    made: Any = NvaApplication.__new__(NvaApplication)
    made.events, made._heard, made.nva = queue.Queue(), 0, FakeNva()
    return made


def run(application: Any, *messages: str) -> list[Any]:
    """What the framework's loop does with its queue."""
    for message in messages:
        application.events.put(message)
    while not application.events.empty():
        event = SimpleNamespace(msg=application.events.get())
        handler = application.echo_reply if event.msg == "echo" else application.packet_in
        with suppress(ValueError):  # the framework's goes on
            handler(event)
    return application.nva.did


def test_what_comes_alone_is_carried_out_at_once(application: Any) -> None:
    assert run(application, "a") == ["a", "act"]
    assert run(application, "b") == ["a", "act", "b", "act"]


def test_what_comes_together_is_carried_out_together(application: Any) -> None:
    assert run(application, "a", "b", "c") == ["a", "b", "c", "act"]


@pytest.mark.parametrize("last", ["echo", "bad"])
def test_whatever_comes_last_nothing_is_left_undone(application: Any, last: str) -> None:
    assert run(application, "a", last)[-1] == "act"


def test_a_flood_does_not_keep_anybody_waiting(application: Any) -> None:
    did = run(application, *["a"] * (2 * TOGETHER + 1))

    assert did[TOGETHER] == "act"
    assert did.count("act") == 3
