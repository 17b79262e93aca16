"""Diskless clients: VMs that ask for their own address (R4.1.5; RFC 903).

    - {kind: diskless-client, vm: vm1}

At each move the VM loses its IPv4 address, and the client in it asks for it with reverse ARP.
"""

from collections.abc import Iterator, Mapping, Sequence

from experiments.measure.rows import RowSchema
from experiments.measure.trace import TraceEvent
from experiments.scenario.parts import Name, no_such
from experiments.scenario.traffic import TrafficSpec
from experiments.workloads import Collected, Stage
from experiments.workloads.rarp.driver import Diskless
from topologies.configuration import TENANT_PREFIX_LENGTH

SAYS = "A diskless client in a VM: it asks for its address with RARP after each move."
ROWS = RowSchema(
    "requests.csv",
    {
        "t_ns": "when it was sent",
        "client": "the VM that the client runs in",
        "attempt": "1, and more while there was no answer",
        "answered_ns": "when the answer was there; empty: none came before the client asked again",
        "round_trip_ms": "from the request to its answer",
        "answer": "the address that the answer names",
        "used": "the VM had no IPv4 address, and has this one since",
    },
    {"answered_ns": "Int64"},
)
PROGRAMS = ()


class Settings(TrafficSpec):
    vm: Name

    def contradictions(
        self, network: Mapping[str, int], before: Sequence[TrafficSpec]
    ) -> Iterator[tuple[str, str]]:
        if self.vm not in network:
            yield "vm", no_such("VM", self.vm, network)
        if self in before:
            yield "vm", f"{self.vm} has a diskless client already"

    @property
    def diskless(self) -> frozenset[str]:
        return frozenset({self.vm})


class DisklessClients:
    """All clients of a run."""

    ends_by_itself = False

    def __init__(self, sent: Sequence[Settings], stage: Stage) -> None:
        prefix_length = TENANT_PREFIX_LENGTH[4]
        self._clients = [
            Diskless(stage.vms[client.vm], prefix_length, stage.directory, stage.in_vm)
            for client in sent
        ]

    def launch(self) -> None:
        for client in self._clients:
            client.launch()

    def begin(self, start_ns: int) -> None:
        """Do nothing: the clients ask when they have lost their address."""

    def new_events(self) -> list[TraceEvent]:
        """Return the addresses that clients have got back since the last call."""
        return [event for client in self._clients for event in client.new_events()]

    def collect(self) -> Collected:
        asked = [client.collect() for client in self._clients]
        return Collected(
            ROWS.frame(row for each in asked for row in each.rows),
            [event for each in asked for event in each.events],
            [problem for each in asked for problem in each.problems],
        )

    def stop(self) -> None:
        for client in self._clients:
            client.stop()


prepare = DisklessClients
