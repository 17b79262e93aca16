"""The trace of the NVA, its records in the order of the decisions, and its file.

A decision is recorded before the journal says that it was taken, and the journal says how long the
trace was by then.  So the trace that a killed process has left agrees with the state that the next
one continues from: a decision that is in the journal is in the trace, and one that is not will be
taken, and recorded, again.

Readers who follow the file while it grows cannot see the journal.  For them, a file of 8 octets
beside it (little endian) says how many bytes of the trace are final.
"""

import json
import os
from collections.abc import Iterable
from pathlib import Path

from nve.messages import TraceRecord


class Trace:
    """The trace; `records` are all of them, including those of earlier processes."""

    def __init__(self, path: Path, before_bytes: int | None) -> None:
        """Open the trace, whose length was `before_bytes` at the last decision that was taken.

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
        """Append records.  Raises OSError; the file must not be appended to after that."""
        new = list(records)
        lines = "".join(json.dumps(as_json(record)) + "\n" for record in new).encode()
        if lines:
            if os.write(self._file, lines) < len(lines):
                raise OSError(f"{self._path} has no room for another line")
            self.bytes += len(lines)
            self.records += new

    def confirm(self) -> None:
        """Mark the trace as final up to here: the journal has the decisions, too.  Raises
        OSError.
        """
        os.pwrite(self._mark, self.bytes.to_bytes(8, "little"), 0)


def _read(path: Path, before_bytes: int | None) -> list[TraceRecord]:
    """Read the records, and cut off incomplete lines and records of decisions that were not
    taken.
    """
    whole, end, _torn = path.read_bytes()[:before_bytes].rpartition(b"\n")
    with path.open("r+b") as file:
        file.truncate(len(whole + end))
    return [TraceRecord(**json.loads(line)) for line in whole.splitlines()]


def as_json(record: TraceRecord) -> dict[str, object]:
    """Return a record as the northbound interface and the trace file show it."""
    return {
        "t_ns": record.t_ns,
        "event": record.event,
        "subject": record.subject,
        "details": dict(record.details),
    }
