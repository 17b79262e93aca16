"""Octets that are nearly right: what a fuzzer makes of a message that is.

The same seed makes the same octets, so that what was found once is found again.
"""

import random
from collections.abc import Callable, Iterator, Sequence


def mutations(seed: int, originals: Sequence[bytes], longest: int = 1400) -> Iterator[bytes]:
    """Endlessly: one of the originals, changed in one to three ways."""
    chance = random.Random(seed)
    while True:
        octets = bytearray(chance.choice(originals))
        for _ in range(chance.randint(1, 3)):
            chance.choice(_WAYS)(octets, chance)
        yield bytes(octets[:longest])


def garbage(seed: int, longest: int = 1400) -> Iterator[bytes]:
    """Endlessly: octets of any length and no meaning."""
    chance = random.Random(seed)
    while True:
        yield chance.randbytes(chance.randint(0, longest))


def _flip(octets: bytearray, chance: random.Random) -> None:
    if octets:
        octets[chance.randrange(len(octets))] ^= 1 << chance.randrange(8)


def _set(octets: bytearray, chance: random.Random) -> None:
    """To a value that is at the edge of something."""
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
