"""The trace as text: a line or an object for each event, with the time since the latest move."""

from collections.abc import Iterator, Sequence
from typing import Any

from experiments.measure.trace import TraceEvent


def since_moves(events: Sequence[TraceEvent]) -> Iterator[tuple[float, TraceEvent]]:
    """Yield each event, with the seconds since the latest move was requested.

    Before the first move, the seconds are negative and count until that is requested.  If there is
    no move, they count from the first event.
    """
    requests_ns = [event.t_ns for event in events if event.name == "move-requested"]
    origin_ns = next(iter(requests_ns), events[0].t_ns if events else 0)
    for each in events:
        if each.name == "move-requested":
            origin_ns = each.t_ns
        yield (each.t_ns - origin_ns) / 1e9, each


def as_line(since_s: float, event: TraceEvent) -> str:
    """Return an event as a line of text; `since_s` is as in `since_moves`."""
    details = " ".join(f"{key}={value}" for key, value in event.details.items())
    return f"{since_s:10.4f} s  {event.source:10}  {event.name:22}  {event.subject}  {details}"


def as_json(since_s: float, event: TraceEvent) -> dict[str, Any]:
    """Return an event as what is written as JSON; `since_s` is as in `since_moves`."""
    return {
        "t_ns": event.t_ns,
        "since_move_s": round(since_s, 6),
        "source": event.source,
        "event": event.name,
        "subject": event.subject,
        "details": dict(event.details),
    }
