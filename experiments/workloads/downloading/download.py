"""What a client that downloads writes down, and what is made of it."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Download:
    """One request for the task's document, and what has come of it."""

    began_ns: int
    ended_ns: int
    octets: int
    outcome: str
    """`whole`; `ended early`, `reset`, `refused`, `unreachable`, `timed out`, `changed`."""
    first_ms: float | None
    """Until the first octet of an answer."""
    silence_ms: float
    """The longest time without an octet."""
    silence_began_ns: int

    def line(self) -> str:
        return json.dumps(asdict(self)) + "\n"


def rows(flow: str, lines: Iterable[str]) -> list[tuple[object, ...]]:
    """Lines of downloads.csv; the last line that was written down may be cut off."""
    made = [Download(**json.loads(line)) for line in lines if line.endswith("\n")]
    return [(flow, number, *vars(each).values()) for number, each in enumerate(made, start=1)]
