"""Checks after each move whether every NVE holds exactly what it should (R3.4, R3.5).

Reading NVEs costs CPU time and disturbs rules that are on their way.  So it is done when nothing is
left of a move, in the first moment in which no VM is being moved or about to be.  If there is no
such moment before the VM's next move is completed, which rewrites what is about that VM, the move
is not compared.  The number of compared moves is recorded.

A difference that lasts for as long as messages to and from NVEs may take is a problem, unless a
failure was injected.
"""

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from experiments.measure.event_log import EventLog
from experiments.overlays import OverlayError

LEAD_S = 0.1
"""The time before a move is due during which nothing is read, in seconds."""
AGAIN_S = 0.02
PATIENCE_S = 15.0
"""How long to wait for NVEs or a control plane that do not answer, while no VM is moved."""
NICENESS = 10

DETAILS_FILE = "table-differences.txt"
"""The file in the result that lists every rule which is not as it should be."""

Differences = Callable[[], Iterator[Sequence[str]]] | None
"""None: this overlay cannot tell."""


def brief(differences: Sequence[str]) -> str:
    """Return what is wrong, in a sentence that names no single rule."""
    told = "; ".join(each.partition(": ")[0] for each in differences)
    more = any(": " in each for each in differences)
    return f"{told} ({DETAILS_FILE} has every one)" if more else told


class TableChecks:
    """Compares rules after moves.

    `problems` are sentences, `details` lists every rule; `compared` of `completed` moves were
    compared.
    """

    def __init__(
        self,
        differences: Differences,
        settled_s: float,
        excused: Callable[[], bool],
        log: EventLog,
    ) -> None:
        """`settled_s` is the time after which messages to and from NVEs have arrived."""
        self.problems: list[str] = []
        self.details: list[str] = []
        self.compared = self.completed = 0
        self._differences = differences or (lambda: iter(()))
        self._settled_s = settled_s
        self._excused = excused
        self._log = log
        self._due_s: list[float] = []
        self._requests = self._under_way = 0
        self._waiting: dict[str, int] = {}
        """The moves that have not had their turn, one for each VM."""
        self._ends, self._stopped = False, differences is None
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._work, daemon=True)

    def start(self, due_ns: Sequence[int]) -> None:
        """`due_ns` are the times at which moves will be requested, as far as they are known."""
        for each in due_ns:
            self.expect(each)
        self._thread.start()

    def expect(self, due_ns: int) -> None:
        """Note that a move will be requested at this time."""
        self._due_s.append(time.monotonic() + (due_ns - time.time_ns()) / 1e9)

    @contextmanager
    def move_under_way(self) -> Iterator[None]:
        """Mark a VM as being moved for the block: from the request until it has arrived."""
        with self._changed:
            self._requests += 1
            self._under_way += 1
        try:
            yield
        finally:
            with self._changed:
                self._under_way -= 1
                self._changed.notify_all()

    def move_completed(self, number: int, vm: str) -> None:
        """Note that a move is completed, so that it can be compared."""
        with self._changed:
            self.completed += 1
            self._waiting[vm] = number
            self._changed.notify_all()

    def finish(self) -> None:
        """Return when the last moves were compared or cannot be."""
        with self._changed:
            self._ends = True
            self._changed.notify_all()
        if self._thread.ident is not None:
            self._thread.join()

    def stop(self) -> None:
        """Compare no more moves."""
        with self._changed:
            self._stopped = True
        self.finish()

    def _work(self) -> None:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)  # of this thread
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._ends)
                if self._stopped or not self._waiting:
                    return
                self._changed.wait_for(lambda: not self._under_way or self._stopped)
                requests, moves = self._requests, dict(self._waiting)
            if self._is_soon():
                time.sleep(AGAIN_S)
            elif self._compare(requests, sorted(moves.values())):
                with self._changed:
                    for vm, number in moves.items():
                        if self._waiting[vm] == number:
                            del self._waiting[vm]

    def _compare(self, requests: int, moves: list[int]) -> bool:
        """Compare after these moves; return whether they were compared or cannot be."""
        last: list[str] | None = None
        since_s = time.monotonic()
        until_s = since_s + PATIENCE_S
        while time.monotonic() < until_s:
            began_s = time.monotonic()
            try:
                found = self._read(requests)
            except (OverlayError, RuntimeError):  # something is dead at the moment
                last = None
            else:
                if found is None:
                    return False
                if not found or (found == last and began_s - since_s >= self._settled_s):
                    self._say(moves, found)
                    return True
                if found != last:
                    last, since_s = found, began_s
            time.sleep(AGAIN_S)
            if self._stopped or self._requests != requests or self._is_soon():
                return False
        return True

    def _read(self, requests: int) -> list[str] | None:
        """None as soon as another move has been requested."""
        found: list[str] = []
        for of_one_nve in self._differences():
            if self._requests != requests:
                return None
            found += of_one_nve
        return found

    def _say(self, moves: list[int], found: list[str]) -> None:
        if found and self._excused():
            return
        self.compared += len(moves)
        self._log.note("runner", "tables-compared", after=moves, differences=found)
        if found:
            after = ", ".join(map(str, moves))
            self.problems.append(f"after move {after}: {brief(found)}")
            self.details += [f"after move {after}: {each}" for each in found]

    def _is_soon(self) -> bool:
        """Return whether a move is about to be requested."""
        now_s = time.monotonic()
        return any(now_s < due_s < now_s + LEAD_S for due_s in self._due_s)
