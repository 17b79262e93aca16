"""Requests about moves to an NVA that may be away.

The NVA may be down when a request is made, or die before it answers.  The request is then repeated,
whether or not the NVA had received it: a move's key is its number in the run, a request under the
same key is the same move, and its phase says how far it is.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from controller.core.move_fsm import FINISHED, Phase
from experiments.overlays import MoveRefused, OverlayMove
from experiments.overlays.nvo3.nva import NvaAway, NvaError, NvaProcess

Answer = TypeVar("Answer")
AGAIN_S = 0.1
"""The time between two requests to an NVA that does not answer, in seconds."""


class MoveRequests:
    """Requests that are repeated until the NVA answers or patience is over."""

    def __init__(self, nva: NvaProcess) -> None:
        self._nva = nva

    def insist(self, patience_s: float, ask: Callable[..., Answer]) -> Answer:
        """Call `ask(left_s, again=…)` until the NVA answers.  Raises NvaAway when patience is
        over.
        """
        deadline_s = time.monotonic() + patience_s
        again = False
        while True:
            left_s = deadline_s - time.monotonic()
            try:
                return ask(max(0.0, left_s), again=again)
            except NvaAway:
                if left_s <= 0:
                    raise
            again = True
            time.sleep(AGAIN_S)

    def prepare(self, move: OverlayMove, body: Mapping[str, object], patience_s: float) -> None:
        """Request a move, and wait until it is prepared.  Raises MoveRefused if the NVA does not
        accept it.
        """

        def ask(left_s: float, *, again: bool) -> None:
            self._request(move, body)
            self.reached(move, Phase.PREPARED, left_s)

        self.insist(patience_s, ask)

    def _request(self, move: OverlayMove, body: Mapping[str, object]) -> None:
        try:
            self._nva.put(path_of(move), body)
            return
        except NvaAway:
            raise
        except NvaError as refusal:
            connected = self._nva.get("health")["connected"]
            left = connected[move.source] or (move.mode == "take-over" and not move.source_runs)
            if not (left and connected[move.destination]):
                raise NvaAway(str(refusal)) from None  # an NVE has not come back to it yet
        try:
            self._nva.put(path_of(move), body)  # it may have come back since the refusal
        except NvaAway:
            raise
        except NvaError as refusal:
            raise MoveRefused(str(refusal)) from None

    def tell(
        self, move: OverlayMove, verb: str, heard: Phase, until: Phase, patience_s: float
    ) -> dict[str, Any]:
        """Have the NVA take a move to the phase `until` with one request: the VM may be suspended.

        Once the NVA has received it, the move is in the phase `heard`.  Returns the NVA's answer
        about the move.  Raises NvaError if the move cannot reach the phase.
        """

        def ask(left_s: float, *, again: bool) -> dict[str, Any]:
            if again and self.has_heard(move, heard):
                return self.line(move, until, left_s)
            line: dict[str, Any] = self._nva.post(
                f"{path_of(move)}/{verb}", until=until, timeout_s=left_s
            )
            raise_if_rolled_back(move, line)
            return line

        return self.insist(patience_s, ask)

    def roll_back(self, move: OverlayMove, patience_s: float) -> None:
        """Have the NVA roll a move back, unless it has ended, or was never heard of."""

        def ask(_left_s: float, *, again: bool) -> None:
            known = {line["key"]: line["phase"] for line in self._nva.get("moves")}
            if known.get(str(move.number), Phase.ROLLED_BACK) not in FINISHED:
                self._nva.post(f"{path_of(move)}/roll-back")

        self.insist(patience_s, ask)

    def has_heard(self, move: OverlayMove, heard: Phase) -> bool:
        """Whether a move under way is in the phase `heard`, or a later one."""
        order = list(Phase)
        phase = Phase(self._nva.get(path_of(move))["phase"])
        return phase not in FINISHED and order.index(phase) >= order.index(heard)

    def reached_patiently(self, move: OverlayMove, until: Phase, patience_s: float) -> Phase:
        """Wait as `reached` does, also while the NVA is away."""
        return self.insist(patience_s, lambda left_s, again: self.reached(move, until, left_s))

    def reached(self, move: OverlayMove, until: Phase, timeout_s: float) -> Phase:
        """Wait for the phase `until` or a later one, and return it.

        Raises NvaError if it is not reached in time, or never, because the NVA has rolled the move
        back.
        """
        return Phase(self.line(move, until, timeout_s)["phase"])

    def line(self, move: OverlayMove, until: Phase, timeout_s: float) -> dict[str, Any]:
        """Wait as `reached` does, and return what the NVA says of the move."""
        line: dict[str, Any] = self._nva.get(path_of(move), until=until, timeout_s=timeout_s)
        raise_if_rolled_back(move, line)
        return line


def path_of(move: OverlayMove) -> str:
    """Return the path of a move in the northbound interface; its key is its number in the run."""
    return f"moves/{move.number}"


def raise_if_rolled_back(move: OverlayMove, line: Mapping[str, Any]) -> None:
    """Raise NvaError if the NVA says that a move was rolled back."""
    if line["phase"] == Phase.ROLLED_BACK:
        raise NvaError(f"the NVA has rolled back the move of {move.vm.name}")
