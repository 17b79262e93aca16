"""Parses iperf3's output into throughput samples.

Throughput is what the *receiving* side reports: the sender's figure is what fitted into its socket
buffer, which goes on for a while after the network has stopped.  Only the sender knows the
retransmissions.

The line-by-line text is read, not the JSON: JSON appears only when the test ends and gives the
start in whole seconds, while a line stamped as it comes in dates the test to the millisecond, and a
run that is cut short has all lines up to then.  With `-f k`, all rates are in Kbits/sec.
"""

import re
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

_INTERVAL = re.compile(
    r"\[ *\d+\] +[\d.]+-(?P<end_s>[\d.]+) +sec +[\d.]+ \w+ +(?P<kbit>[\d.]+) Kbits/sec"
    r"( +(?P<retransmits>\d+) +[\d.]+ \w?Bytes)? *$"
)
"""A line about one interval: the sender's ends in retransmissions and congestion window, the
receiver's with the rate.  The sums at the end say `sender` or `receiver` and do not match."""


@dataclass(frozen=True)
class Interval:
    """One interval, in seconds since the test began."""

    end_s: float
    bits_per_second: float
    retransmits: int


@dataclass(frozen=True)
class Sample:
    """The interval that ended at `t_ns` (ns since the epoch)."""

    t_ns: int
    bits_per_second: float
    retransmits: int


StampedLines = Sequence[tuple[int, str]]
"""Lines with the time at which each came in."""


def parse_interval(line: str) -> Interval | None:
    """Return the interval of a line, or None for every other line."""
    match = _INTERVAL.match(line.rstrip("\n"))
    if match is None:
        return None
    return Interval(
        end_s=float(match["end_s"]),
        bits_per_second=float(match["kbit"]) * 1000,
        retransmits=int(match["retransmits"] or 0),
    )


def samples(received: StampedLines, sent: StampedLines) -> list[Sample]:
    """Return the receiver's intervals, each with what the sender retransmitted in it.

    Lines come in when their interval has ended or later, so the earliest start that any of them
    suggests is the best guess of when the test began.
    """
    intervals = [
        (t_ns, interval)
        for t_ns, line in received
        if (interval := parse_interval(line)) is not None
    ]
    if not intervals:
        return []
    start_ns = min(t_ns - round(interval.end_s * 1e9) for t_ns, interval in intervals)
    ends_s = [interval.end_s for _, interval in intervals]
    retransmits = _spread(ends_s, (parse_interval(line) for _, line in sent))
    return [
        Sample(start_ns + round(interval.end_s * 1e9), interval.bits_per_second, resent)
        for (_, interval), resent in zip(intervals, retransmits, strict=True)
    ]


def _spread(ends_s: list[float], sent: Iterable[Interval | None]) -> list[int]:
    """Assign the sender's retransmissions to the receiver's intervals; none is left out."""
    retransmits = [0] * len(ends_s)
    for interval in sent:
        if interval is not None:
            place = min(bisect_left(ends_s, interval.end_s), len(ends_s) - 1)
            retransmits[place] += interval.retransmits
    return retransmits
