"""A standby: the state of a VM mirrored to another server, and what happens when its own dies.

    begin       the first mirror: all of the state
    every interval_s    what was written since the mirror before; after a mirror that failed, all
                        of it once more
    lost        the primary's server has been dead for detect_s, or cut off from all others
    take-over   the last whole mirror goes on at the standby: a move in the mode `take-over`, which
                the orchestrator decides on and the overlay is told of

Hot ones are `experiments.run.hot_standby`'s.

The primary is ended before the standby goes on, and its NVE, when that is back, takes nothing from
its port any more: two never accept writes at the same time.  Where the primary's server runs and is
only cut off, its NVE has to confirm that first; where nobody can tell it, the standby does not take
over.
"""

import os
import secrets
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Any

from experiments.measure.event_log import EventLog
from experiments.overlays import OverlayError, VmAdmission
from experiments.run.guests import VmGuest
from experiments.run.heartbeats import Heartbeats
from experiments.run.line_process import LineProcess
from experiments.run.state_transfer import (
    HeldMirror,
    TransferFailed,
    transfer_side,
)
from experiments.scenario.standbys import StandbySpec
from nve.guest.machine import GuestError, GuestMachine
from nve.transfer.mirror import MirrorStamp
from topologies.emulation.data_centre import DataCentre

START_TIMEOUT_S = 60.0
MIRROR_TIMEOUT_S = 60.0
LOOK_S = 0.01
"""The interval at which it is checked whether a server is alive, in seconds."""


class Standby:
    """The standby of one VM.  `mirror_every` and `watch` run in its two threads."""

    def __init__(
        self,
        data_centre: DataCentre,
        guest: VmGuest,
        spec: StandbySpec,
        where: Callable[[], str],
        log: EventLog,
        rows: list[dict[str, Any]],
        admission: VmAdmission | None = None,
    ) -> None:
        """`where()` returns the NVE of the VM; `rows` takes the lines of mirrors.csv; `admission`
        has room kept for it.
        """
        self.spec = spec
        self.at = spec.at
        """The NVE of the standby."""
        self.vm = guest.vm
        self.mirroring = False
        self.problems: list[str] = []
        self.failed_mirrors: list[str] = []
        """Sentences about mirrors that did not come over."""
        self._data_centre = data_centre
        self._guest = guest
        self._where = where
        self._log = log
        self._rows = rows
        self._admission = admission
        self._machine: GuestMachine | None = None
        self._sides: list[LineProcess] = []
        """Sender and receiver."""
        self._anew: list[LineProcess] = []
        """Those of a mirror that is made anew."""
        self._stamp: MirrorStamp | None = None
        """The mirror since which the VM's log has all that was written; None if nobody knows."""
        self._turn = threading.Lock()
        """Held while a mirror is made, and while somebody else has a use for the state."""
        self._broken = False
        """Whether the last attempt at a mirror failed."""
        self._interrupted = 0
        """The number of moves for which mirrors are interrupted."""
        self._dead_since_ns = 0
        """Since when the primary's server has been dead; 0 if it is not."""
        self._over = threading.Event()
        self._swap = threading.Lock()
        """Held while it is decided what the standby would go on from."""

    @property
    def guest(self) -> VmGuest:
        return self._guest

    @property
    def primary_alive(self) -> bool:
        return self._data_centre.nves[self._where()].edge.alive

    # -- mirroring -------------------------------------------------------------------------------

    def start(self) -> None:
        """Start sender and receiver; the first mirror follows.  Raises TransferFailed,
        GuestError, OverlayError.
        """
        self._keep_room()
        self._machine, self._sides = self._connected()
        self.mirroring = True

    def _keep_room(self) -> None:
        if self._admission:
            takes = self.spec.takes(self._data_centre.vms[self.vm].spec.resources)
            self._admission.keep_room(self.vm, self.at, takes)

    def give_room_up(self) -> None:
        """Have no room kept for it any more.  Raises OverlayError."""
        if self._admission:
            self._admission.give_room_up(self.vm)

    def _connected(self) -> tuple[GuestMachine, list[LineProcess]]:
        """Return memory and disk at the standby, and a connected sender and receiver."""
        source, target = (self._data_centre.nves[nve] for nve in (self._where(), self.at))
        cold = self.spec.kind == "cold"
        here, there = self._guest.machine, self._guest.place(target.name, stored=cold)
        token, line = secrets.token_hex(16), self._guest.spec.line()
        with ExitStack() as unless_connected:
            unless_connected.callback(there.close)
            receiver = transfer_side(
                "mirror_receiver",
                partial(self._data_centre.in_node, target.name),
                [line, str(there.memory), str(there.disk), str(target.vtep), token],
                [there.memory, there.disk],
            )
            unless_connected.callback(receiver.end)
            if not cold:
                self._guest.launch(there, incoming=True)
            port = receiver.line(START_TIMEOUT_S)["port"]
            files = [here.memory, here.log_file, here.disk]
            # A server's namespace has a /sys of its own, in which there are no cgroups.
            cgroup = os.open(self._data_centre.vms[self.vm].cgroup, os.O_PATH | os.O_DIRECTORY)
            try:
                sender = transfer_side(
                    "mirror_sender",
                    partial(self._data_centre.in_node, source.name),
                    [
                        *(line, *map(str, files), f"/proc/self/fd/{cgroup}"),
                        *(str(source.vtep), str(target.vtep), str(port), token),
                        f"{self.spec.bandwidth_mbit or 0:g}",
                    ],
                    [*files, cgroup],
                )
            finally:
                os.close(cgroup)
            unless_connected.callback(sender.end)
            sender.line(START_TIMEOUT_S)
            if not cold:
                there.await_ready()
            unless_connected.pop_all()
        return there, [sender, receiver]

    def mirror(self) -> None:
        """Make a mirror; return when the standby has it.  Raises TransferFailed."""
        self._mirror_by(self._sides[0])

    def _mirror_by(self, sender: LineProcess) -> None:
        self._stamp = None
        told = sender.ask("mirror", MIRROR_TIMEOUT_S)
        self._stamp = MirrorStamp(**told["stamp"])
        self._rows.append({"vm": self.vm, "standby": self.at, **told["mirror"]})

    # -- beside moves ----------------------------------------------------------------------------

    def interrupt(self) -> HeldMirror | str:
        """Stop making mirrors, because the VM is about to be moved.  The last one stays.

        Returns that, from which a move to the standby may start, or why none can.  It is given to
        one move only: from now on that takes from the VM's log.  `go_on` follows for each call.
        """
        with self._turn:
            self._interrupted += 1
            self.mirroring = False
            for sender in self._sides[:-1]:
                sender.end()
            del self._sides[:-1]
            stamp, self._stamp = self._stamp, None
            if self.spec.kind == "cold":
                return "a cold standby keeps it in files"
            if self._machine is None or stamp is None:
                return "the last mirror is not whole, or the VM was to be moved since"
            return HeldMirror(self._machine, stamp)

    def handed_over(self) -> None:
        """Record that the VM goes on from the mirror, which is none any more."""
        self._machine = None

    def go_on(self, former: str) -> None:
        """Make a complete mirror anew, after a move from `former` or after one was given up.

        Until that is complete, the last mirror from before counts.
        """
        with self._turn:
            self._interrupted -= 1
            if self._interrupted or self._over.is_set() or self.mirroring:
                return
            if self._where() == self.at and not self._reversed(former):
                return
            try:
                self._begin_anew()
            except (TransferFailed, GuestError) as error:
                self._failed(error)

    def _begin_anew(self) -> bool:
        """Make a complete mirror by a new connection; return False if the standby has taken over
        meanwhile.

        Raises TransferFailed, GuestError.
        """
        machine: GuestMachine | None
        machine, sides = self._connected()
        try:
            with self._swap:
                if self._over.is_set():  # a mirror would suspend the VM where it runs now
                    return False
                self._anew = sides
            self._mirror_by(sides[0])
            with self._swap:
                if not self._over.is_set():
                    self._machine, machine = machine, self._machine
                    self._sides, sides = sides, self._sides
                    self._anew = []
                    self.mirroring, self._broken = True, False
                return self.mirroring
        finally:
            for side in sides:
                side.end()
            if machine:
                machine.close()

    def _reversed(self, former: str) -> bool:
        """The VM is where its standby was: have the standby where the VM was, if the scenario asks
        for that; else it has none any more.  Return which.
        """
        self._end()
        if self._machine:
            self._machine.close()
            self._machine = None
        ended = self.at
        try:
            self.give_room_up()
            if self.spec.reverse:
                self.at = former
                self._keep_room()
        except OverlayError as error:
            self._over.set()
            self._log.note("runner", "standby-ended", self.vm, nve=ended, why=str(error))
            self.problems.append(f"{self.vm} has no standby any more: {error}")
            return False
        if not self.spec.reverse:
            self._over.set()
            self._log.note("runner", "standby-ended", self.vm, nve=ended)
            return False
        self._log.note("runner", "standby-reversed", self.vm, nve=self.at)
        return True

    def mirror_every(self) -> None:
        """Make mirrors until the end.  A mirror that is late is not made up for."""
        due_s = time.monotonic() + self.spec.mirrored_every_s
        while not self._over.wait(max(0.0, due_s - time.monotonic())):
            due_s = max(due_s + self.spec.mirrored_every_s, time.monotonic())
            self.keep_up()

    def keep_up(self) -> None:
        """Make the next mirror, unless the VM is being moved or one of the servers is dead.

        After a mirror that failed, all of the state is sent once more.
        """
        with self._turn:
            alive = self.primary_alive and self._data_centre.nves[self.at].edge.alive
            if self._interrupted or self._over.is_set() or not alive:
                return
            try:
                if self.mirroring:
                    self.mirror()
                else:
                    if self._begin_anew():
                        self._log.note("runner", "mirror-whole-again", self.vm, nve=self.at)
            except (TransferFailed, GuestError) as error:
                self._failed(error)

    def _failed(self, error: Exception) -> None:
        """Record a failure, unless it is that of before; the last mirror stays."""
        self.mirroring = False
        for sender in self._sides[:-1]:
            sender.end()  # else it may still take from the VM's log
        del self._sides[:-1]
        if not self._broken and not self._over.is_set() and self.primary_alive:
            self._broken = True
            self._log.note("runner", "mirror-failed", self.vm, why=str(error))
            self.failed_mirrors.append(f"the mirror of {self.vm} failed: {error}")

    # -- taking over -----------------------------------------------------------------------------

    def watch(
        self, moving: Callable[[], bool], take_over: Callable[["Standby", int, bool], None]
    ) -> None:
        """Watch the primary; if it is lost, call `take_over(standby, since_ns, dead)`.

        Not while the VM is `moving()`: a move that has lost its source is undone first, or its VM
        arrives.
        """
        heartbeats = Heartbeats(self._data_centre, self.spec.detect_s)
        try:
            while not self._over.wait(LOOK_S):
                since_ns, dead = self._lost_since(heartbeats)
                if since_ns and not moving():
                    said = {
                        **{"nve": self._where(), "since_ns": since_ns, "kind": self.spec.kind},
                        "interval_s": self.spec.mirrored_every_s,
                    }
                    if dead:
                        self._log.note("runner", "server-lost", self.vm, **said)
                    else:
                        self._log.note("runner", "server-cut-off", self.vm, **said)
                    take_over(self, since_ns, dead)
                    return
        finally:
            heartbeats.close()

    def _lost_since(self, heartbeats: Heartbeats) -> tuple[int, bool]:
        """Return since when the primary is lost, for `detect_s` at least, and whether its server is
        dead; 0 if it is not lost.
        """
        now_ns, where = time.time_ns(), self._where()
        if where == self.at:
            self._dead_since_ns = 0
            return 0, False
        if not self.primary_alive:
            self._dead_since_ns = self._dead_since_ns or now_ns
            lost = now_ns - self._dead_since_ns >= self.spec.detect_s * 1e9
            return self._dead_since_ns if lost else 0, True
        self._dead_since_ns = 0
        silent_s = heartbeats.cut_off_s(where, self.at)
        return now_ns - int(silent_s * 1e9) if silent_s else 0, False

    def last_mirror(self) -> tuple[GuestMachine, dict[str, Any]]:
        """Give up and return the machine with the last mirror, and that mirror's stamp.

        Raises TransferFailed if there is none, or if the machine's content is not that mirror.
        """
        with self._swap:
            self._over.set()
            anew, self._anew = self._anew, []
        for side in anew:
            side.end()
        if not self._machine:
            raise TransferFailed(f"{self.vm} has no standby any more")
        *senders, receiver = self._sides
        for sender in senders:
            sender.end()
        there = self._machine
        told = receiver.ask("close", MIRROR_TIMEOUT_S)
        counts, found = told["counts"], told["found"]
        if not counts["number"]:
            raise TransferFailed(f"no mirror of {self.vm} has come over whole")
        if found != {"memory": counts["memory"], "disk": counts["disk"]}:
            raise TransferFailed(f"the mirror of {self.vm} was left half in place")
        self._end()
        if self.spec.kind == "cold":
            there.load()
            self._guest.launch(there, incoming=True)
            there.await_ready()
        self._machine = None
        return there, counts

    def _end(self) -> None:
        for side in self._sides:
            side.end()
        self._sides.clear()
        self.mirroring = False

    def stop(self) -> None:
        """Make no more mirrors and no take-over."""
        self._over.set()
        with self._turn:
            self.mirroring = False

    def close(self) -> None:
        """End everything; this is safe at any time."""
        self._over.set()
        self._end()
        if self._machine:
            self._machine.close()
