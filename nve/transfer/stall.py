"""Whether a transfer still gets on: what is given up, and when.

    running         not an octet has arrived for `patience_s`: the way or the other server is gone
    standing still  less has arrived in `patience_s` than a twentieth of what arrived in as long
                    before: a VM that stands still does not wait for a path of which next to nothing
                    is left

Octets count that the other side's kernel has confirmed.
"""

SLOWEST = 0.05
"""Of the rate before, for a VM that stands still."""


class Stall:
    """One phase of a transfer.  Times are in seconds of any clock that goes on evenly."""

    def __init__(self, patience_s: float, now_s: float, octets: int = 0, usual: float = 0) -> None:
        """`octets` have arrived before it; `usual`, octets a second, is the rate before, for a VM
        that stands still."""
        self._patience_s = patience_s
        self._least = max(1.0, SLOWEST * usual * patience_s)
        self._since_s = now_s
        self._arrived = octets

    def has_stalled(self, octets: int, now_s: float) -> bool:
        """So many octets have arrived by now: whether to give up."""
        if octets - self._arrived >= self._least:
            self._arrived, self._since_s = octets, now_s
        return now_s - self._since_s >= self._patience_s
