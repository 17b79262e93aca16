"""Downloads from a task over and over, run in a VM.

    python -m experiments.workloads.downloading.client --address A --port P --rate-mbit R --out FILE

It prints that it is ready, and reads the time to start from a line on its standard input.  Each
octet is compared with what the server sends (`nve.task.programs.pattern`).  A download that breaks
off is noted, and the next one begins at once.  It is ended with a signal; the download under way
then is not noted.
"""

import argparse
import errno
import socket
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Final, TextIO

from experiments.probes.process import say
from experiments.workloads import _finding
from experiments.workloads.downloading.download import Download
from nve.linux.wait import sleep_until
from nve.task.programs import pattern

_PATIENCE_S: Final = 10.0
_AT_ONCE: Final = 16384
_PAUSE_NS: Final = 10_000_000
"""The pause after a download that has failed at once, in nanoseconds."""
_OUTCOMES: Final = {
    errno.ECONNRESET: "reset",
    errno.EPIPE: "reset",
    errno.ECONNREFUSED: "refused",
    errno.EHOSTUNREACH: "unreachable",
    errno.ENETUNREACH: "unreachable",
    errno.ETIMEDOUT: "timed out",
}


class Downloader:
    """Downloads from one server."""

    def __init__(self, finder: _finding.Finder, rate_mbit: float, notes: TextIO) -> None:
        self._finder = finder
        self._rate_mbit = rate_mbit
        self._notes = notes
        self._begin()

    def _begin(self) -> None:
        self._began_ns = self._heard_ns = time.time_ns()
        self._octets = 0
        self._first_ms: float | None = None
        self._silence_ns, self._silence_began_ns = 0, self._began_ns

    def download(self) -> str:
        """Carry out one download to its end; return its outcome."""
        self._begin()
        try:
            outcome = self._carry_out()
        except TimeoutError:
            outcome = "timed out"
        except OSError as error:
            outcome = _OUTCOMES.get(error.errno or 0, error.strerror or str(error))
        self._write_down(outcome)
        return outcome

    def _write_down(self, outcome: str) -> None:
        """Write the outcome of the download so far."""
        self._hear(time.time_ns())
        self._notes.write(
            Download(
                self._began_ns,
                time.time_ns(),
                self._octets,
                outcome,
                self._first_ms,
                self._silence_ns / 1e6,
                self._silence_began_ns,
            ).line()
        )
        self._notes.flush()

    def _carry_out(self) -> str:
        with closing(self._finder.connect(_PATIENCE_S)) as connected:
            connected.settimeout(_PATIENCE_S)
            connected.sendall(_finding.request("GET"))
            head, _, rest = self._head(connected).partition(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 200 "):
                return "ended early"
            length = int(head.lower().partition(b"content-length:")[2].split()[0])
            return self._body(connected, rest, length)

    def _head(self, connected: socket.socket) -> bytes:
        found = b""
        while b"\r\n\r\n" not in found and (said := connected.recv(_AT_ONCE)):
            found += said
        now_ns = time.time_ns()
        self._hear(now_ns)
        self._first_ms = (now_ns - self._began_ns) / 1e6
        return found

    def _body(self, connected: socket.socket, said: bytes, length: int) -> str:
        began_ns = time.time_ns()
        while True:
            if said != pattern.part(self._octets, len(said)):
                return "changed"
            self._octets += len(said)
            if self._octets >= length:
                return "whole"
            if self._rate_mbit:
                sleep_until(began_ns + int(self._octets * 8e3 / self._rate_mbit))
            # The waits of a client with a rate limit are no silence of the network.
            self._heard_ns = time.time_ns()
            said = connected.recv(_AT_ONCE)
            self._hear(time.time_ns())
            if not said:
                return "ended early"

    def _hear(self, now_ns: int) -> None:
        if now_ns - self._heard_ns > self._silence_ns:
            self._silence_ns, self._silence_began_ns = now_ns - self._heard_ns, self._heard_ns
        self._heard_ns = now_ns


def main() -> None:
    parser = argparse.ArgumentParser()
    _finding.add_options(parser)
    parser.add_argument("--rate-mbit", type=float, default=0)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    with given.out.open("w", encoding="utf-8") as notes:
        client = Downloader(_finding.finder_of(given), given.rate_mbit, notes)
        say(ready=True)
        sleep_until(int(sys.stdin.readline() or 0))
        while True:
            if client.download() != "whole":
                sleep_until(time.time_ns() + _PAUSE_NS)


if __name__ == "__main__":
    main()
