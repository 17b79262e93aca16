"""A move under way: what its steps work on (`experiments.run.move_steps`).

    the parts      the hypervisor, the overlay, and the edges at both ends
    the transfer   how the VM's state comes over; `PauseOnly` if it has none

A move waits for other processes of this machine.  The functions at the end give those priority for
a CPU meanwhile, no longer than they have to.
"""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from experiments.overlays import Overlay, OverlayMove, TraceWriter
from experiments.scenario.failures import Moment
from experiments.scenario.moves import MoveSpec
from nve.edge import Edge
from nve.hypervisor.hypervisor import Hypervisor
from nve.hypervisor.realtime import first_in_line, threads_in_line
from nve.linux.turns import none_started
from nve.model import Rank
from nve.resources import NO_RESOURCES, Resources

LONG_S = 0.02
"""The shortest pause during which giving up the priority is worth the effort, in seconds."""
STARVED_S = 0.05
"""The time after which a control plane that still has to act ranks with switches, in seconds."""


class Transfer(Protocol):
    """How a VM's state comes to the destination; each method is called at one step of the move."""

    @property
    def state(self) -> Resources:
        """The memory and disk that have to be brought over."""

    def make_room(self, move: "MoveUnderWay") -> None:
        """Get the destination ready for the state; the VM runs, and is going to be suspended."""

    def rounds(self, move: "MoveUnderWay") -> None:
        """Bring over what can go ahead while the VM runs."""

    def final(self, move: "MoveUnderWay") -> None:
        """Bring over the rest while the VM is suspended."""

    def take_over(self, move: "MoveUnderWay") -> None:
        """Make the destination's state the one that is used: the VM is about to run there."""

    def push(self, move: "MoveUnderWay") -> None:
        """Bring over what the VM runs without at the destination."""

    def verify(self, move: "MoveUnderWay") -> None:
        """Compare what has come with what was at the source; the VM runs at the destination."""

    def abandon(self, move: "MoveUnderWay") -> None:
        """Discard what has come; the VM continues at the source."""


class PauseOnly:
    """No state: the scenario's `pause_ms` stands for the time that bringing it over would take."""

    @property
    def state(self) -> Resources:
        """No resources."""
        return NO_RESOURCES

    def make_room(self, move: "MoveUnderWay") -> None:
        """Do nothing: no room is needed."""

    def rounds(self, move: "MoveUnderWay") -> None:
        """Do nothing: nothing goes ahead."""

    def final(self, move: "MoveUnderWay") -> None:
        until_s = move.paused_at_s + move.asked.pause_ms / 1000
        if until_s - time.monotonic() > LONG_S:  # nothing urgent happens meanwhile
            move.helped.close()
            time.sleep(max(0.0, until_s - time.monotonic() - LONG_S / 2))
            help_along(move)
        time.sleep(max(0.0, until_s - time.monotonic()))

    def take_over(self, move: "MoveUnderWay") -> None:
        """Do nothing: it is the same VM."""

    def push(self, move: "MoveUnderWay") -> None:
        """Do nothing: nothing is missing."""

    def verify(self, move: "MoveUnderWay") -> None:
        """Do nothing: nothing has come."""

    def abandon(self, move: "MoveUnderWay") -> None:
        """Do nothing: nothing was begun."""


@dataclass
class MoveUnderWay:
    """One move and the parts that take part in it."""

    asked: MoveSpec
    told: OverlayMove
    """The move as the overlay knows it."""
    hypervisor: Hypervisor
    overlay: Overlay
    edges: dict[str, Edge]
    """The edges of SOURCE and DESTINATION."""
    log: TraceWriter
    leaving: Callable[[], AbstractContextManager[bool]]
    """Blocks the VM's next move meanwhile; yields whether its place at the source may be taken
    away."""
    diskless: bool = False
    """Whether the VM cannot keep its IPv4 address."""
    transfer: Transfer = field(default_factory=PauseOnly)
    reached: Callable[[Moment], None] = lambda _moment: None
    """Called by a step that takes long with the moments that it reaches."""
    paused_at_s: float = 0.0
    marked: bool = False
    """Whether a marker follows the VM's last packets at the source."""
    without_delay: ExitStack = field(default_factory=ExitStack)
    """Closes what is needed only while the VM is being switched over."""
    helped: ExitStack = field(default_factory=ExitStack)
    """Closes what is needed only until what was held for the VM is delivered."""

    def note(self, event: str, **details: object) -> None:
        """Add an event about this move to the trace."""
        self.log.note("runner", event, self.told.vm.name, move=self.told.number, **details)


def help_along(move: MoveUnderWay) -> None:
    """Give priority on this machine to the processes the move waits for, until `helped` is
    closed.
    """
    services = move.overlay.can.processes()
    move.helped.enter_context(none_started())
    move.helped.enter_context(first_in_line({os.getpid(): Rank.SERVER}, services))


def control_plane_at(move: MoveUnderWay, rank: Rank) -> AbstractContextManager[None]:
    """Give the overlay's control plane a higher rank in the block."""
    ranks = move.overlay.can.processes()
    control_plane = {pid: rank for pid, usual in ranks.items() if usual is Rank.CONTROL}
    return first_in_line({}, control_plane)


@contextmanager
def not_starved(move: MoveUnderWay) -> Iterator[None]:
    """Give the overlay's control plane the rank of switches in the block, but only from `STARVED_S`
    on.

    Switches that are woken for thousands of packets a second leave it no time.  At their rank,
    though, switches and senders of probes wait while it computes, which takes milliseconds.
    """
    over = threading.Event()

    def help_it() -> None:
        if not over.wait(STARVED_S):
            with control_plane_at(move, Rank.PATH):
                over.wait()

    with threads_in_line():
        helping = threading.Thread(target=help_it, daemon=True)
        helping.start()
    try:
        yield
    finally:
        over.set()
        helping.join()
