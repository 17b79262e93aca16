"""How the state of a VM is brought over in a move: the key `transfer` of a move.

    - {at_s: 2, vm: vm1, to: nve2, transfer: {kind: pre-copy, bandwidth_mbit: 100}}
    - {at_s: 9, vm: vm1, to: nve1, transfer: stop-and-copy}

Names are QEMU's where it has one (`nve.transfer.convergence`).
"""

from typing import Any, Self

from pydantic import Field, model_validator

from experiments.scenario.parts import Part
from nve.transfer.convergence import Kind, TransferLimits


class TransferSpec(Part):
    """One transfer.  A VM with a guest has one with these defaults if its move names none."""

    kind: Kind = "pre-copy"
    bandwidth_mbit: float | None = Field(None, gt=0, le=100_000)
    downtime_limit_ms: float = Field(300, gt=0, le=600_000)
    max_iterations: int = Field(30, ge=1, le=10_000)
    max_time_s: float = Field(300, gt=0, le=1500)
    auto_converge: bool = False
    throttle_step_pct: int = Field(10, ge=1, le=99)

    @model_validator(mode="after")
    def _can_converge(self) -> Self:
        if self.auto_converge and self.kind == "stop-and-copy":
            raise ValueError("auto_converge: stop-and-copy has no rounds; leave auto_converge out")
        return self

    @property
    def limits(self) -> TransferLimits:
        """The same for those who carry it out."""
        return TransferLimits(**self.model_dump())


def of_its_kind(given: Any) -> Any:
    """Most need no more said than their kind."""
    return {"kind": given} if isinstance(given, str) else given
