"""Whether a server is cut off from all others, judged by who has heard of whom.

A server that nobody hears of may be cut off, or those who listen may be.  So a standby's server is
believed only if a third one, a *witness*, has heard of it meanwhile, and no witness has heard of
the primary's.  Where there is no witness, nobody can tell, and nothing is done.
"""

from collections.abc import Iterator, Sequence

MOST_WITNESSES = 3


def witnesses(servers: Sequence[str], primary: str, standby: str) -> list[str]:
    """Return the servers, other than these two, that are asked whom they have heard of."""
    return [each for each in servers if each not in (primary, standby)][:MOST_WITNESSES]


def pairs(primary: str, standby: str, third: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield who has to hear of whom: (listener, speaker)."""
    yield standby, primary
    for witness in third:
        yield witness, primary
        yield witness, standby


class Silences:
    """When each server has last heard of another one, in seconds by one clock."""

    def __init__(self, now_s: float) -> None:
        """Until it is heard of, a server counts as heard of now."""
        self._begun_s = now_s
        self._heard_s: dict[tuple[str, str], float] = {}

    def heard(self, listener: str, speaker: str, now_s: float) -> None:
        self._heard_s[listener, speaker] = now_s

    def silence_s(self, listener: str, speaker: str, now_s: float) -> float:
        return now_s - self._heard_s.get((listener, speaker), self._begun_s)

    def cut_off_s(
        self, primary: str, standby: str, third: Sequence[str], detect_s: float, now_s: float
    ) -> float | None:
        """Return for how long the primary's server has been cut off, at least `detect_s`; None if
        it is not, or if that cannot be told.
        """
        silent_s = min(self.silence_s(each, primary, now_s) for each in (standby, *third))
        if silent_s < detect_s:
            return None
        vouched = any(self.silence_s(each, standby, now_s) < detect_s / 2 for each in third)
        return silent_s if vouched else None
