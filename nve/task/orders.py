"""How a task's process is told what to do, and answers: lines of JSON (`nve.task.process`)."""

import json
import os
import select
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

from nve.model import IPAddress
from nve.task.program import Place

Told = dict[str, Any]


@dataclass(frozen=True)
class TaskSpec:
    """The parameters of a task, wherever it is."""

    task: str
    program: str
    place: Place
    interface: str
    instead_of: Mapping[IPAddress, IPAddress]
    """The task's address here by that which it has where it comes from; none that it keeps."""

    @classmethod
    def of(cls, text: str) -> "TaskSpec":
        told = json.loads(text)
        addresses = tuple(map(ip_address, told["addresses"]))
        before = map(ip_address, told.get("instead_of", ()))
        return cls(
            told["task"],
            told["program"],
            Place(addresses, told["arguments"], told.get("multipath", False)),
            told["interface"],
            dict(zip(before, addresses, strict=False)),
        )


class Orders:
    """The orders: lines on the standard input."""

    def __init__(self) -> None:
        self._read = b""

    def fileno(self) -> int:
        return sys.stdin.fileno()

    def next(self, timeout_s: float | None) -> Told | None:
        """Return the next order, if it comes in time.  Raises SystemExit at the end of the
        input.
        """
        while b"\n" not in self._read:
            waiting = select.poll()
            waiting.register(self.fileno(), select.POLLIN)
            if not waiting.poll(None if timeout_s is None else timeout_s * 1000):
                return None
            octets = os.read(self.fileno(), 65536)
            if not octets:
                raise SystemExit(0)
            self._read += octets
        line, _, self._read = self._read.partition(b"\n")
        told: Told = json.loads(line)
        return told


def say(**told: Any) -> None:
    """Write an answer, in one piece."""
    os.write(sys.stdout.fileno(), json.dumps(told).encode() + b"\n")
