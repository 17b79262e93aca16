"""Which server has room for which VM: asked when a VM is on-boarded, adjusted, and at each move.

A server's room is taken by

    the VMs that are there, of those that were on-boarded
    offers that may still be confirmed
    VMs on their way: a move takes room at its destination from its request on (R6.1), and gives
    that back when it is rolled back; until it is completed, the VM has room at its source, too

This is computed from on-boardings, directory and moves, and kept nowhere else: a move that ends in
whatever way, or a restart, leaves no room taken for nothing.  A VM that was associated without
on-boarding takes room only while it moves: the memory and disk that its move names.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict

from controller.core.directory import Directory
from controller.core.move import MoveRequest
from controller.core.moves import Moves
from controller.core.onboarding import OnboardingPhase, OnboardingRequest, Onboardings
from controller.core.refusals import RequestRefused
from nve.model import TenantSystem
from nve.resources import UNLIMITED, Capacity, Resources


class Admission:
    """Asked by the authority; changes nothing."""

    def __init__(
        self,
        capacities: Mapping[str, Capacity],
        directory: Directory,
        moves: Moves,
        onboardings: Onboardings,
    ) -> None:
        """`capacities`: of servers by their NVEs; one that is not named has as much as anybody
        wants."""
        self._capacities = capacities
        self._directory = directory
        self._moves = moves
        self._onboardings = onboardings

    def capacity(self, nve: str) -> Capacity:
        """All that a server has."""
        return self._capacities.get(nve, UNLIMITED)

    def free(self, nve: str, but: str | None = None) -> Capacity:
        """What is left of a server; what the VM `but` has there counts as free."""
        return self.capacity(nve).without(takes for vm, takes in self.takers(nve) if vm != but)

    def takers(self, nve: str) -> Iterator[tuple[str, Resources]]:
        """What each VM takes of a server."""
        for vm, each in self._onboardings.of.items():
            match each.phase:
                case OnboardingPhase.OFFERED:
                    places = {each.nve}
                case OnboardingPhase.IN_USE:
                    places = self.places(each.request.interface.system)
                case _:
                    continue
            if nve in places:
                yield vm, each.resources
        for move in self._moves.unfinished():
            vm = move.request.vm
            if move.destination == nve and not self._onboardings.in_use(vm):
                yield vm, move.request.state

    def places(self, system: TenantSystem) -> set[str]:
        """The servers on which a VM takes room: where it is, and where it comes from or goes."""
        binding = self._directory.find(system)
        return {*([binding.nve] if binding else []), *self._moves.ends(system)}

    def place_for(self, vm: str, request: OnboardingRequest, reachable: Sequence[str]) -> str:
        """The server that is asked for, or the first `reachable` one with room.

        Raises RequestRefused where there is no room.
        """
        if request.nve is not None:
            self.require_room(vm, request.nve, request.resources)
            return request.nve
        for nve in reachable:
            if self.free(nve).shortage(request.resources) is None:
                return nve
        free = ", ".join(f"{nve} ({self.free(nve)})" for nve in reachable)
        raise RequestRefused(
            f"no server has room for {vm}, which wants {request.resources}; free are: "
            f"{free or 'none, no NVE is connected'}"
        )

    def require_room(self, vm: str, nve: str, wanted: Resources) -> None:
        """Raises RequestRefused where it does not fit; what the VM has there counts as free."""
        if shortage := self.free(nve, but=vm).shortage(wanted):
            raise RequestRefused(
                f"{nve} has no room for {vm}: {shortage}; make room there, or name another NVE"
            )

    def require_room_for_move(self, request: MoveRequest) -> None:
        """Raises RequestRefused where the destination has no room (R6.1), or where the move is of
        more than the VM was on-boarded with."""
        known = self._onboardings.in_use(request.vm)
        if known and Capacity(**asdict(known.resources)).shortage(request.state):
            raise RequestRefused(
                f"{request.vm} has {known.resources}, and the move is of {request.state}; adjust "
                "it first"
            )
        self.require_room(request.vm, request.to, known.resources if known else request.state)
