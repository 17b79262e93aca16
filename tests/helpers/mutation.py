"""Octets that are nearly right, as a fuzzer makes them from a valid message.

The same seed makes the same octets, so that a finding can be repeated.
"""

import random
from collections.abc import Callable, Iterator, Sequence


def mutations(seed: int, originals: Sequence[bytes], longest: int = 1400) -> Iterator[bytes]:
    """Yield, without end, one of the originals, changed in one to three ways."""
    chance = random.Random(seed)
    while True:
        octets = bytearray(chance.choice(originals))
        for _ in range(chance.randint(1, 3)):
            chance.choice(_WAYS)(octets, chance)
        yield bytes(octets[:longest])


def garbage(seed: int, longest: int = 1400) -> Iterator[bytes]:
    """Yield, without end, meaningless octets of any length."""
    chance = random.Random(seed)
    while True:
        yield chance.randbytes(chance.randint(0, longest))


def _flip(octets: bytearray, chance: random.Random) -> None:
    if octets:
        octets[chance.randrange(len(octets))] ^= 1 << chance.randrange(8)


def _set(octets: bytearray, chance: random.Random) -> None:
    """Set an octet to a value at the edge of a range."""
    if octets:
        octets[chance.randrange(len(octets))] = chance.choice((0, 1, 0x7F, 0x80, 0xFE, 0xFF))


def _cut(octets: bytearray, chance: random.Random) -> None:
    del octets[chance.randint(0, len(octets)) :]


def _extend(octets: bytearray, chance: random.Random) -> None:
    octets += chance.randbytes(chance.randint(1, 64))


def _remove(octets: bytearray, chance: random.Random) -> None:
    start = chance.randint(0, len(octets))
    del octets[start : start + chance.randint(1, 8)]


def _repeat(octets: bytearray, chance: random.Random) -> None:
    start = chance.randint(0, len(octets))
    octets[start:start] = octets[start : start + chance.randint(1, 16)]


_WAYS: tuple[Callable[[bytearray, random.Random], None], ...] = (
    *(_flip, _flip, _set, _set),
    *(_cut, _extend, _remove, _repeat),
)
