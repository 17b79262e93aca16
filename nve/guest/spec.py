"""The parameters of a guest: what it does, and the sizes of its memory and disk.

A megabyte is 2^20 bytes here, as in QEMU's `-m`.
"""

import json
from dataclasses import asdict, dataclass
from typing import Literal, Self

PAGE_SIZE = 4096
MB = 1 << 20
PAGES_OF_A_MB = MB // PAGE_SIZE
SERVICE_PORT = 4711
"""The UDP port of the service."""

Pattern = Literal["uniform", "hot-spot", "sequential"]


@dataclass(frozen=True)
class GuestSpec:
    """The parameters of one guest.

    `writes_mb_s` is the rate at which it writes pages of the first `working_set_mb` of its memory.
    """

    memory_mb: int
    writes_mb_s: float = 0.0
    pattern: Pattern = "uniform"
    working_set_mb: int | None = None
    """None: all of its memory."""
    filled_mb: int | None = None
    """What it has touched of its memory; the rest is empty.  None stands for all of it."""
    zeros_pct: float = 0.0
    """How much of each page holds zeros."""
    disk_mb: int = 0
    disk_writes_mb_s: float = 0.0
    service: bool = False
    seed: int = 1

    @property
    def memory_pages(self) -> int:
        return self.memory_mb * PAGES_OF_A_MB

    @property
    def disk_pages(self) -> int:
        return self.disk_mb * PAGES_OF_A_MB

    @property
    def pages(self) -> int:
        """The number of pages: memory first, then disk, numbered in one sequence."""
        return self.memory_pages + self.disk_pages

    @property
    def filled_pages(self) -> int:
        """The number of pages of the memory that are filled at the start."""
        return (self.filled_mb or self.memory_mb) * PAGES_OF_A_MB

    @property
    def working_set_pages(self) -> int:
        return (self.working_set_mb or self.filled_mb or self.memory_mb) * PAGES_OF_A_MB

    @property
    def words(self) -> int:
        """How many words of a page hold something other than zeros."""
        return round(PAGE_SIZE // 8 * (1 - self.zeros_pct / 100))

    def line(self) -> str:
        """Return the parameters as a line of text."""
        return json.dumps(asdict(self))

    @classmethod
    def of(cls, line: str) -> Self:
        return cls(**json.loads(line))
