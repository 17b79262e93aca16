"""The lines that the clients write, and the rows made of them."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import TypeVar


@dataclass(frozen=True)
class Asked:
    """One question to a task."""

    asked_ns: int
    answered_ns: int
    attempts: int
    connects: int
    lookups: int


@dataclass(frozen=True)
class Fetched:
    """What has come of the document within a short time."""

    t_ns: int
    octets: int
    again: int
    whole: int
    silence_ms: float
    connects: int
    lookups: int


Line = TypeVar("Line", Asked, Fetched)


def line(said: Asked | Fetched) -> str:
    return json.dumps(asdict(said)) + "\n"


def read(kind: type[Line], lines: Iterable[str]) -> list[Line]:
    """Return what was written, without an incomplete last line."""
    return [kind(**json.loads(each)) for each in lines if each.endswith("\n")]
