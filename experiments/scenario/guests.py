"""What a VM has besides a NIC: memory that it writes, a disk, a service.

    vms:
      vm1:
        nve: nve1
        guest: {memory_mb: 64, writes: {rate_mb_s: 20, pattern: hot-spot}, service: true}
      vm2:
        nve: nve1
        guest: {memory_mb: 64, filled_mb: 16, zeros_pct: 50}

A megabyte is 2^20 bytes here, as in QEMU's `-m`.  `nve.guest` implements the guest.
"""

from typing import Self

from pydantic import Field, model_validator

from experiments.scenario.parts import Part
from nve.guest.spec import GuestSpec, Pattern

LARGEST_MB = 65_536


class GuestWrites(Part):
    """How the guest writes its memory: whole pages of its working set, at the beginning of the
    memory.
    """

    rate_mb_s: float = Field(gt=0, le=10_000)
    pattern: Pattern = "uniform"
    working_set_mb: int | None = Field(None, ge=1, le=LARGEST_MB)


class Guest(Part):
    """The guest of one VM."""

    memory_mb: int = Field(ge=1, le=LARGEST_MB)
    writes: GuestWrites | None = None
    filled_mb: int | None = Field(None, ge=1, le=LARGEST_MB)
    """How much of its memory it has touched; the rest is empty."""
    zeros_pct: float = Field(0, ge=0, le=90)
    """How much of each page holds zeros, which is easy to compress."""
    disk_mb: int = Field(0, ge=0, le=LARGEST_MB)
    disk_writes_mb_s: float = Field(0, ge=0, le=10_000)
    service: bool = False

    @model_validator(mode="after")
    def _has_what_it_writes(self) -> Self:
        working_set_mb = self.writes.working_set_mb if self.writes else None
        if working_set_mb is not None and working_set_mb > self.memory_mb:
            raise ValueError(
                f"the working set ({working_set_mb} MB) is larger than the memory "
                f"({self.memory_mb} MB); lower writes.working_set_mb or raise memory_mb"
            )
        if self.filled_mb is not None and self.filled_mb > self.memory_mb:
            raise ValueError(
                f"filled_mb: {self.filled_mb} MB are more than the memory ({self.memory_mb} MB)"
            )
        if working_set_mb is not None and self.filled_mb and working_set_mb > self.filled_mb:
            raise ValueError(
                f"the working set ({working_set_mb} MB) is larger than what is filled of the "
                f"memory ({self.filled_mb} MB); raise filled_mb or leave it out"
            )
        if self.disk_writes_mb_s and not self.disk_mb:
            raise ValueError("disk_writes_mb_s: there is no disk to write; give disk_mb as well")
        return self

    @property
    def size_mb(self) -> int:
        """The memory and disk that it takes of its server."""
        return self.memory_mb + self.disk_mb

    def spec(self, seed: int) -> GuestSpec:
        """Return the guest in the form that `nve.guest` runs."""
        return GuestSpec(
            memory_mb=self.memory_mb,
            writes_mb_s=self.writes.rate_mb_s if self.writes else 0.0,
            pattern=self.writes.pattern if self.writes else "uniform",
            working_set_mb=self.writes.working_set_mb if self.writes else None,
            filled_mb=self.filled_mb,
            zeros_pct=self.zeros_pct,
            disk_mb=self.disk_mb,
            disk_writes_mb_s=self.disk_writes_mb_s,
            service=self.service,
            seed=seed,
        )
