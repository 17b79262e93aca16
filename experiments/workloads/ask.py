"""Questions to a task, which show for how long a move cuts a client off.

    - {kind: ask, from: vm3, task: web, rate_rps: 20}

The task's program is `http-server`, which is asked for the head of its document.  A client that
loses its connection opens another, and looks the task's name up if it has one.
"""

from collections.abc import Sequence

from pydantic import Field

from experiments.measure.rows import RowSchema
from experiments.workloads import Collected, Stage
from experiments.workloads.visiting import lines
from experiments.workloads.visiting.settings import Visitors, VisitSettings

SAYS = (
    "Requests to a task that is an HTTP server, over a connection that is reopened when it is lost."
)
ROWS = RowSchema(
    "asks.csv",
    {
        "flow": "`vm3>web/ask`; a second one between the same ends has `#2` behind it",
        "ask": "its number, from 1",
        "asked_ns": "when the client began to ask",
        "answered_ns": "when it had the answer; a question without one has no row",
        "attempts": "how often it was sent: again over each new connection",
        "connects": "connections that the client has tried to open for it",
        "lookups": "how often it has asked the name server for it",
    },
    {"asked_ns": "Int64", "answered_ns": "Int64"},
)
PROGRAMS = ()


class Settings(VisitSettings):
    rate_rps: float = Field(20, gt=0, le=1000)


class Askers(Visitors):
    """All clients of a run."""

    def __init__(self, sent: Sequence[Settings], stage: Stage) -> None:
        told = [(each, ["--rate-rps", f"{each.rate_rps:g}"]) for each in sent]
        super().__init__("ask", "asking", told, stage)

    def collect(self) -> Collected:
        rows = [
            (client.flow, number, *vars(each).values())
            for client in self.clients
            for number, each in enumerate(lines.read(lines.Asked, client.noted()), start=1)
        ]
        return Collected(ROWS.frame(rows), problems=self.problems)


prepare = Askers
