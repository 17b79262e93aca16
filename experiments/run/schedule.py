"""The moves of a run, each at its time, or after the event that it waits for.

There is a thread for each VM that moves: its moves are carried out in order, the next when the one
before has arrived and its time has come; VMs are independent.  A move that has to be refused has a
thread of its own, as it is requested while another move of its VM is under way.

The last steps of moves are done in the background (`Orchestrator.move`); `join` waits for those,
too.  `experiments.run.table_checks` compares rules at that time.
"""

import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial

from experiments.measure.event_log import EventLog
from experiments.measure.trace import TraceEvent
from experiments.overlays import MoveRefused
from experiments.run.interpreter import MoveUndone
from experiments.run.orchestrator import COMPLETION_TIMEOUT_S, Orchestrator
from experiments.run.state_transfer import StateNotVerified
from experiments.run.table_checks import TableChecks
from experiments.scenario.moves import AfterEvent, MoveSpec

Numbered = tuple[int, MoveSpec]


class Schedule:
    """The schedule of moves; `problems` are sentences about deviations from the scenario."""

    def __init__(
        self,
        orchestrator: Orchestrator,
        moves: Sequence[MoveSpec],
        excused: Callable[[], bool],
        tables: TableChecks,
        log: EventLog,
        duration_s: float,
    ) -> None:
        """`excused` returns whether a move may be rolled back, because a failure was injected.

        No event is awaited for longer than the traffic goes on, `duration_s`.
        """
        self.problems: list[str] = []
        self._orchestrator = orchestrator
        self._excused = excused
        self._tables = tables
        self._log = log
        self._duration_s = duration_s
        self._threads: list[threading.Thread] = []
        self._completions: list[tuple[Numbered, Future[None]]] = []
        self._orders = _orders(moves)

    def start(self, start_ns: int) -> None:
        """Start the schedule: the traffic has begun at `start_ns`."""
        self._tables.start(
            [
                _after_ns(start_ns, move.at_s)
                for order in self._orders
                for _, move in order
                if move.at_s is not None
            ]
        )
        for order in self._orders:
            thread = threading.Thread(target=self._carry_out, args=(start_ns, order), daemon=True)
            thread.start()
            self._threads.append(thread)

    def join(self) -> None:
        """Return when nothing is left of any move."""
        for thread in self._threads:
            thread.join()
        for (number, move), completion in self._completions:
            try:
                completion.result(COMPLETION_TIMEOUT_S)
            except StateNotVerified as failure:
                if not self._excused():
                    self._complain(number, move, f"was completed, and {failure}")
            except Exception as error:
                reason = str(error) or f"not in {COMPLETION_TIMEOUT_S:g} s"
                self.problems.append(f"move {number} of {move.vm} was not completed: {reason}")
        self._tables.finish()

    def _carry_out(self, start_ns: int, order: Sequence[Numbered]) -> None:
        for number, move in order:
            due_ns = self._due_ns(start_ns, move)
            if due_ns is None:
                self._complain(number, move, f"was not asked for: there was no {move.at}")
                return
            time.sleep(max(0.0, (due_ns - time.time_ns()) / 1e9))
            try:
                with self._tables.move_under_way():
                    completion = self._orchestrator.move(number, move)
            except MoveRefused as refusal:
                if move.expect != "refused":
                    self._complain(number, move, f"was refused: {refusal}")
            except MoveUndone as failure:
                if not self._excused():
                    self._complain(number, move, f"failed: {failure}")
            except Exception as error:
                self._complain(number, move, f"failed: {error}")
                return
            else:
                self._completions.append(((number, move), completion))
                completion.add_done_callback(partial(self._completed, number, move.vm))
                if move.expect == "refused":
                    self._complain(number, move, "was not refused")

    def _due_ns(self, start_ns: int, move: MoveSpec) -> int | None:
        """Return when a move begins, or None if the event that it waits for does not happen."""
        if move.at_s is not None:
            return _after_ns(start_ns, move.at_s)
        assert move.at is not None
        event = self._awaited(move.at, start_ns)
        if event is None:
            return None
        due_ns = _after_ns(event.t_ns, move.at.s)
        self._tables.expect(due_ns)
        return due_ns

    def _awaited(self, at: AfterEvent, start_ns: int) -> TraceEvent | None:
        """Return the event that a move waits for, as soon as it is known."""
        heard: queue.SimpleQueue[TraceEvent] = queue.SimpleQueue()
        unsubscribe = self._log.subscribe(heard.put)
        end_ns = _after_ns(start_ns, self._duration_s)
        try:
            while (left_s := (end_ns - time.time_ns()) / 1e9) > 0:
                event = heard.get(timeout=left_s)
                if at.is_meant(event, (event.t_ns - start_ns) / 1e9):
                    return event
        except queue.Empty:
            pass
        finally:
            unsubscribe()
        return None

    def _completed(self, number: int, vm: str, completion: Future[None]) -> None:
        if completion.exception() is None:
            self._tables.move_completed(number, vm)

    def _complain(self, number: int, move: MoveSpec, what: str) -> None:
        self.problems.append(f"move {number} of {move.vm} {what}")


def _after_ns(begin_ns: int, seconds: float) -> int:
    return begin_ns + int(seconds * 1e9)


def _orders(moves: Sequence[MoveSpec]) -> list[list[Numbered]]:
    """Return the moves of each thread, in order."""
    of_vm: dict[str, list[Numbered]] = {}
    alone = []
    for number, move in sorted(enumerate(moves, start=1), key=lambda item: item[1].earliest_s):
        if move.expect == "refused":
            alone.append([(number, move)])
        else:
            of_vm.setdefault(move.vm, []).append((number, move))
    return [*of_vm.values(), *alone]
