"""What the kinds `ask` and `fetch` have in common."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

from pydantic import Field

from experiments.scenario.parts import Name, no_such
from experiments.scenario.traffic import TrafficSpec
from experiments.workloads import Stage
from experiments.workloads._noting import NotingProcess


class VisitSettings(TrafficSpec):
    source: Name = Field(alias="from")
    task: Name
    family: Literal["ipv4", "ipv6"] = "ipv4"
    port: int = Field(80, ge=1, le=65535)
    protocol: Literal["tcp", "mptcp"] = "tcp"
    """With `mptcp`, the kernel of the client takes over addresses that it is told of (RFC 8684)."""

    def contradictions(
        self, network: Mapping[str, int], before: Sequence[TrafficSpec]
    ) -> Iterator[tuple[str, str]]:
        if self.source not in network:
            yield "from", no_such("VM", self.source, network)

    @property
    def of_task(self) -> tuple[str, int]:
        return self.task, 4 if self.family == "ipv4" else 6


class Visitors:
    """All clients of one of the kinds in a run."""

    ends_by_itself = False

    def __init__(
        self, kind: str, program: str, sent: Sequence[tuple[VisitSettings, list[str]]], stage: Stage
    ) -> None:
        """Each with what its program is told besides."""
        self.clients = [
            NotingProcess(
                stage.name_apart(f"{each.source}>{each.task}/{kind}"),
                f"experiments.workloads.visiting.{program}",
                [
                    *(*stage.way_to(*each.of_task), "--port", str(each.port)),
                    *("--protocol", each.protocol, *more),
                ],
                stage,
                each.source,
                stage.directory / f"{each.source}-{number}.{kind}",
            )
            for number, (each, more) in enumerate(sent, start=1)
        ]

    def launch(self) -> None:
        for client in self.clients:
            client.launch()

    def begin(self, start_ns: int) -> None:
        for client in self.clients:
            client.begin(start_ns)

    @property
    def problems(self) -> list[str]:
        return [problem for each in self.clients for problem in each.problems]

    def stop(self) -> None:
        for client in self.clients:
            client.stop()
