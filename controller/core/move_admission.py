"""Decide whether a move that is asked for can begin (R5.1, R6.1).

It cannot while the VM is still on its way elsewhere, nor to the NVE where the VM is, nor for one of
two instances that serve as one; and both ends have to be reachable, with a port and room at the
destination.  Each refusal is a sentence for the caller, and nothing has changed then.
`controller.core.moves` takes an admitted move on.
"""

from controller.core.admission import Admission
from controller.core.known import Known
from controller.core.move import MoveRequest
from controller.core.move_fsm import BEFORE_ACTIVATION
from controller.core.moves import Moves
from controller.core.refusals import RequestRefused
from nve.model import Binding


class MoveAdmission:
    """Answers the authority's question whether a move is possible; it changes nothing."""

    def __init__(self, known: Known, moves: Moves, admission: Admission) -> None:
        self._known = known
        self._moves = moves
        self._admission = admission

    def admitted(self, request: MoveRequest) -> Binding:
        """Return where the VM of a move that can begin is.  Raises RequestRefused."""
        binding = self._known.binding(self._known.vm(request.vm))
        self._known.require_nve(request.to)
        if request.source not in (None, binding.nve):
            raise RequestRefused(
                f"{request.vm} is at {binding.nve}, not at {request.source}; ask for a move "
                "from there"
            )
        if binding.nve == request.to:
            raise RequestRefused(f"{request.vm} is at {request.to} already; name another NVE")
        if binding.second:
            raise RequestRefused(
                f"{request.vm} has instances at {' and '.join(binding.nves)}, which answer as "
                "one; a VM with a hot standby is not moved"
            )
        busy = self._moves.of(binding.system)
        if busy and busy.phase in BEFORE_ACTIVATION:
            raise RequestRefused(
                f"{request.vm} is still being moved to {busy.destination} ({busy.phase}); "
                "wait until it has arrived, or roll that move back"
            )
        if bool(request.idle_s) == bool(request.timer_s):
            raise RequestRefused(
                "say either idle_s or timer_s: when forwarding at the source NVE ends"
            )
        needed = [binding.nve, request.to] if request.needs_source else [request.to]
        for nve in needed:
            self._known.require_connected(nve)
        self._known.require_no_way_round(request.to, binding.system)
        self._known.require_free_port(request.to, request.port, for_=binding.system)
        self._admission.require_room_for_move(request)
        return binding
