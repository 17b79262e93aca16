"""The content of a guest's page: 512 words of 64 bits.

    word 0      its number in the guest
    word 1      its version: the number of the write that it is from
    word 2      a checksum: the sum of all other words, modulo 2^64
    the rest    words that follow from number and version; the last ones may be zeros

So a page at the wrong place, one with words of two versions, and one that was never written can be
recognised by themselves (`broken`).  A consistent page that is too old is found by its version or
by a digest.
"""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from nve.guest.spec import PAGE_SIZE

WORDS = PAGE_SIZE // 8
HEADER_WORDS = 3

Words: TypeAlias = NDArray[np.uint64]
"""Pages as rows of `WORDS` words each."""
Numbers: TypeAlias = NDArray[np.int64]
"""Page numbers."""

_STEPS = np.arange(WORDS, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)


def mixed(values: Words) -> Words:
    """Return numbers that look random, one for each value: the finaliser of SplitMix64."""
    mixing = values + np.uint64(0x9E3779B97F4A7C15)
    mixing = (mixing ^ (mixing >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixing = (mixing ^ (mixing >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixing ^ (mixing >> np.uint64(31))


def content(numbers: Numbers, versions: Words, words: int = WORDS) -> Words:
    """Return the first `words` words of these pages in these versions."""
    own = numbers.astype(np.uint64)
    base = mixed(own * np.uint64(0xD1342543DE82EF95) + versions)
    rows: Words = base[:, None] + _STEPS[None, :]
    rows[:, words:] = 0
    rows[:, 0] = own
    rows[:, 1] = versions
    rows[:, 2] = 0
    rows[:, 2] = rows.sum(axis=1, dtype=np.uint64)
    return rows


def broken(rows: Words, numbers: Numbers, words: int = WORDS) -> Numbers:
    """Return the numbers of the pages whose content is inconsistent."""
    expected = content(numbers, rows[:, 1], words)
    wrong: Numbers = numbers[(rows != expected).any(axis=1)]
    return wrong
