"""What a client that downloads writes, and the rows made of it."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Download:
    """One request for the task's document, and its outcome."""

    began_ns: int
    ended_ns: int
    octets: int
    outcome: str
    """`whole`; `ended early`, `reset`, `refused`, `unreachable`, `timed out`, `changed`."""
    first_ms: float | None
    """The time until the first octet of an answer, in ms."""
    silence_ms: float
    """The longest time without an octet, in ms."""
    silence_began_ns: int

    def line(self) -> str:
        return json.dumps(asdict(self)) + "\n"


def rows(flow: str, lines: Iterable[str]) -> list[tuple[object, ...]]:
    """Return lines of downloads.csv; the last line written may be incomplete and is left out."""
    made = [Download(**json.loads(line)) for line in lines if line.endswith("\n")]
    return [(flow, number, *vars(each).values()) for number, each in enumerate(made, start=1)]
