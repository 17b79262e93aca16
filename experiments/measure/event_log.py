"""The one trace of a lab while it grows: everybody writes what happens here, when it happens.

The orchestrator, hypervisors, the overlay with its control plane, failures, checks and workloads
append; whoever wants to know reads or listens.  Nothing is merged at the end: events.csv is this
log, sorted by time.  It is in the order in which it was told, which is not always that of the
times: what another process says comes a little later, with the time at which it happened.
"""

import threading
import time
from collections.abc import Callable

from experiments.measure.trace import TraceEvent

Listener = Callable[[TraceEvent], None]


class EventLog:
    """May be used from any thread.  A *position* is how many events have been told before it."""

    def __init__(self) -> None:
        self._events: list[TraceEvent] = []
        self._listeners: list[Listener] = []
        self._lock = threading.Lock()

    def append(self, event: TraceEvent) -> None:
        with self._lock:
            self._events.append(event)
            for listener in self._listeners:
                listener(event)

    def note(self, source: str, name: str, subject: str = "", /, **details: object) -> None:
        """Append what has happened just now."""
        self.append(TraceEvent(time.time_ns(), source, name, subject, details))

    def after(self, position: int = 0) -> list[TraceEvent]:
        """The events from a position on, as they were told; all of them by default."""
        with self._lock:
            return self._events[position:]

    def subscribe(self, listener: Listener, position: int = 0) -> Callable[[], None]:
        """Tell `listener` every event from a position on, each once and in the order of the log.

        It is called by whoever appends, while others wait to append: it has to be quick and must
        not use the log.  A queue's `put` is a good one.  Call what is returned to end it.
        """
        with self._lock:
            for event in self._events[position:]:
                listener(event)
            self._listeners.append(listener)

        def unsubscribe() -> None:
            with self._lock:
                self._listeners.remove(listener)

        return unsubscribe

    @property
    def position(self) -> int:
        """Where what is told next will be."""
        with self._lock:
            return len(self._events)
