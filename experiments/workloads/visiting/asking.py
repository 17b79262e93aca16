"""Sends questions to a task over and over, run in a VM.

    python -m experiments.workloads.visiting.asking --address A --port P --rate-rps R --out FILE

It prints that it is ready, and reads the time to start from a line on its standard input.  It uses
one connection for as long as that lives, and opens another after that: then it repeats the last
question.  A question that would be due while another is unanswered is left out.
"""

import argparse
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Final, TextIO

from experiments.probes.process import say
from experiments.workloads import _finding
from experiments.workloads.visiting.lines import Asked, line
from nve.linux.wait import sleep_until

_PATIENCE_S: Final = 2.0
"""How long to wait for an answer before the connection is given up, in seconds."""


class Asker:
    """Sends questions to one task."""

    def __init__(self, finder: _finding.Finder, rate_rps: float, notes: TextIO) -> None:
        self._finder = finder
        self._every_ns = int(1e9 / rate_rps)
        self._notes = notes
        self._connected: socket.socket | None = None

    def ask_for_ever(self, start_ns: int) -> None:
        due_ns = start_ns
        while True:
            sleep_until(due_ns)
            self._ask()
            missed = max(0, time.time_ns() - due_ns) // self._every_ns
            due_ns += (missed + 1) * self._every_ns

    def _ask(self) -> None:
        asked_ns, attempts = time.time_ns(), 0
        before = (self._finder.effort.connects, self._finder.effort.lookups)
        while True:
            with suppress(OSError):
                if self._connected is None:
                    self._connected = self._finder.connect()
                    self._connected.settimeout(_PATIENCE_S)
                    self._connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                attempts += 1
                self._connected.sendall(_finding.request("HEAD"))
                _finding.head(self._connected)
                break
            _finding.closed(self._connected)
            self._connected = None
        effort = self._finder.effort
        did = effort.connects - before[0], effort.lookups - before[1]
        self._notes.write(line(Asked(asked_ns, time.time_ns(), attempts, *did)))
        self._notes.flush()


def main() -> None:
    parser = argparse.ArgumentParser()
    _finding.add_options(parser)
    parser.add_argument("--rate-rps", type=float, required=True)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    with given.out.open("w", encoding="utf-8") as notes:
        asker = Asker(_finding.finder_of(given), given.rate_rps, notes)
        say(ready=True)
        start_ns = int(sys.stdin.readline() or 0)
        sleep_until(start_ns)
        asker.ask_for_ever(start_ns)


if __name__ == "__main__":
    main()
