"""What a client of a guest's service writes, and the rows made of it."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass

AGAIN_S = 0.1
"""The time after which a request without an answer is sent again, in seconds."""


@dataclass(frozen=True)
class Exchange:
    """One request and its answer, if it has one."""

    t_ns: int
    request: int
    attempts: int
    answered_ns: int | None = None
    counter: int | None = None

    def line(self) -> str:
        return json.dumps(asdict(self)) + "\n"


def exchanges(lines: Iterable[str]) -> list[Exchange]:
    """Return the exchanges that a client has written.

    A client writes a line each time that it sends a request, and one when it has the answer; the
    last line of a request counts.  The very last line may be incomplete, as the client is killed at
    the end.
    """
    noted = (Exchange(**json.loads(line)) for line in lines if line.endswith("\n"))
    return list({each.request: each for each in noted}.values())


def rows(flow: str, made: Iterable[Exchange]) -> list[tuple[object, ...]]:
    """Return lines of service.csv."""
    found: list[tuple[object, ...]] = []
    highest = 0
    for each in made:
        went_back = each.counter is not None and each.counter <= highest
        highest = max(highest, each.counter or 0)
        latency_ms = None if each.answered_ns is None else (each.answered_ns - each.t_ns) / 1e6
        found.append(
            (
                *(each.t_ns, flow, each.request, each.attempts),
                *(each.answered_ns, latency_ms, each.counter, went_back),
            )
        )
    return found
