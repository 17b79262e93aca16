"""The trace of the NVA: what has happened, in the order it was decided in, and its file.

A decision is recorded before the journal says that it was taken, and the journal says how long the
trace was by then.  So what a killed process has left agrees with what the next one goes on with: a
decision that is in the journal is in the trace, and one that is not will be taken, and recorded,
again.

Whoever follows the file while it grows has no journal.  Beside it is a file of 8 octets, little
endian: so much of the trace is there for good.
"""

import json
import os
from collections.abc import Iterable
from pathlib import Path

from nve.messages import TraceRecord


class Trace:
    """`records` are all of them, also those of processes before this one."""

    def __init__(self, path: Path, before_bytes: int | None) -> None:
        """`before_bytes` is how long the file was at the last decision that was taken.

        Raises OSError.
        """
        self._path = path
        self.records = _read(path, before_bytes) if path.exists() else []
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self.bytes = path.stat().st_size
        """How long the file is."""
        mark = path.with_name(f"{path.name}.taken")
        self._mark = os.open(mark, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self.confirm()

    def write(self, records: Iterable[TraceRecord]) -> None:
        """Raises OSError; what is in the file then must not be added to."""
        new = list(records)
        lines = "".join(json.dumps(as_json(record)) + "\n" for record in new).encode()
        if lines:
            if os.write(self._file, lines) < len(lines):
                raise OSError(f"{self._path} has no room for another line")
            self.bytes += len(lines)
            self.records += new

    def confirm(self) -> None:
        """The journal has the decisions, too: what is in the trace stays there.  Raises OSError."""
        os.pwrite(self._mark, self.bytes.to_bytes(8, "little"), 0)


def _read(path: Path, before_bytes: int | None) -> list[TraceRecord]:
    """A line that a process died over is taken away, with those of decisions not taken."""
    whole, end, _torn = path.read_bytes()[:before_bytes].rpartition(b"\n")
    with path.open("r+b") as file:
        file.truncate(len(whole + end))
    return [TraceRecord(**json.loads(line)) for line in whole.splitlines()]


def as_json(record: TraceRecord) -> dict[str, object]:
    """A record as the northbound and the trace file show it."""
    return {
        "t_ns": record.t_ns,
        "event": record.event,
        "subject": record.subject,
        "details": dict(record.details),
    }
