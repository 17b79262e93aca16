"""The NVA's requests for the counters of NVEs, and the answers, which come later and in parts."""

import threading
import time
from collections.abc import Callable
from typing import Any

from controller.southbound import openflow

STATISTICS_TIMEOUT_S = 5.0


class Question:
    """A request to an NVE whose answer somebody waits for."""

    def __init__(self, nve: str) -> None:
        self._nve = nve
        self._until_s = time.monotonic() + STATISTICS_TIMEOUT_S
        self._answered = threading.Event()
        self._found: list[Any] = []

    def take(self, found: list[Any]) -> None:
        self._found = found
        self._answered.set()

    def answer(self) -> list[Any]:
        """Wait for the answer and return it.  Raises TimeoutError."""
        if not self._answered.wait(self._until_s - time.monotonic()):
            raise TimeoutError(
                f"{self._nve} did not report its counters in {STATISTICS_TIMEOUT_S} s"
            )
        return self._found


def by_meter(asked: Question) -> list[tuple[int, int, int]]:
    """Return the meters: number, the packets that came to each, and those it has dropped."""
    return [
        (each.meter_id, each.packet_in_count, openflow.dropped(each)) for each in asked.answer()
    ]


class Statistics:
    """An answer to a statistics request, which may come in several messages."""

    def __init__(self, then: Callable[[list[Any]], None]) -> None:
        self.flows: list[Any] = []
        self.then = then
