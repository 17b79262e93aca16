"""The state of VMs with standbys in their moves: `Transfer`s of `experiments.run.move_under_way`.

A take-over continues from the last mirror.  A planned move interrupts the mirroring, and starts
from the last mirror where it goes to the standby.
"""

import threading
from functools import partial
from typing import Any

from experiments.run.move_under_way import MoveUnderWay
from experiments.run.standby import Standby
from experiments.run.state_transfer import HeldMirror, StateTransfer
from nve.guest.machine import GuestMachine
from nve.resources import Resources


class TakeOver:
    """The state of a VM whose standby takes over: a `Transfer`."""

    def __init__(self, standby: Standby, since_ns: int) -> None:
        self._standby = standby
        self._since_ns = since_ns
        self._machines: list[GuestMachine] = []
        self._counts: dict[str, Any] = {}

    @property
    def state(self) -> Resources:
        """The size of the guest's memory and disk."""
        spec = self._standby.guest.spec
        return Resources(memory_mb=spec.memory_mb, storage_mb=spec.disk_mb)

    def make_room(self, move: MoveUnderWay) -> None:
        """Get the last complete mirror ready to continue from."""
        there, self._counts = self._standby.last_mirror()
        self._machines = [self._standby.guest.machine, there]
        move.note(
            "mirror-ready",
            mirror=self._counts["number"],
            taken_ns=self._counts["taken_ns"],
            mirror_age_ms=(self._since_ns - self._counts["taken_ns"]) / 1e6,
        )

    def rounds(self, move: MoveUnderWay) -> None:
        """Do nothing: everything is there."""

    def final(self, move: MoveUnderWay) -> None:
        """Do nothing: everything is there."""

    def take_over(self, _move: MoveUnderWay) -> None:
        """Kill the primary, so that it never runs again, and let the standby continue."""
        here, there = self._machines
        here.kill()
        there.go_on()
        self._standby.guest.moved_to(there, None)

    def push(self, move: MoveUnderWay) -> None:
        """Do nothing: nothing is missing."""

    def verify(self, move: MoveUnderWay) -> None:
        """Record that the state equals the primary's when the mirror was taken; it was compared
        before.
        """
        here, _ = self._machines
        digests = {"memory": self._counts["memory"], "disk": self._counts["disk"]}
        move.note("state-verified", equal=True, **digests)
        here.close()
        self._standby.give_room_up()

    def abandon(self, _move: MoveUnderWay) -> None:
        """Discard the standby; the VM is where its server was."""
        for machine in self._machines[1:]:
            machine.close()


class Beside:
    """The transfer of a planned move of a VM that has a standby: a `Transfer`."""

    def __init__(self, standby: Standby, transfer: StateTransfer) -> None:
        self._standby = standby
        self._transfer = transfer
        self._begun = False
        self._held: HeldMirror | None = None
        """The mirror that the move starts from, if it goes to the standby."""

    @property
    def state(self) -> Resources:
        """The memory and disk to transfer, as without a standby."""
        return self._transfer.state

    def _begin(self, move: MoveUnderWay) -> None:
        """Stop making mirrors; if the VM moves to its standby, let it start from the last one."""
        if self._begun:
            return
        self._begun = True
        held = self._standby.interrupt()
        if move.told.destination != self._standby.at:
            return
        if isinstance(held, HeldMirror):
            self._held = held
            self._transfer.start_from(held)
        else:
            move.note("mirror-not-used", why=held)

    def make_room(self, move: MoveUnderWay) -> None:
        """Stop making mirrors, and then do the same as without a standby."""
        self._begin(move)
        self._transfer.make_room(move)

    def rounds(self, move: MoveUnderWay) -> None:
        """Stop making mirrors, and then do the same as without a standby."""
        self._begin(move)
        self._transfer.rounds(move)

    def final(self, move: MoveUnderWay) -> None:
        """Do the same as without a standby."""
        self._transfer.final(move)

    def take_over(self, move: MoveUnderWay) -> None:
        """Do the same as without a standby."""
        if self._held:
            self._standby.handed_over()
        self._transfer.take_over(move)

    def push(self, move: MoveUnderWay) -> None:
        """Do the same as without a standby."""
        self._transfer.push(move)

    def verify(self, move: MoveUnderWay) -> None:
        """Verify the state, and then mirror the VM from its new place."""
        try:
            self._transfer.verify(move)
        finally:
            self._standby.go_on(move.told.source)

    def abandon(self, move: MoveUnderWay) -> None:
        """Abandon the transfer, and mirror the VM from its old place again in the background."""
        self._transfer.abandon(move)
        go_on = partial(self._standby.go_on, move.told.source)
        threading.Thread(target=go_on, daemon=True).start()
