"""The settings of the draft's overlay in a scenario; the draft's open questions are switches
here.
"""

from typing import Literal, Self

from pydantic import Field, model_validator

from controller.core.dissemination import strategy
from experiments.overlays import OverlaySettings
from nve.model import Bounds
from nve.pipeline.limits import Limits


class Settings(OverlaySettings):
    """See `experiments.overlays`."""

    framework: Literal["os-ken", "ryu"] = "os-ken"
    """The framework on which the NVA runs."""
    mapping_update: str = "push"
    lifetime_s: int | None = Field(None, ge=1, le=3600)
    in_flight: Literal["tunnel", "drop"] = "tunnel"
    hold: bool = False
    stop: Literal["idle", "timer"] = "idle"
    idle_s: int = Field(2, ge=1, le=3600)
    timer_s: int = Field(5, ge=1, le=3600)
    hold_packets: int = Field(30_000, ge=1, le=1_000_000)
    hold_bytes: int = Field(32 << 20, ge=2000, le=1 << 30)
    hold_s: float = Field(60, gt=0, le=1200)
    end_marker: bool = False
    end_marker_s: float = Field(1, gt=0, le=60)
    await_last_packets: bool = True
    """With `end_marker`: whether what the VM sends at its destination is held there until its last
    packets from the source have arrived.  The VM runs meanwhile."""
    on_expiry: Literal["forget", "keep"] = "forget"
    report_rate_pps: int = Field(Limits.report_rate_pps, ge=1, le=100_000)
    report_burst: int = Field(Limits.report_burst, ge=1, le=100_000)
    miss_rate_pps: int = Field(Limits.miss_rate_pps, ge=1, le=100_000)
    miss_burst: int = Field(Limits.miss_burst, ge=1, le=100_000)

    @property
    def bounds(self) -> Bounds | None:
        """What may wait for a VM that is not there yet, and for how long; None if nothing may."""
        if not self.hold:
            return None
        markers_s = self.end_marker_s if self.end_marker else None
        return Bounds(self.hold_packets, self.hold_bytes, self.hold_s, markers_s)

    @property
    def limits(self) -> Limits:
        """How much a VM may make its NVE report to the NVA."""
        return Limits(self.report_rate_pps, self.report_burst, self.miss_rate_pps, self.miss_burst)

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        keeps_expired = self.on_expiry == "keep"
        strategy(self.mapping_update, self.lifetime_s, keeps_expired=keeps_expired)
        if self.hold and self.in_flight == "drop":
            raise ValueError(
                "hold: true holds what the source NVE tunnels on; use in_flight: tunnel"
            )
        if self.end_marker and not self.hold:
            raise ValueError("end_marker: true says until when to hold; it needs hold: true")
        return self
