"""Decide which server has room for which VM.

The NVA asks when a VM is on-boarded or adjusted, and at each move.  Room on a server is taken by

    the on-boarded VMs that are there
    offers that may still be confirmed
    VMs on their way: a move takes room at its destination from the moment it is requested (R6.1),
    and gives it back when it is rolled back; until the move completes, the VM also keeps its room
    at the source
    standbys of VMs that are mirrored (R7.2, R7.3), for which room is kept.  A VM that comes to the
    server where its memory is mirrored goes on in that, and takes it only once

All this is computed from on-boardings, directory and moves, and stored nowhere else, so that no
room stays taken after a restart or after a move, however it ended.  A VM that was associated
without on-boarding takes room only while it moves: the memory and disk that its move names.
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
    """Answers the authority's questions about room on servers; it changes nothing."""

    def __init__(
        self,
        capacities: Mapping[str, Capacity],
        directory: Directory,
        moves: Moves,
        onboardings: Onboardings,
    ) -> None:
        """`capacities` holds what the servers have, by their NVEs; a server not named has no
        limit.
        """
        self._capacities = capacities
        self._directory = directory
        self._moves = moves
        self._onboardings = onboardings

    def capacity(self, nve: str) -> Capacity:
        """Return the total capacity of a server."""
        return self._capacities.get(nve, UNLIMITED)

    def free(self, nve: str, but: str | None = None) -> Capacity:
        """Return the free capacity of a server; what the VM `but` takes there counts as free."""
        return self.capacity(nve).without(takes for vm, takes in self.takers(nve) if vm != but)

    def takers(self, nve: str) -> Iterator[tuple[str, Resources]]:
        """Yield each VM that takes room on a server, itself or for its standby, with what it
        takes.
        """
        yield from self.vms(nve)
        yield from self.standbys(nve)

    def standbys(self, nve: str) -> Iterator[tuple[str, Resources]]:
        """Yield each VM whose standby takes room on a server, with what that takes."""
        for vm, each in self._onboardings.of.items():
            if each.phase is OnboardingPhase.IN_USE and each.standby == nve:
                is_there = nve in self.places(each.request.interface.system)
                if not (is_there and each.standby_room.memory_mb):
                    yield vm, each.standby_room

    def vms(self, nve: str) -> Iterator[tuple[str, Resources]]:
        """Yield each VM that takes room on a server, with what it takes."""
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
        """Return the servers on which a VM takes room: those of its instances, and the ends of its
        moves."""
        binding = self._directory.find(system)
        return {*(binding.nves if binding else ()), *self._moves.ends(system)}

    def place_for(self, vm: str, request: OnboardingRequest, reachable: Sequence[str]) -> str:
        """Return the server that the request names, or else the first `reachable` one with room.

        Raises RequestRefused if there is no room.
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
        """Raise RequestRefused if a server lacks room; what the VM takes there counts as free."""
        if shortage := self.free(nve, but=vm).shortage(wanted):
            raise RequestRefused(
                f"{nve} has no room for {vm}: {shortage}; make room there, or name another NVE"
            )

    def require_room_for_move(self, request: MoveRequest) -> None:
        """Raise RequestRefused if the destination has no room (R6.1), or if the move names more
        memory or disk than the VM was on-boarded with.
        """
        known = self._onboardings.in_use(request.vm)
        if known and Capacity(**asdict(known.resources)).shortage(request.state):
            raise RequestRefused(
                f"{request.vm} has {known.resources}, and the move is of {request.state}; adjust "
                "it first"
            )
        wanted = known.resources if known else request.state
        stays = known and known.standby == request.to and request.mode != "take-over"
        if known and stays and not known.standby_room.memory_mb:  # files, beside the VM
            wanted = wanted.plus(known.standby_room)
        self.require_room(request.vm, request.to, wanted)
