"""TCP bulk transfers: one iperf3 connection each, as fast as it goes or limited to `rate_mbit`.

- {kind: tcp-bulk, from: vm2, to: vm1, rate_mbit: 10}
"""

from collections.abc import Sequence

from pydantic import Field

from experiments.measure.rows import RowSchema
from experiments.probes.udp import flow_name
from experiments.scenario.traffic import FlowSpec
from experiments.workloads import Collected, Stage, WorkloadError
from experiments.workloads.iperf3.transfer import FIRST_PORT, BulkPlan, TcpBulk
from nve.linux.wait import sleep_until

SAYS = "One iperf3 TCP connection: its throughput and retransmissions, and whether it survives."
ROWS = RowSchema(
    "throughput.csv",
    {
        "t_ns": "end of the interval",
        "flow": "as above",
        "bits_per_second": "what iperf3's receiver got in the interval",
        "retransmits": "TCP segments that the sender retransmitted in the interval",
    },
)
PROGRAMS = ("iperf3",)

FINISH_SLACK_S = 15.0
"""How many seconds a client may take beyond the run's duration before its connection counts as
dead."""


class Settings(FlowSpec):
    rate_mbit: float | None = Field(None, gt=0, le=100_000)


class Transfers:
    """All transfers of a run."""

    ends_by_itself = True

    def __init__(self, sent: Sequence[Settings], stage: Stage) -> None:
        self._transfers = [
            TcpBulk(
                BulkPlan(
                    stage.name_apart(flow_name(flow.source, flow.destination, flow.family)),
                    flow.source,
                    flow.destination,
                    stage.address(flow.destination, flow.family),
                    stage.duration_s,
                    FIRST_PORT + number,
                    flow.rate_mbit,
                ),
                stage.in_vm,
            )
            for number, flow in enumerate(sent)
        ]

    def launch(self) -> None:
        for transfer in self._transfers:
            transfer.launch()

    def begin(self, start_ns: int) -> None:
        sleep_until(start_ns)
        for transfer in self._transfers:
            transfer.begin()

    def collect(self) -> Collected:
        """Return the samples; a transfer that measured nothing is a problem of the run, the others
        count.
        """
        collected, rows = Collected(), []
        for transfer in self._transfers:
            try:
                flow = transfer.plan.flow
                rows += [
                    (sample.t_ns, flow, sample.bits_per_second, sample.retransmits)
                    for sample in transfer.collect(FINISH_SLACK_S)
                ]
            except WorkloadError as error:
                collected.problems.append(str(error))
        collected.table = ROWS.frame(rows) if rows else None
        return collected

    def stop(self) -> None:
        for transfer in self._transfers:
            transfer.stop()


prepare = Transfers
