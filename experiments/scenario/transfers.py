"""How the state of a VM is brought over in a move: the key `transfer` of a move.

    - {at_s: 2, vm: vm1, to: nve2, transfer: {kind: pre-copy, bandwidth_mbit: 100}}
    - {at_s: 9, vm: vm1, to: nve1, transfer: stop-and-copy}
    - {at_s: 12, vm: vm1, to: nve2, transfer: {kind: hybrid, post_copy_after: 2, channels: 2}}
    - {at_s: 20, vm: vm1, to: nve1, transfer: {network: migration}}

Names are QEMU's if it has one (`nve.transfer.convergence`).
"""

from typing import Any, Self

from pydantic import Field, model_validator

from experiments.scenario.parts import Part
from nve.transfer.convergence import HAVE_ROUNDS, Compression, Kind, Network, TransferLimits


class TransferSpec(Part):
    """One transfer.  A VM with a guest has one with these defaults if its move names none."""

    kind: Kind = "pre-copy"
    network: Network = "underlay"
    """The tenants' underlay, or `topology.migration_network`."""
    bandwidth_mbit: float | None = Field(None, gt=0, le=100_000)
    downtime_limit_ms: float = Field(300, gt=0, le=600_000)
    max_iterations: int = Field(30, ge=1, le=10_000)
    max_time_s: float = Field(300, gt=0, le=1500)
    patience_s: float = Field(3, ge=0.5, le=600)
    auto_converge: bool = False
    throttle_step_pct: int = Field(10, ge=1, le=99)
    post_copy_after: int = Field(3, ge=1, le=10_000)
    channels: int = Field(1, ge=1, le=16)
    zero_pages: bool = False
    compression: Compression = "none"

    @model_validator(mode="after")
    def _says_what_its_kind_has(self) -> Self:
        if self.auto_converge and self.kind not in HAVE_ROUNDS:
            raise ValueError(f"auto_converge: {self.kind} has no rounds; leave auto_converge out")
        usual = type(self).model_fields["post_copy_after"].default
        if self.post_copy_after != usual and self.kind != "hybrid":
            raise ValueError(
                f"post_copy_after: {self.kind} does not change to post-copy; say kind: hybrid"
            )
        return self

    @property
    def limits(self) -> TransferLimits:
        """The limits in the form that `nve.transfer` uses."""
        return TransferLimits(**self.model_dump())


def of_its_kind(given: Any) -> Any:
    """Accept a kind as a transfer, which is enough for most."""
    return {"kind": given} if isinstance(given, str) else given
