"""Decides when a transfer that makes no progress is given up.

    VM running      not an octet has arrived for `patience_s`: the path or the other server is gone
    VM suspended    less has arrived in `patience_s` than a twentieth of what arrived in as long
                    before: a suspended VM does not wait for a path of which next to nothing is left

Octets count that the other side's kernel has confirmed.
"""

SLOWEST = 0.05
"""The share of the rate before that a suspended VM still waits for."""


class Stall:
    """One phase of a transfer.  Times are in seconds of any steady clock."""

    def __init__(self, patience_s: float, now_s: float, octets: int = 0, usual: float = 0) -> None:
        """`octets` have arrived before this phase.

        `usual` is the rate before it in octets per second, for a suspended VM.
        """
        self._patience_s = patience_s
        self._least = max(1.0, SLOWEST * usual * patience_s)
        self._since_s = now_s
        self._arrived = octets

    def has_stalled(self, octets: int, now_s: float) -> bool:
        """Record that `octets` have arrived by now; return whether to give the transfer up."""
        if octets - self._arrived >= self._least:
            self._arrived, self._since_s = octets, now_s
        return now_s - self._since_s >= self._patience_s
