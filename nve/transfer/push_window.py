"""How much pushed data may be on its way at a time.

In a post-copy all pages are pushed, and one that the guest waits for is sent at once, on a
connection of its own.  It still queues on the path behind what was pushed before it, as TCP fills
the queue in front of the narrowest link.  So only as much may be on its way as keeps the path busy:
what the path carries in a round trip and `QUEUED_S` more.

A sender that comes too late, on a busy machine, finds the path idle: then more may queue.

The rate of the path is measured in short windows.  Every few windows twice as much is allowed: if
the path then carries more, it was not busy.
"""

from nve.guest.spec import PAGE_SIZE

QUEUED_S, MOST_QUEUED_S = 0.001, 0.01
"""So long a page may queue behind pushed ones; and where the sender comes too late again and again.
"""
LEAST = 2 * PAGE_SIZE
WINDOW_S = 0.02
USUAL_WINDOWS = 4
"""The number of windows from one probe to the next."""
CARRIES_MORE = 1.1
"""A window that carries so much more than is known of the path shows that there was room."""
_LARGEST_MESSAGE = 32
_NEW_SHARE = 0.1
_IDLE = 1 / 8
"""The share of what may be on its way below which the path counts as idle."""
_TOO_LATE, _IN_TIME = 1.1, 0.98
"""What that makes of the time that may be spent in queues."""
_SHORTEST_WAIT_S, _LONGEST_WAIT_S = 50e-6, 0.005


class PushWindow:
    """The window of all connections of a transfer together.  Times are of any steady clock."""

    def __init__(self, round_trip_s: float, arrived: int, now_s: float) -> None:
        """`round_trip_s` is the round-trip time of the path without a queue."""
        self._round_trip_s = round_trip_s
        self._began = (now_s, arrived)
        self._probes = True
        self._usual_windows = 0
        self._queued_s = QUEUED_S
        self.octets_per_s = 0.0
        """What the path is known to carry."""

    @property
    def octets(self) -> int:
        """How many octets may be on their way."""
        usual = int(self.octets_per_s * (self._round_trip_s + self._queued_s))
        return max(LEAST, usual) * (2 if self._probes else 1)

    @property
    def pages_at_once(self) -> int:
        """The number of pages in a message: half of what may queue."""
        pages = int(self.octets_per_s * self._queued_s / 2 / PAGE_SIZE)
        return min(_LARGEST_MESSAGE, max(1, pages))

    def wait_s(self, on_the_way: int) -> float:
        """Return how long to wait before the next check; 0 if more may be sent now."""
        if not self._probes:
            changed_s = self._queued_s * (
                _TOO_LATE if on_the_way < _IDLE * self.octets else _IN_TIME
            )
            self._queued_s = min(MOST_QUEUED_S, max(QUEUED_S, changed_s))
        excess = on_the_way - self.octets + PAGE_SIZE
        if excess <= 0:
            return 0.0
        needed_s = excess / self.octets_per_s if self.octets_per_s else 0.0
        return min(_LONGEST_WAIT_S, max(_SHORTEST_WAIT_S, needed_s))

    def seen(self, arrived: int, now_s: float) -> None:
        """Record that this many octets have arrived by now."""
        began_s, before = self._began
        took_s = now_s - began_s
        if took_s < max(WINDOW_S, 2 * self._round_trip_s):
            return
        self._began = now_s, arrived
        carried = (arrived - before) / took_s
        if self._probes and carried <= CARRIES_MORE * self.octets_per_s:
            self._probes, self._usual_windows = False, 0
        elif not self._probes:
            self._usual_windows += 1
            self._probes = self._usual_windows >= USUAL_WINDOWS
        if carried < self.octets_per_s:
            carried = (1 - _NEW_SHARE) * self.octets_per_s + _NEW_SHARE * carried
        self.octets_per_s = carried
