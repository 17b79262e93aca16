"""What a client of a task notices of a move: its figures, computed from what it wrote down.

Of a run with `fetch` and `ask` traffic.  The move begins when the task stops, or with Multipath TCP
when its VM does; a run without one has no figures.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from experiments.measure.trace import TraceEvent

if TYPE_CHECKING:
    import pandas as pd

NS_PER_MS: Final = 1e6
WINDOW_S: Final = 0.2
"""A rate is that of so long a time."""
BEFORE_S: Final = 1.0
"""The full rate is the median of those in so long a time before the move."""
FULL: Final = 0.9
"""So much of it is as good as all."""
STEP_S: Final = 0.01


@dataclass(frozen=True)
class Visit:
    """The figures of one client; None: it cannot be said."""

    silence_ms: float | None
    """The longest time without an octet of the document, from the move on."""
    wait_ms: float | None
    """The longest time that an answer took, from the move on."""
    again: int | None
    """Octets that have come twice, or more often."""
    full_rate_ms: float | None
    """From the beginning of the move until the download is as fast as before it; 0: it has not been
    slower."""
    connects: int
    """Connections that were opened anew, or tried to."""
    lookups: int
    """Questions to the name server, but for the first."""

    def asked_of_the_client(self, protocol: str) -> str:
        """What it had to do."""
        if self.lookups:
            return "look up, reconnect"
        if self.connects:
            return "reconnect"
        return "speak Multipath TCP" if protocol == "mptcp" else "nothing"


def began_ns(events: Iterable[TraceEvent]) -> int | None:
    """When the first move of a task began for its clients."""
    times = [event.t_ns for event in events if event.name in ("task-stopped", "vm-paused")]
    return min(times, default=None)


def visit(
    events: Iterable[TraceEvent], fetched: "pd.DataFrame | None", asked: "pd.DataFrame | None"
) -> Visit | None:
    """Return the figures of the first client of each kind; None without moves or clients."""
    start_ns = began_ns(events)
    if start_ns is None or (fetched is None and asked is None):
        return None
    silence_ms = wait_ms = full_rate_ms = None
    again = None
    connects = lookups = 0
    if fetched is not None and len(fetched):
        download = fetched[fetched["flow"] == fetched["flow"].iloc[0]]
        later = download[download["t_ns"] >= start_ns]
        silence_ms = float(later["silence_ms"].max()) if len(later) else None
        again = int(download["again"].sum())
        full_rate_ms = _full_rate_ms(download, start_ns)
        connects += int(download["connects"].max()) - 1
        lookups += max(0, int(download["lookups"].max()) - 1)
    if asked is not None and len(asked):
        asks = asked[asked["flow"] == asked["flow"].iloc[0]]
        waited = asks.loc[asks["answered_ns"] >= start_ns, ["asked_ns", "answered_ns"]]
        took = (waited["answered_ns"] - waited["asked_ns"]).astype("float64") / NS_PER_MS
        wait_ms = float(took.max()) if len(took) else None
        connects += int(asks["connects"].sum()) - 1
        lookups += max(0, int(asks["lookups"].sum()) - 1)
    return Visit(silence_ms, wait_ms, again, full_rate_ms, connects, lookups)


@dataclass(frozen=True)
class NameWait:
    """How long a client was cut off when the task's name was led to other addresses."""

    move: int
    flow: str
    ttl_s: float
    """The time for which the client believes what it has looked up."""
    wait_ms: float
    """The longest time that an answer took."""
    lookups: int
    """Questions to the name server until then."""


def name_waits(events: Iterable[TraceEvent], asked: "pd.DataFrame | None") -> list[NameWait]:
    """Return the wait of each client in each move that changed the name's addresses."""
    if asked is None:
        return []
    told = list(events)
    stopped = [event for event in told if event.name == "task-stopped"]
    ttl_s = {
        event.details["task_move"]: float(event.details["ttl_s"])
        for event in told
        if event.name == "name-updated"
    }
    ends = [*(event.t_ns for event in stopped[1:]), None]
    found = []
    for event, end_ns in zip(stopped, ends, strict=False):
        number = event.details.get("task_move", 0)
        if number not in ttl_s:
            continue
        for flow, asks in asked.groupby("flow", sort=False):
            # A question that the next move has cut off is that one's.
            mine = asks[asks["answered_ns"] >= event.t_ns]
            mine = mine if end_ns is None else mine[mine["answered_ns"] < end_ns]
            if not len(mine):
                continue
            took_ns = mine["answered_ns"] - mine["asked_ns"]
            longest = int(took_ns.to_numpy().argmax())
            found.append(
                NameWait(
                    *(int(number), str(flow), ttl_s[number]),
                    *(float(took_ns.iloc[longest]) / NS_PER_MS, int(mine["lookups"].iloc[longest])),
                )
            )
    return found


def _full_rate_ms(download: "pd.DataFrame", start_ns: int) -> float | None:
    """Return the time until the full rate; None if not reached, or if the move came too early."""
    times = (download["t_ns"].to_numpy(dtype="int64") - start_ns) / 1e9
    octets = download["octets"].to_numpy(dtype="float64").cumsum()

    def rates(begin_s: float, end_s: float) -> Any:
        at = np.arange(begin_s, end_s - WINDOW_S + STEP_S / 2, STEP_S)
        came = np.interp(at + WINDOW_S, times, octets) - np.interp(at, times, octets)
        return at, came / WINDOW_S

    if times[0] > -BEFORE_S or times[-1] < WINDOW_S:
        return None
    _, before = rates(-BEFORE_S, 0.0)
    enough = FULL * float(np.median(before))
    at, after = rates(0.0, float(times[-1]))
    slow = np.flatnonzero(after < enough)
    if not len(slow):
        return 0.0
    fast = np.flatnonzero(after[slow[0] :] >= enough)
    return float(at[slow[0] + fast[0]] + WINDOW_S) * 1e3 if len(fast) else None


def protocol_of(scenario: Mapping[str, Any]) -> str:
    """Return the protocol of a run's clients."""
    spoken = {str(sent.get("protocol", "tcp")) for sent in scenario.get("traffic", ())}
    return "mptcp" if "mptcp" in spoken else "tcp"
