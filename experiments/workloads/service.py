"""Requests to the service of a guest, which show a client which state of the guest it meets.

    - {kind: service, from: vm3, to: vm1, rate_rps: 50}

Each request is answered with the next number out of the guest's memory.  A number that does not
grow means that state was lost.
"""

from collections.abc import Sequence

from pydantic import Field

from experiments.measure.rows import RowSchema
from experiments.scenario.traffic import FlowSpec
from experiments.workloads import Collected, Stage
from experiments.workloads._noting import NotingProcesses
from experiments.workloads.counting.driver import CountingClient

SAYS = "Requests to a guest's service, whose answers show whether the guest has lost state."
ROWS = RowSchema(
    "service.csv",
    {
        "t_ns": "when the request was first sent",
        "flow": "as above, with `service` for the address family's name",
        "request": "its number, from 1",
        "attempts": "how often it was sent: again every 0.1 s while there was no answer",
        "answered_ns": "when its first answer was there; empty: none has come",
        "latency_ms": "from the first sending to that answer",
        "counter": "the number that the guest has answered with, out of its memory",
        "went_back": "the number is not larger than the one of the request before",
    },
    {"answered_ns": "Int64", "counter": "Int64"},
)
PROGRAMS = ()


class Settings(FlowSpec):
    rate_rps: float = Field(50, gt=0, le=1000)

    @property
    def asks_service(self) -> bool:
        return True


class ServiceClients(NotingProcesses[CountingClient]):
    """All clients of a run."""

    def __init__(self, sent: Sequence[Settings], stage: Stage) -> None:
        super().__init__(
            [
                CountingClient(
                    stage.name_apart(f"{each.source}>{each.destination}/service"),
                    number,
                    stage.address(each.destination, each.family),
                    each.rate_rps,
                    stage,
                    each.source,
                )
                for number, each in enumerate(sent, start=1)
            ]
        )

    def collect(self) -> Collected:
        rows = [row for client in self.clients for row in client.collect()]
        return Collected(ROWS.frame(rows), problems=self.problems)


prepare = ServiceClients
