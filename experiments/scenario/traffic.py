"""Traffic of a scenario: what VMs, and others, send.

    - {kind: udp-probe, from: vm2, to: vm1, family: ipv6, rate_pps: 1000}
    - {kind: diskless-client, vm: vm1}

Each kind is a file in `experiments/workloads`, which defines its further keys; this module has what
all kinds have in common.  A *flow* is from one VM to another of its virtual network.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, SerializeAsAny

from experiments.catalogue import WORKLOADS
from experiments.scenario.parts import Name, Part, no_such

Family = Literal["ipv4", "ipv6"]


class TrafficSpec(Part):
    """One entry of `traffic`: the base of each kind's Settings."""

    kind: str

    def contradictions(
        self, network: Mapping[str, int], before: Sequence["TrafficSpec"]
    ) -> Iterator[tuple[str, str]]:
        """Yield where the entry does not fit the VMs or the entries listed `before`.

        `network` is the virtual network of each VM.  Each item is a key, or nothing for the entry
        as a whole, and a complaint.
        """
        yield from ()

    def packets(self, _duration_s: float) -> int:
        """Return how many packets get a row of their own in the result."""
        return 0

    @property
    def of_task(self) -> tuple[str, int] | None:
        """The task that it talks to, and the IP version it uses; None if it talks to no task."""
        return None

    @property
    def diskless(self) -> frozenset[str]:
        """The VMs that lose their IPv4 address when they move, because nothing in them keeps it."""
        return frozenset()


class FlowSpec(TrafficSpec):
    """Traffic from one VM to another; a run begins only when packets can get there."""

    source: Name = Field(alias="from")
    destination: Name = Field(alias="to")
    family: Family = "ipv4"

    @property
    def asks_service(self) -> bool:
        """Whether it needs the service of a guest in its destination."""
        return False

    def contradictions(
        self, network: Mapping[str, int], before: Sequence[TrafficSpec]
    ) -> Iterator[tuple[str, str]]:
        for end, vm in (("from", self.source), ("to", self.destination)):
            if vm not in network:
                yield end, no_such("VM", vm, network)
        if self.source == self.destination:
            yield "", f"{self.source} would talk to itself"
        if network.get(self.source) != network.get(self.destination):
            yield "", "its two VMs are in different virtual networks"


class TaskTrafficSpec(TrafficSpec):
    """Traffic from a VM to a task, wherever that is."""

    source: Name = Field(alias="from")
    task: Name
    family: Family = "ipv4"
    port: int = Field(80, ge=1, le=65535)

    def contradictions(
        self, network: Mapping[str, int], before: Sequence[TrafficSpec]
    ) -> Iterator[tuple[str, str]]:
        if self.source not in network:
            yield "from", no_such("VM", self.source, network)

    @property
    def of_task(self) -> tuple[str, int]:
        return self.task, 4 if self.family == "ipv4" else 6


def _of_its_kind(given: Any) -> Any:
    """Return the entry, read by the Settings of its kind."""
    if isinstance(given, TrafficSpec):
        return given
    if not isinstance(given, Mapping) or "kind" not in given:
        raise ValueError(f"give the kind of traffic: kind: {WORKLOADS.choice()}")
    return WORKLOADS.get(str(given["kind"])).Settings.model_validate(given)


TrafficEntry = Annotated[SerializeAsAny[TrafficSpec], BeforeValidator(_of_its_kind)]
"""Any kind of traffic."""
