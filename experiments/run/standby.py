"""Standbys: the state of VMs mirrored to other servers, and what happens when a VM's server dies.

    begin       the first mirror: all of the state
    every interval_s    what was written since the mirror before
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
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from functools import partial
from typing import Any

from experiments.measure.event_log import EventLog
from experiments.measure.standby_costs import StandbyCost, mirrored
from experiments.overlays import Overlay, OverlayError, VmAdmission
from experiments.run.guests import Guests, VmGuest
from experiments.run.heartbeats import Heartbeats
from experiments.run.hot_standby import HotStandby
from experiments.run.line_process import LineProcess
from experiments.run.move_steps import MoveUnderWay, Transfer
from experiments.run.orchestrator import COMPLETION_TIMEOUT_S, Orchestrator
from experiments.run.state_transfer import (
    HeldMirror,
    StateTransfer,
    TransferFailed,
    transfer_side,
)
from experiments.scenario.moves import MoveSpec
from experiments.scenario.standbys import StandbySpec
from nve.guest.machine import GuestError, GuestMachine
from nve.resources import Resources
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
        self._data_centre = data_centre
        self._guest = guest
        self._where = where
        self._log = log
        self._rows = rows
        self._admission = admission
        self._machine: GuestMachine | None = None
        self._sides: list[LineProcess] = []
        """Sender and receiver."""
        self._stamp: MirrorStamp | None = None
        """The mirror since which the VM's log has all that was written; None if nobody knows."""
        self._turn = threading.Lock()
        """Held while a mirror is made, and while somebody else has a use for the state."""
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
        receiver = transfer_side(
            "mirror_receiver",
            partial(self._data_centre.in_node, target.name),
            [line, str(there.memory), str(there.disk), str(target.vtep), token],
            [there.memory, there.disk],
        )
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
        sender.line(START_TIMEOUT_S)
        if not cold:
            there.await_ready()
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
                machine: GuestMachine | None
                machine, sides = self._connected()
                self._mirror_by(sides[0])
            except (TransferFailed, GuestError) as error:
                self._failed(error)
                return
            with self._swap:
                if not self._over.is_set():
                    self._machine, machine = machine, self._machine
                    self._sides, sides = sides, self._sides
                    self.mirroring = True
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
            with self._turn:
                if not self.mirroring or not self.primary_alive:
                    continue
                try:
                    self.mirror()
                except TransferFailed as error:
                    self._failed(error)

    def _failed(self, error: Exception) -> None:
        """Record a failure; the last mirror stays."""
        self.mirroring = False
        for sender in self._sides[:-1]:
            sender.end()  # else it may still take from the VM's log
        del self._sides[:-1]
        if not self._over.is_set() and self.primary_alive:
            self._log.note("runner", "mirror-failed", self.vm, why=str(error))
            self.problems.append(f"the mirror of {self.vm} failed: {error}")

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
        """The same as without a standby."""
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


class Standbys:
    """The standbys of a run, used as `start`, `begin`, `finish`, `close`; the last is safe at any
    time.
    """

    def __init__(
        self,
        data_centre: DataCentre,
        guests: Guests,
        orchestrator: Orchestrator,
        overlay: Overlay,
        log: EventLog,
        asked: Mapping[str, StandbySpec],
        first_number: int,
    ) -> None:
        """Take-overs are moves, numbered from `first_number`."""
        self.rows: list[dict[str, Any]] = []
        """Of mirrors.csv."""
        self.of = {
            vm: Standby(
                *(data_centre, guests.of[vm], spec),
                partial(_where, orchestrator, vm),
                *(log, self.rows, overlay.can.admission),
            )
            for vm, spec in asked.items()
            if spec.kind != "hot"
        }
        self.hot: dict[str, HotStandby] = {}
        for vm, spec in asked.items():
            if spec.kind == "hot":
                assert overlay.can.instances, "a scenario with this overlay has no hot standby"
                self.hot[vm] = HotStandby(
                    *(data_centre, guests.of[vm], spec, orchestrator, overlay.can.instances, log)
                )
        self._guests = guests
        self._asked = asked
        self._orchestrator = orchestrator
        self._first_number = first_number
        self._threads: list[threading.Thread] = []
        self._problems: list[str] = []
        self._completions: list[Future[None]] = []

    @property
    def _every(self) -> list["Standby | HotStandby"]:
        return [*self.of.values(), *self.hot.values()]

    def start(self) -> None:
        """Start senders, receivers and waiting guests."""
        for standby in self._every:
            standby.start()

    def begin(self) -> None:
        """Begin the experiment: return when each standby has a first mirror."""
        for standby in self.of.values():
            standby.mirror()
        for number, standby in enumerate(self.of.values()):
            take_over = partial(self._take_over, self._first_number + number)
            moving = partial(self._orchestrator.is_moving, standby.vm)
            for act in (standby.mirror_every, partial(standby.watch, moving, take_over)):
                self._in_thread(act)
        for hot in self.hot.values():
            hot.begin()
            self._in_thread(hot.watch)

    def _in_thread(self, act: Callable[[], None]) -> None:
        thread = threading.Thread(target=act, daemon=True)
        thread.start()
        self._threads.append(thread)

    def beside(self, move: MoveSpec, transfer: Transfer) -> Transfer:
        """Return the transfer of a planned move, wrapped so that mirrors do not disturb it."""
        standby = self.of.get(move.vm)
        if standby is None or not isinstance(transfer, StateTransfer):
            return transfer
        return Beside(standby, transfer)

    def _take_over(self, number: int, standby: Standby, since_ns: int, dead: bool) -> None:
        asked = {"at_s": 0, "vm": standby.vm, "to": standby.at}
        move = MoveSpec.model_validate(asked).with_state()
        move = move.model_copy(update={"mode": "take-over"})  # a mode that no scenario may ask for
        try:
            self._completions.append(
                self._orchestrator.move(
                    number, move, TakeOver(standby, since_ns), source_runs=not dead
                )
            )
        except Exception as error:
            self._problems.append(f"the standby of {standby.vm} did not take over: {error}")

    def finish(self) -> list[str]:
        """Stop making mirrors; return sentences about problems.

        Returns when take-overs that have begun are over.
        """
        for standby in self._every:
            standby.stop()
        for thread in self._threads:
            thread.join(COMPLETION_TIMEOUT_S)
        for completion in self._completions:
            try:
                completion.result(COMPLETION_TIMEOUT_S)
            except Exception as error:
                reason = str(error) or f"not in {COMPLETION_TIMEOUT_S:g} s"
                self._problems.append(f"a take-over was not completed: {reason}")
        for hot in self.hot.values():
            hot.verify()
        return self._problems + [said for each in self._every for said in each.problems]

    def costs(self) -> list[StandbyCost]:
        """What each standby has cost; to be asked when the experiment is over."""
        return [
            self.hot[vm].cost()
            if vm in self.hot
            else mirrored(
                vm,
                spec.kind,
                spec.mirrored_every_s,
                0 if spec.kind == "cold" else self._guests.of[vm].spec.memory_mb,
                [row for row in self.rows if row["vm"] == vm],
            )
            for vm, spec in self._asked.items()
        ]

    def close(self) -> None:
        for standby in self._every:
            standby.close()
        for thread in self._threads:
            thread.join(COMPLETION_TIMEOUT_S)


def _where(orchestrator: Orchestrator, vm: str) -> str:
    return orchestrator.hypervisors[vm].at
