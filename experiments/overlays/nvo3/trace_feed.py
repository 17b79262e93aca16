"""Copies the NVA's trace into the trace of the lab while the NVA writes it.

The NVA writes a record before the decision is in its journal, and says how much of the trace is
final once it is (`controller.storage.trace`).  A process that is killed in between leaves records
that the next one removes, and perhaps writes again.  So only the final part is copied: nothing is
lost and nothing comes twice, however often the NVA dies and starts again.
"""

import json
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from experiments.measure.trace import TraceEvent
from experiments.overlays import TraceWriter

LOOK_EVERY_S = 0.1
"""The time between two looks at the file, in seconds; each costs two system calls and no NVA
time."""


class TraceFeed:
    """Follows the NVA's trace file until `close`."""

    def __init__(self, trace: Path, log: TraceWriter) -> None:
        self._trace = trace
        self._mark = trace.with_name(f"{trace.name}.taken")
        self._log = log
        self._offset = 0
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def catch_up(self) -> None:
        """Return when all that the NVA had decided before is in the log."""
        with self._lock, suppress(FileNotFoundError):  # the NVA has not started yet
            self._take(int.from_bytes(self._mark.read_bytes(), "little"))

    def close(self) -> None:
        """Copy the rest and stop following: the NVA has ended for good."""
        self._closing.set()
        if self._thread.ident is not None:
            self._thread.join()
        with self._lock, suppress(FileNotFoundError):
            self._take(self._trace.stat().st_size)

    def _follow(self) -> None:
        while not self._closing.wait(LOOK_EVERY_S):
            self.catch_up()

    def _take(self, end: int) -> None:
        if end <= self._offset:
            return
        with self._trace.open("rb") as file:
            file.seek(self._offset)
            whole, newline, _torn = file.read(end - self._offset).rpartition(b"\n")
        self._offset += len(whole + newline)
        for line in map(json.loads, whole.splitlines()):
            self._log.append(
                TraceEvent(
                    line["t_ns"], "nva", line["event"], line["subject"], _numbered(line["details"])
                )
            )


def _numbered(details: Mapping[str, Any]) -> dict[str, Any]:
    """Return the details with a move's key, which a caller chooses, as a number if it is one."""
    key = str(details.get("move", ""))
    return {**details, "move": int(key)} if key.isdecimal() else dict(details)
