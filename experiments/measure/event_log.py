"""The one trace of a lab while it grows: every part appends what happens in it, as it happens.

The orchestrator, hypervisors, the overlay with its control plane, failures, checks and workloads
append; readers read or subscribe.  Nothing is merged at the end: events.csv is this log, sorted by
time.  The log is in the order in which it was told, which is not always the order of the times:
events of another process come a little later, with the time at which they happened.
"""

import threading
import time
from collections.abc import Callable

from experiments.measure.trace import TraceEvent

Listener = Callable[[TraceEvent], None]


class EventLog:
    """May be used from any thread.  A *position* is the number of events that were appended
    before.
    """

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
        """Append an event that has happened just now."""
        self.append(TraceEvent(time.time_ns(), source, name, subject, details))

    def after(self, position: int = 0) -> list[TraceEvent]:
        """Return the events from a position on, in the order of the log; all of them by default."""
        with self._lock:
            return self._events[position:]

    def subscribe(self, listener: Listener, position: int = 0) -> Callable[[], None]:
        """Pass `listener` every event from a position on, each once and in the order of the log.

        It is called by whoever appends, while others wait to append: it has to be quick and must
        not use the log.  A queue's `put` is suitable.  Call the returned function to unsubscribe.
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
        """The position of the next event."""
        with self._lock:
            return len(self._events)
