"""Downloads a task's document once, run in a VM.

    python -m experiments.workloads.visiting.fetching --address A --port P --out FILE

It says that it is ready, and reads the time to start from a line on its standard input.  When the
connection breaks off, or nothing comes for long, the client opens another and begins again.  Each
octet is compared with what the server sends; others end the client.
"""

import argparse
import socket
import sys
import time
from pathlib import Path
from typing import Final, TextIO

from experiments.probes.process import say
from experiments.workloads import _finding
from experiments.workloads.visiting.lines import Fetched, line
from nve.linux.wait import sleep_until
from nve.task.programs import pattern

_EVERY_NS: Final = 50_000_000
"""The time between two lines, in nanoseconds."""
_LISTEN_S: Final = 0.01
_PATIENCE_NS: Final = 10_000_000_000
"""The time without an octet after which the connection is given up, in nanoseconds."""
_AT_ONCE: Final = 1 << 18


class Fetcher:
    """Downloads one document."""

    def __init__(self, finder: _finding.Finder, notes: TextIO) -> None:
        self._finder = finder
        self._notes = notes
        self._line_ns = time.time_ns()
        self._octets = 0
        """Since the last line."""
        self._place = 0
        """How much of the document has come over this connection."""
        self._ever = 0
        """How much of it has come at all."""
        self._again = 0
        self._heard_ns = time.time_ns()
        self._silence_ns = 0

    def fetch(self) -> None:
        """Return when the document is complete.  Raises ValueError if its content is wrong."""
        self._line_ns = self._heard_ns = time.time_ns()
        while True:
            connected: socket.socket | None = None
            try:
                self._place = 0
                connected = self._finder.connect()
                self._over(connected)
                return
            except OSError:
                self._tell()
            finally:
                _finding.closed(connected)

    def _over(self, connected: socket.socket) -> None:
        connected.settimeout(_finding.CONNECT_S)
        connected.sendall(_finding.request("GET"))
        first, said = _finding.head(connected)
        length = int(first.lower().partition(b"content-length:")[2].split()[0])
        connected.settimeout(_LISTEN_S)
        while True:
            self._take(said)
            if self._place >= length:
                self._tell(last=True)
                return
            try:
                said = connected.recv(_AT_ONCE)
                if not said:
                    raise ConnectionResetError("the document has ended early")
            except TimeoutError:
                said = b""
                if time.time_ns() - self._heard_ns > _PATIENCE_NS:
                    raise
            self._tell()

    def _take(self, said: bytes) -> None:
        if said != pattern.part(self._place, len(said)):
            raise ValueError(f"not the document, within {len(said)} octets after {self._place}")
        if said:
            now_ns = time.time_ns()
            self._silence_ns = max(self._silence_ns, now_ns - self._heard_ns)
            self._heard_ns = now_ns
        before = self._ever
        self._place += len(said)
        self._ever = max(before, self._place)
        self._octets += len(said)
        self._again += len(said) - (self._ever - before)

    def _tell(self, *, last: bool = False) -> None:
        now_ns = time.time_ns()
        if now_ns - self._line_ns < _EVERY_NS and not last:
            return
        self._line_ns = now_ns
        effort = self._finder.effort
        said = Fetched(
            *(now_ns, self._octets, self._again, self._place, self._silence_ns / 1e6),
            *(effort.connects, effort.lookups),
        )
        self._notes.write(line(said))
        self._notes.flush()
        self._octets = self._again = self._silence_ns = 0


def main() -> None:
    parser = argparse.ArgumentParser()
    _finding.add_options(parser)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    with given.out.open("w", encoding="utf-8") as notes:
        fetcher = Fetcher(_finding.finder_of(given), notes)
        say(ready=True)
        sleep_until(int(sys.stdin.readline() or 0))
        fetcher.fetch()
        sys.stdin.read()  # it is ended


if __name__ == "__main__":
    main()
