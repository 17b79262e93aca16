"""Carries out a move by the table of its mode, and undoes what has failed.

Before a step it checks whether the servers that the step needs are alive; a dead server does not
get the VM (`experiments.scenario.failures`).  A step that fails before the destination has the VM
is undone, as it may be half done, with all steps before it, last to first.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack

from experiments.overlays import MoveRefused, OverlayMove
from experiments.run.move_steps import MoveTable, Patience, Step
from experiments.run.move_under_way import MoveUnderWay
from experiments.scenario.failures import Moment
from nve.model import MoveMode

Reached = Callable[[Moment, OverlayMove], None]
"""reached(moment, move) is called when a move has reached a moment, before its next step."""


class MoveUndone(RuntimeError):
    """A move has failed and was undone completely; the message says why it failed."""


class ServerGone(RuntimeError):
    """A server that the next step of a move needs does not answer."""


class Interpreter:
    """Carries out any number of moves at a time."""

    def __init__(
        self,
        tables: Callable[[MoveMode], MoveTable],
        patience_s: Callable[[Patience], float],
        reached: Reached,
    ) -> None:
        self._tables = tables
        self._patience_s = patience_s
        self._reached = reached

    def bring_over(self, move: MoveUnderWay) -> None:
        """Carry out the steps until the VM has arrived.

        Raises MoveRefused when the overlay does not accept the move, MoveUndone when it had to be
        given up, and a failing step's exception if not even that was possible.
        """
        begun: list[Step] = []
        table = self._tables(move.told.mode)
        with ExitStack() as failed, move.without_delay:
            failed.enter_context(move.helped)
            try:
                self._reached(Moment.REQUESTED, move.told)
                for step in (*table.revocable, *table.final):
                    _require_servers(move, step)
                    begun.append(step)
                    self._do(step, move)
                failed.pop_all()
            except MoveRefused as refusal:
                self._undo(move, begun)
                move.note("move-refused", why=str(refusal))
                raise
            except Exception as cause:
                move.note("move-failed", why=str(cause))
                if begun and begun[-1] in table.final:
                    raise
                if self._undo(move, begun):
                    raise MoveUndone(str(cause)) from cause
                raise

    def clear_away(self, move: MoveUnderWay) -> None:
        """Carry out the steps after the VM's arrival; return when nothing is left of the move.

        A failure of the state transfer in this part does not stop the overlay's steps: it is raised
        when those are done.
        """
        failed: Exception | None = None
        for step in self._tables(move.told.mode).background:
            try:
                self._do(step, move)
            except Exception as error:
                if step.patience:
                    raise
                failed = failed or error
        if failed:
            raise failed

    def _do(self, step: Step, move: MoveUnderWay) -> None:
        step.do(move, self._patience_of(step))
        if step.moment:
            self._reached(step.moment, move.told)

    def _patience_of(self, step: Step) -> float:
        return self._patience_s(step.patience) if step.patience else 0.0

    def _undo(self, move: MoveUnderWay, begun: Sequence[Step]) -> bool:
        """Undo these steps; return whether that succeeded for all.  One failure does not stop the
        others.
        """
        failed = False
        for step in reversed(begun):
            try:
                if step.undo:
                    step.undo(move, self._patience_of(step))
            except Exception as error:
                move.note("not-undone", why=str(error))
                failed = True
        if failed:
            return False
        move.note("move-undone")
        return True


def _require_servers(move: MoveUnderWay, step: Step) -> None:
    for end in step.needs:
        if not move.edges[end].alive:
            raise ServerGone(f"the server of {move.edges[end].name} does not answer")
