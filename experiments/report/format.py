"""Formats numbers for people: three digits are enough on a projector, None is a dash."""

import math
from collections.abc import Sequence

MISSING = "–"


def count(value: float | None) -> str:
    """Return 1,873 for 1873."""
    return MISSING if _missing(value) else f"{value:,.0f}"


def milliseconds(value: float | None) -> str:
    """Return a number of ms without its unit, for a column headed by it."""
    if value is None or _missing(value):
        return MISSING
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def megabytes(octets: float | None) -> str:
    """Return a number of MB without its unit, for a column headed by it."""
    return milliseconds(None if octets is None else octets / 1e6)


def duration(value_ms: float | None) -> str:
    """Return a duration with its unit, in seconds if that is easier to read."""
    if value_ms is None or _missing(value_ms):
        return "an unknown time"
    if abs(value_ms) >= 1000:
        return f"{value_ms / 1000:.2f} s"
    return f"{milliseconds(value_ms)} ms"


def span(low: float, high: float) -> str:
    """Return a range of durations in ms; one duration if both read the same."""
    first, last = duration(low), duration(high)
    return first if first == last else f"{first} to {last}"


def things(value: float, word: str) -> str:
    """Return "1 move", "100 moves"."""
    return f"{count(value)} {word}" + ("" if value == 1 else "s")


def counts(low: float, high: float) -> str:
    first, last = count(low), count(high)
    return first if first == last else f"{first} to {last}"


def listing(items: Sequence[str]) -> str:
    """Return "a, b and c"."""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"


def _missing(value: float | None) -> bool:
    return value is None or math.isnan(value)
