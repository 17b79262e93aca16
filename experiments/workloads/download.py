"""Downloads from a task, one after the other, which show the effect of a move on a client.

    - {kind: download, from: vm3, task: web, rate_mbit: 20}

The task's program is `http-server`.  If a download breaks off, the client notes how, and begins the
next one.
"""

from collections.abc import Sequence

from pydantic import Field

from experiments.measure.rows import RowSchema
from experiments.scenario.traffic import TaskTrafficSpec
from experiments.workloads import Collected, Stage
from experiments.workloads._noting import NotingProcess, NotingProcesses
from experiments.workloads.downloading import download

SAYS = "Repeated downloads from a task that is an HTTP server: what clients notice of its moves."
ROWS = RowSchema(
    "downloads.csv",
    {
        "flow": "`vm3>web/http`; a second one between the same ends has `#2` behind it",
        "download": "its number, from 1",
        "began_ns": "when the client began to connect",
        "ended_ns": "when it was over; one that goes on at the end of the run has no row",
        "octets": "of the document",
        "outcome": "`whole`, or why not: `reset`, `ended early`, `refused`, `unreachable`, "
        "`timed out`, `changed`",
        "first_ms": "until the answer began; empty: none came",
        "silence_ms": "the longest time that the client waited for an octet",
        "silence_began_ns": "when that began",
    },
    {"began_ns": "Int64", "ended_ns": "Int64", "silence_began_ns": "Int64", "first_ms": "float64"},
)
PROGRAMS = ()


class Settings(TaskTrafficSpec):
    rate_mbit: float | None = Field(None, gt=0, le=100_000)
    """How fast the client reads; by default as fast as data comes."""


class DownloadClients(NotingProcesses[NotingProcess]):
    """All clients of a run."""

    def __init__(self, sent: Sequence[Settings], stage: Stage) -> None:
        super().__init__(
            [
                NotingProcess(
                    stage.name_apart(f"{each.source}>{each.task}/http"),
                    "experiments.workloads.downloading.client",
                    [
                        *(*stage.way_to(*each.of_task), "--port", str(each.port)),
                        *("--rate-mbit", f"{each.rate_mbit or 0:g}"),
                    ],
                    stage,
                    each.source,
                    stage.directory / f"{each.source}-{number}.downloads",
                )
                for number, each in enumerate(sent, start=1)
            ]
        )

    def collect(self) -> Collected:
        rows = [row for each in self.clients for row in download.rows(each.flow, each.noted())]
        found = ROWS.frame(rows)
        problems = self.problems
        changed = sorted(set(found.loc[found["outcome"] == "changed", "flow"]))
        problems += [f"{flow} has got other octets than were sent" for flow in changed]
        return Collected(found, problems=problems)


prepare = DownloadClients
