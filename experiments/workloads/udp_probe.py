"""UDP probes: numbered, time-stamped packets at a steady rate (`experiments.probes`).

- {kind: udp-probe, from: vm2, to: vm1, family: ipv6, rate_pps: 1000, size_bytes: 100}
"""

import random
from collections.abc import Sequence

from pydantic import Field

from experiments.measure.rows import PACKETS
from experiments.probes.udp import FlowPlan, Plan, flow_name
from experiments.scenario.traffic import FlowSpec
from experiments.workloads import Collected, Stage

SAYS = "Numbered UDP packets at a steady rate: how many are lost, late or out of order."
ROWS = PACKETS
PROGRAMS = ()

FINISH_SLACK_S = 30.0
"""How long a sender may take beyond the run's duration."""


class Settings(FlowSpec):
    rate_pps: float = Field(1000, gt=0, le=20_000)
    size_bytes: int = Field(100, ge=28, le=1400)

    def packets(self, duration_s: float) -> int:
        return round(self.rate_pps * duration_s)


class UdpProbes:
    """All probe flows of a run: one sender and one receiver per VM."""

    ends_by_itself = True

    def __init__(self, sent: Sequence[Settings], stage: Stage) -> None:
        from experiments.probes.fleet import ProbeFleet  # which takes long to import

        self._timeout_s = stage.duration_s + FINISH_SLACK_S
        plan = Plan(
            nonce=random.Random(stage.seed).getrandbits(32),
            duration_s=stage.duration_s,
            flows=tuple(
                FlowPlan(
                    stage.name_apart(flow_name(flow.source, flow.destination, flow.family)),
                    flow.source,
                    flow.destination,
                    stage.address(flow.destination, flow.family),
                    flow.rate_pps,
                    flow.size_bytes,
                )
                for flow in sent
            ),
        )
        self._fleet = ProbeFleet(plan, stage.directory / "probes", stage.in_vm)

    def launch(self) -> None:
        self._fleet.launch()

    def begin(self, start_ns: int) -> None:
        self._fleet.begin(start_ns)

    def so_far(self) -> str:
        if (so_far := self._fleet.so_far()) is None:
            return ""
        said = f"{so_far.packets_per_s:,.0f} packets/s"
        return said if so_far.missing is None else f"{said}, {so_far.missing:,} lost so far"

    def collect(self) -> Collected:
        probed = self._fleet.collect(self._timeout_s)
        return Collected(probed.packets, [], probed.problems, {"probes": probed.summary})

    def stop(self) -> None:
        self._fleet.stop()


prepare = UdpProbes
