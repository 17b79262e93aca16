"""Brings the state of a VM over in a move, with a sender on its server and a receiver on the other.

The destination's server makes room, and a guest waits there for its pages.  The sender opens a TCP
connection to it (R6.2): between the two VTEPs, across the same underlay as the tenants' packets, or
over the migration network, where a move says so and the topology has one.  What goes on is the
guest at the destination, with the bytes that have come over.  Where anything fails before that, the
guest at the source goes on as if nothing had been.

Where the destination holds a mirror of the VM (`experiments.run.standby`), the guest goes on from
that, and only what was written since crosses the underlay.

In a post-copy the guest continues before its memory has come over.  If that fails, no server has
all of the VM's memory any more: the VM is lost.
"""

import json
import secrets
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from experiments.run.guests import Guests, VmGuest
from experiments.run.line_process import LineProcess
from experiments.run.move_under_way import MoveUnderWay, PauseOnly, Transfer
from experiments.scenario.failures import Moment
from experiments.scenario.moves import MoveSpec
from nve.guest.machine import NO_FILE, GuestMachine
from nve.hypervisor.realtime import first_in_line
from nve.model import Rank
from nve.resources import Resources
from nve.transfer.convergence import MAY_RESUME_FIRST, TransferLimits
from nve.transfer.mirror import MirrorStamp
from nve.transfer.presence import PageFault
from nve.transfer.state import State
from topologies.emulation.data_centre import DataCentre, Nve

START_TIMEOUT_S = 60.0
END_TIMEOUT_S = 60.0
"""How long digests may take: of gigabytes, on a busy machine."""
PUSH_TIMEOUT_S = 3600.0
"""How long a push may take: a VM that has been resumed cannot be suspended to end it sooner."""


class TransferFailed(RuntimeError):
    """The state did not come over; the message says why."""


class StateNotVerified(TransferFailed):
    """The VM runs at the destination, but the state of both ends could not be compared."""


@dataclass(frozen=True)
class HeldMirror:
    """A VM's last mirror at its destination, since which the VM's log has all that was written."""

    machine: GuestMachine
    """A guest waits there to go on."""
    stamp: MirrorStamp


class StateTransfer:
    """The state of one VM in one move: a `Transfer`."""

    def __init__(
        self,
        data_centre: DataCentre,
        guest: VmGuest,
        limits: TransferLimits,
        rows: list[dict[str, Any]],
        faults: list[dict[str, Any]],
    ) -> None:
        """`rows` takes the lines of iterations.csv, `faults` those of faults.csv."""
        self._data_centre = data_centre
        self._guest = guest
        self._limits = limits
        self._rows = rows
        self._faults = faults
        self.machines: list[GuestMachine] = []
        """At the source and at the destination."""
        self._sides: list[LineProcess] = []
        self._mirror: HeldMirror | None = None
        self._sent_bytes = 0
        self._resumes_first = False
        self._waits_by: socket.socket | None = None
        self._missed_by: socket.socket | None = None
        """Over these a guest gives the receiver what it takes to let it wait for pages."""
        self._over = threading.Event()
        """Nothing of it is to come any more."""

    @property
    def state(self) -> Resources:
        """The size of the guest's memory and disk."""
        spec = self._guest.spec
        return Resources(memory_mb=spec.memory_mb, storage_mb=spec.disk_mb)

    def start_from(self, mirror: HeldMirror) -> None:
        """Send only what was written since this mirror, in place of which the state goes on.

        If the transfer is abandoned, the mirror is what it was.
        """
        self._mirror = mirror

    def make_room(self, move: MoveUnderWay) -> None:
        """Start a guest that waits at the destination."""
        self._launch(move)
        self.machines[1].await_ready()

    def rounds(self, move: MoveUnderWay) -> None:
        """Send what can go ahead while the VM runs."""
        self._guest.await_pages()
        self._connect(move)
        iterations = 0
        while "iteration" in (told := self._hear(self._limits.max_time_s)):
            self._note_iteration(move, told["iteration"])
            iterations += 1
            move.reached(Moment.COPYING)
        move.note(
            "transfer-rounds-ended", why=told["stop"], iterations=iterations, bytes=self._sent_bytes
        )
        self._resumes_first = told["stop"] == "post-copy"
        move.hypervisor.hold_anew(move.told.destination)
        # The VM is going to stand still for what they still have to do.
        move.helped.enter_context(first_in_line({side.pid: Rank.SERVER for side in self._sides}))

    def final(self, move: MoveUnderWay) -> None:
        """Send the rest while the VM is suspended."""
        self._sides[0].tell("final")
        iteration = self._hear(self._limits.max_time_s)["iteration"]
        self._note_iteration(move, iteration)
        move.note(
            "transfer-finished",
            pages=iteration["normal_pages"],
            final_bytes=iteration["transferred_bytes"],
            final_ms=iteration["took_ms"],
            transfer_bytes=self._sent_bytes,
        )

    def take_over(self, _move: MoveUnderWay) -> None:
        """Let the guest at the destination continue when the VM is thawed; kill the other one."""
        here, there = self.machines
        there.go_on()
        here.kill()
        self._guest.moved_to(there, self._over if self._resumes_first else None)

    def push(self, move: MoveUnderWay) -> None:
        """Send what a VM that already runs there lacks.  If this fails, the VM is lost."""
        if not self._resumes_first:
            return
        try:
            self._sides[0].tell("push")
            iteration = self._hear(PUSH_TIMEOUT_S)["iteration"]
            faults = [PageFault(*each) for each in self._sides[1].line(END_TIMEOUT_S)["faults"]]
        except TransferFailed as failure:
            self._lose(move, str(failure))
            return
        self._note_iteration(move, iteration)
        self._faults += [
            {"move": move.told.number, "vm": move.told.vm.name, **asdict(each)} for each in faults
        ]
        latencies_ms = sorted(each.latency_ms for each in faults)
        move.note(
            "post-copy-finished",
            pages=iteration["normal_pages"] + iteration["duplicate_pages"],
            transfer_bytes=self._sent_bytes,
            faults=len(faults),
            fault_p50_ms=_quantile(latencies_ms, 0.5),
            fault_p99_ms=_quantile(latencies_ms, 0.99),
        )

    def _lose(self, move: MoveUnderWay, why: str) -> None:
        self._end()
        self._guest.lose(why)
        move.note("vm-lost", why=why)

    def verify(self, move: MoveUnderWay) -> None:
        """Compare the digests of both ends, and overwrite the source's state.  Raises
        TransferFailed.
        """
        here, _ = self.machines
        try:
            if self._guest.lost:
                return
            digests = self._digests(move)
            equal = digests["here"] == digests["there"]
            if equal:
                move.note("state-verified", equal=True, **digests["here"])
            else:
                move.note("state-differs", equal=False, **digests["there"])
            _state_of(here).overwrite()
            self._sides[0].tell("end")
        finally:
            self._end()
            here.close()
            self._over.set()
        if not equal:
            raise TransferFailed(
                f"{move.told.destination} has not the state that {move.told.source} had: "
                f"{digests['there']} instead of {digests['here']}"
            )

    def _digests(self, move: MoveUnderWay) -> dict[str, Any]:
        try:
            self._sides[0].tell("digest")
            digests: dict[str, Any] = self._hear(END_TIMEOUT_S)["digests"]
        except TransferFailed as error:
            move.note("state-not-verified", why=str(error))
            raise StateNotVerified(f"nobody can say whether the state is right: {error}") from None
        return digests

    def abandon(self, _move: MoveUnderWay) -> None:
        """Let the guest at the source continue without a throttle, and discard the other one, or
        make it the mirror again that it was.
        """
        if self._mirror and self._sides:
            with suppress(TransferFailed):  # then it is no mirror, which its digests show
                self._sides[1].ask("undo", END_TIMEOUT_S)
        self._end()
        self._guest.machine.log.throttle_pct = 0
        if not self._mirror:
            for machine in self.machines[1:]:
                machine.close()
        self.machines.clear()

    def close(self) -> None:
        """End everything; this is safe at any time."""
        self._end()
        self._over.set()
        for machine in self.machines:
            machine.close()

    def _launch(self, move: MoveUnderWay) -> None:
        if self._mirror:
            self.machines = [self._guest.machine, self._mirror.machine]
            return
        there = self._guest.place(move.told.destination)
        self.machines = [self._guest.machine, there]
        without_pages = None
        if self._limits.kind in MAY_RESUME_FIRST:
            self._waits_by, self._missed_by = socket.socketpair()
            without_pages = self._waits_by.fileno()
        self._guest.launch(there, incoming=True, without_pages=without_pages)

    def _connect(self, move: MoveUnderWay) -> None:
        """Start everything at once, as a process needs a while until it is ready."""
        source, destination = (
            self._data_centre.nves[nve] for nve in (move.told.source, move.told.destination)
        )
        if not self.machines:
            self._launch(move)
        here, there = self.machines
        token, spec = secrets.token_hex(16), self._guest.spec.line()
        receives, given = [spec, str(there.memory), str(there.disk)], [there.memory, there.disk]
        receives += [self._address(destination), token]
        if self._missed_by:
            receives += ["--guest", str(self._missed_by.fileno())]
            given.append(self._missed_by.fileno())
        if self._mirror:
            receives.append("--mirrored")
        at_destination = partial(self._data_centre.in_node, destination.name)
        receiver = transfer_side("receiver", at_destination, receives, given)
        self._sides = [receiver]
        files = [here.memory, here.log_file, here.disk]
        sends = [spec, *map(str, files), json.dumps(asdict(self._limits))]
        sends += [self._address(source), self._address(destination), token]
        if self._mirror:
            sends += ["--mirror", json.dumps(self._mirror.stamp.row())]
        at_source = partial(self._data_centre.in_node, source.name)
        self._sides.insert(0, transfer_side("sender", at_source, sends, files))
        there.await_ready()
        self._sides[0].tell(f"connect {receiver.line(START_TIMEOUT_S)['port']}")
        holds = self._hear(START_TIMEOUT_S)["holds"]
        move.note(
            "transfer-connected",
            transfer=self._limits.kind,
            network=self._limits.network,
            state_bytes=self._guest.spec.pages * 4096,
            **{"from": move.told.source, "to": move.told.destination},
        )
        if self._mirror and holds:
            stamp = self._mirror.stamp
            move.note("mirror-used", mirror=stamp.number, taken_ns=stamp.taken_ns)
        elif self._mirror:
            move.note("mirror-not-used", why="what the standby has is not the last mirror")

    def _address(self, server: Nve) -> str:
        return str(server.migration if self._limits.network == "migration" else server.vtep)

    def _hear(self, timeout_s: float) -> dict[str, Any]:
        return self._sides[0].line(timeout_s)

    def _note_iteration(self, move: MoveUnderWay, iteration: Mapping[str, Any]) -> None:
        self._sent_bytes += iteration["transferred_bytes"]
        self._rows.append({"move": move.told.number, "vm": move.told.vm.name, **iteration})

    def _end(self) -> None:
        for side in self._sides:
            side.end()
        self._sides.clear()
        for end in (self._waits_by, self._missed_by):
            if end:
                end.close()


class StateTransfers:
    """The transfers of a run, and the rows of their rounds."""

    def __init__(self, data_centre: DataCentre, guests: Guests) -> None:
        self.rows: list[dict[str, Any]] = []
        """The rows of iterations.csv."""
        self.faults: list[dict[str, Any]] = []
        """The rows of faults.csv."""
        self._data_centre = data_centre
        self._guests = guests
        self._made: list[StateTransfer] = []

    def of(self, asked: MoveSpec) -> Transfer:
        """Return how the state of a move's VM is brought over."""
        guest = self._guests.of.get(asked.vm)
        if guest is None:
            return PauseOnly()
        assert asked.transfer, f"the scenario says how the state of {asked.vm} is brought over"
        limits = asked.transfer.limits
        made = StateTransfer(self._data_centre, guest, limits, self.rows, self.faults)
        self._made.append(made)
        return made

    def close(self) -> None:
        for made in self._made:
            made.close()


def transfer_side(
    name: str, start: Callable[..., Any], argv: Sequence[str], files: Sequence[int]
) -> LineProcess:
    """Start a sender or a receiver."""
    kept = [file for file in files if file != NO_FILE]
    module = [f"nve.transfer.{name}", *argv]
    without_it = "the state did not come over: "
    return LineProcess(name, start, module, TransferFailed, kept, without_it=without_it)


def _state_of(machine: GuestMachine) -> State:
    spec = machine.spec
    return State(machine.memory, spec.memory_pages, machine.disk, spec.disk_pages)


def _quantile(ordered: Sequence[float], share: float) -> float | None:
    """Return a quantile of values in ascending order; None if there are none."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else None
