"""Assigns packets, phases and places to moves.

A packet belongs to a move by its time of *sending*: to the latest move that concerns its flow, was
requested before the packet was sent, and was not refused.  So each packet belongs to one move at
most, also while the effects of several overlap.  Arrivals count for the move in which their packet
was sent, whenever they come.

A flow takes one of three roles in a move: `to` the VM that moves, `from` it, or `reference`.  A
flow that some move of the run touches has rows for those moves only; one that none touches is a
reference for every move: what it suffers is caused by the machine, not by the move.

The *during* phase lasts from the request until the move has settled: until no NVE holds an old
entry.  After that all traffic should take its final path.  If the next move is requested earlier,
there is no *after* phase, and the *before* phase of that next move begins when the VM was last
resumed.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from experiments.measure.packets import END_OF_TIME
from experiments.measure.trace import MoveTrace

_SETTLING = (
    *("vm-resumed", "mapping-confirmed", "entry-pulled"),
    *("move-rolled-back", "move-failed", "move-refused"),
)
"""The events that end a move's effect on traffic if no event says that it has converged."""


@dataclass(frozen=True)
class FlowEndpoints:
    """The content of a flow's name: `vm3>vm1/ipv4`, with an optional `#2` behind it."""

    source: str
    destination: str
    family: str

    @classmethod
    def of(cls, flow: str) -> "FlowEndpoints":
        path, _, family = flow.partition("/")
        source, _, destination = path.partition(">")
        return cls(source, destination, family.partition("#")[0])

    def role_in_move_of(self, vm: str) -> str:
        if vm == self.destination:
            return "to"
        return "from" if vm == self.source else "reference"

    def correspondent_of(self, vm: str) -> str:
        """Return the other end; for a flow that does not concern `vm`, the sender."""
        return self.destination if vm == self.source else self.source


def settled_ns(move: MoveTrace) -> int:
    """Return when the last thing happened that can still change a packet's path."""
    converged_ns = move.time_of("move-converged")
    if converged_ns is not None:
        return converged_ns
    times_ns = [move.time_of(name) for name in _SETTLING]
    return max((t_ns for t_ns in times_ns if t_ns is not None), default=move.events[-1].t_ns)


@dataclass(frozen=True)
class Window:
    """The times that delimit the phases of a move for one flow."""

    before_ns: int
    requested_ns: int
    settled_ns: int
    end_ns: int


def windows(moves: Sequence[MoveTrace]) -> Iterator[tuple[MoveTrace, Window]]:
    """Yield the windows of moves in the order of their requests: each ends where the next is
    requested.

    A refused move has an empty window and does not end another one's.
    """
    before, made = 0, [move for move in moves if move.outcome != "refused"]
    end_of = {move.number: following.requested_ns for move, following in pairwise(made)}
    for move in moves:
        requested = move.requested_ns
        if move.outcome == "refused":
            yield move, Window(requested, requested, requested, requested)
            continue
        end = end_of.get(move.number, END_OF_TIME)
        settled = min(settled_ns(move), end)
        yield move, Window(before, requested, settled, end)
        before = settled if settled < end else min(move.time_of("vm-resumed") or requested, end)


def moves_for(flow: str, moves: Sequence[MoveTrace]) -> list[MoveTrace]:
    """Return the moves that touch a flow, or all moves for a flow that none touches."""
    ends = FlowEndpoints.of(flow)
    touching = [move for move in moves if ends.role_in_move_of(move.vm) != "reference"]
    return touching or list(moves)


def place_of(
    vm: str, move: MoveTrace, moves: Iterable[MoveTrace], homes: Mapping[str, str]
) -> str | None:
    """Return the NVE that `vm` is behind when `move` is requested."""
    place = homes.get(vm)
    for earlier in moves:
        if earlier.requested_ns >= move.requested_ns:
            break
        if earlier.vm == vm and (earlier.outcome == "completed" or earlier.first("move-activated")):
            place = earlier.destination_nve
    return place
