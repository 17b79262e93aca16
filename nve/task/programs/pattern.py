"""A stream of octets in which any part is known without the rest, so that misplaced ones show."""

from hashlib import sha256
from random import Random
from typing import Final

_PERIOD: Final = 1_048_573
"""A prime, so that no buffer's size divides it."""
_OCTETS: Final = Random(1).randbytes(_PERIOD) * 2


def part(place: int, octets: int) -> memoryview:
    """Return at most this many octets of the stream from a place on."""
    begin = place % _PERIOD
    return memoryview(_OCTETS)[begin : begin + min(octets, _PERIOD)]


def digest(octets: int) -> str:
    """Return the SHA-256 of the first octets of the stream."""
    found = sha256()
    place = 0
    while place < octets:
        here = part(place, octets - place)
        found.update(here)
        place += len(here)
    return found.hexdigest()
