"""What the kinds `ask` and `fetch` have in common."""

from collections.abc import Sequence
from typing import Literal

from experiments.scenario.traffic import TaskTrafficSpec
from experiments.workloads import Stage
from experiments.workloads._noting import NotingProcess, NotingProcesses


class VisitSettings(TaskTrafficSpec):
    protocol: Literal["tcp", "mptcp"] = "tcp"
    """With `mptcp`, the kernel of the client takes over addresses that it is told of (RFC 8684)."""


class Visitors(NotingProcesses[NotingProcess]):
    """All clients of one of the kinds in a run."""

    def __init__(
        self, kind: str, program: str, sent: Sequence[tuple[VisitSettings, list[str]]], stage: Stage
    ) -> None:
        """Each entry has the further arguments of its program behind it."""
        super().__init__(
            [
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
        )
