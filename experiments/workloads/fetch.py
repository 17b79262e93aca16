"""A document downloaded once from a task, from the beginning again when the connection is lost.

    - {kind: fetch, from: vm3, task: web}

The task's program is `http-server`.  What has come is written down every 50 ms.
"""

from collections.abc import Sequence

from experiments.measure.rows import RowSchema
from experiments.workloads import Collected, Stage
from experiments.workloads.visiting import lines
from experiments.workloads.visiting.settings import Visitors, VisitSettings

SAYS = "One download from a task that is an HTTP server: its progress over time."
ROWS = RowSchema(
    "fetches.csv",
    {
        "flow": "`vm3>web/fetch`; a second one between the same ends has `#2` behind it",
        "t_ns": "the end of a short time, of 50 ms or as long as the client waited",
        "octets": "that have come in it",
        "again": "those of them that the client had already had",
        "whole": "of the document, what has come since the client began, or began again",
        "silence_ms": "the longest time without an octet that has ended in it",
        "connects": "connections that the client has tried to open until then",
        "lookups": "how often it has asked the name server until then",
    },
    {"t_ns": "Int64"},
)
PROGRAMS = ()


class Settings(VisitSettings):
    pass


class Fetchers(Visitors):
    """All clients of a run."""

    def __init__(self, sent: Sequence[Settings], stage: Stage) -> None:
        super().__init__("fetch", "fetching", [(each, []) for each in sent], stage)

    def collect(self) -> Collected:
        rows = [
            (client.flow, *vars(each).values())
            for client in self.clients
            for each in lines.read(lines.Fetched, client.noted())
        ]
        return Collected(ROWS.frame(rows), problems=self.problems)


prepare = Fetchers
