"""What a cloud manager does: it carries out a move with two hypervisors and an overlay.

A hot move, in order (sections 4.1, 5 and 7 of the draft):

    pre-associate   the destination hypervisor makes the VM's place        VM runs at the source
    prepare         the overlay makes the destination ready (R5.1)
    switch over     what still comes for the VM is in flight (R4.1.4)
    pause           the VM stops                                           guest blackout begins
                    (with `hold`, after the switch-over; without, before: what comes for the VM
                    between the two would be lost for nothing)
    transfer        its last state goes over: `pause_ms`
    activate        NIC flipped, VM announced (R4.1.2, R4.1.6), resumed    guest blackout ends
    release         with `end_marker`, what it sends there is held until what it has sent last at
                    the source has arrived
    arrive          the overlay is told (RFC 8394 activate)
    complete        old entries and the in-flight tunnel are gone (R3.5)
    de-associate    the source forgets the VM

The last two are done in the background: the VM's next move may begin when it has arrived, and may
bring it back to a place that was to be taken away; then it is not.

When a step before `activate` fails, what was done is undone in reverse order: the VM is resumed
where it was, the overlay rolls back, the place at the destination is taken away.  Requests to an
overlay that does not answer are repeated for a while: long while the VM runs, not so long while it
stands still.  A server that is dead does not get the VM (`experiments.scenario.failures`).
"""

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from functools import partial

from experiments.measure.event_log import EventLog
from experiments.measure.trace import TraceEvent
from experiments.overlays import MoveRefused, Overlay, OverlayMove
from experiments.scenario.failures import Moment
from experiments.scenario.moves import MoveSpec
from nve.hypervisor.hypervisor import Hypervisor
from nve.hypervisor.realtime import realtime_priority
from nve.hypervisor.reorder_buffer import ReorderBuffer
from nve.model import TenantSystem
from nve.pipeline.rules import FIRST_VM_PORT
from nve.wire.announcement import NOTHING
from topologies.emulation.data_centre import DataCentre
from topologies.underlay_paths import UnderlayPaths

COMPLETION_TIMEOUT_S = 120.0
PATIENCE_S = 20.0
"""How long a request is repeated while the VM runs at the source."""
PAUSED_PATIENCE_S = 5.0
"""The same while the VM stands still."""

Reached = Callable[[Moment, OverlayMove], None]
"""reached(moment, move): called when a move has come so far, before its next step."""


class MoveUndone(RuntimeError):
    """A move has failed, and all it had done is undone; the message says why it failed."""


class ServerGone(RuntimeError):
    """A server that the next step of a move needs does not answer."""


class Orchestrator:
    """Moves VMs of one data centre.  Moves of different VMs may run in parallel threads."""

    def __init__(
        self,
        data_centre: DataCentre,
        overlay: Overlay,
        log: EventLog,
        diskless: Collection[str] = (),
    ) -> None:
        self._data_centre = data_centre
        self._overlay = overlay
        self._hold = overlay.can.hold is not None
        self._diskless = diskless
        self._log = log
        self.where: dict[str, str] = {}
        self.patience_s = PATIENCE_S
        self.reached: Reached = lambda _moment, _relocation: None
        self._underlay_paths = UnderlayPaths(data_centre.fabric)
        self._under_way: dict[str, OverlayMove] = {}
        self._turns: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        """Of each VM: held while a move of it begins, and while one is cleared away after."""
        self._hypervisors = {
            name: Hypervisor(
                vm.spec,
                vm.pid,
                vm.cgroup,
                FIRST_VM_PORT + index,
                self._note,
                overlay.can.hold,
            )
            for index, (name, vm) in enumerate(data_centre.vms.items())
        }

    @property
    def hypervisors(self) -> Mapping[str, Hypervisor]:
        return self._hypervisors

    def reorder_buffer(self, system: TenantSystem, nve: str) -> ReorderBuffer | None:
        """The ways into a VM at an NVE that may be held there."""
        found = (each for each in self._hypervisors.values() if each.vm.tenant_system == system)
        hypervisor = next(found, None)
        return hypervisor.reorder_buffer(nve) if hypervisor else None

    def start_vms(self, moves: Sequence[MoveSpec]) -> None:
        """Every VM starts where the scenario says, wired to every NVE it is going to visit."""
        for move in moves:
            self._hypervisors[move.vm].lay_cable(self._data_centre.nves[move.to].edge)
            if move.announcement.lost:
                self._hypervisors[move.vm].expect_to_lose_announcements()
        for name, vm in self._data_centre.vms.items():
            hypervisor, nve = self._hypervisors[name], self._data_centre.nves[vm.spec.nve].edge
            hypervisor.lay_cable(nve)
            # First the NVE, then the VM: its kernel has something to say at once (MLD reports),
            # which would come from a port that the NVE does not know.
            self._overlay.associate(vm.spec, vm.spec.nve, hypervisor.port)
            hypervisor.associate(nve)
            self.where[name] = vm.spec.nve

    def move(self, number: int, move: MoveSpec) -> "Future[None]":
        """Carry out one move; returns when the VM has arrived.

        The future is done when nothing is left of the move.  Raises Refused when the overlay does
        not accept it, MoveUndone when it had to be given up, and what a failing step raised where
        not even that was possible.
        """
        relocation = self._request(number, move)
        try:
            self._bring_over(relocation, move)
        finally:
            del self._under_way[move.vm]
        completion: Future[None] = Future()
        cleaner = threading.Thread(target=self._clear_away, args=(relocation, completion))
        cleaner.daemon = True
        cleaner.start()
        return completion

    def _request(self, number: int, move: MoveSpec) -> OverlayMove:
        """Begin a move, unless the VM is being moved: then only the overlay is asked."""
        hypervisor = self._hypervisors[move.vm]
        with self._turns[move.vm]:
            source = self.where[move.vm]
            # Everything before the arrival may take all the patience there is.
            deadline_s = 3 * self.patience_s + PAUSED_PATIENCE_S + move.pause_ms / 1000
            relocation = OverlayMove(
                number, hypervisor.vm, source, move.to, hypervisor.port, deadline_s
            )
            asked = {"pause_ms": move.pause_ms, "announce": move.announce}
            delay_ms = self._underlay_paths.delay_ms(
                source, self._data_centre.fabric.vteps[move.to]
            )
            self._record(
                "move-requested",
                relocation,
                source=source,
                to=move.to,
                underlay_delay_ms=delay_ms,
                **asked,
            )
            busy = move.vm in self._under_way
            if not busy:
                self._under_way[move.vm] = relocation
        if busy:
            try:
                self._overlay.prepare(relocation, self.patience_s)
            except MoveRefused:
                self._record("move-refused", relocation)
                raise
            raise RuntimeError(f"the overlay moves {move.vm} twice at a time")
        return relocation

    def _bring_over(self, relocation: OverlayMove, move: MoveSpec) -> None:
        """Everything until the VM has arrived."""
        hypervisor = self._hypervisors[move.vm]
        source, destination = relocation.source, relocation.destination
        place = self._data_centre.nves[destination].edge
        undo: list[Callable[[], None]] = []
        with ExitStack() as without_delay:
            try:
                self.reached(Moment.REQUESTED, relocation)
                self._require_server(destination)
                hypervisor.pre_associate(
                    place,
                    move.announcement,
                    hold_outbound=self._overlay.can.last_packets is not None,
                )
                undo.append(partial(hypervisor.de_associate, destination))
                self._require_server(source)
                undo.append(partial(self._overlay.roll_back, relocation, self.patience_s))
                self._overlay.prepare(relocation, self.patience_s)
                self.reached(Moment.PREPARED, relocation)
                undo.append(without_delay.close)
                without_delay.enter_context(realtime_priority())
                if self._hold:
                    # Nothing that comes for the VM may meet a paused one: what is not in flight by
                    # now is delivered to it, and what is waits at the destination.
                    self._redirect(relocation, self.patience_s)
                undo.append(hypervisor.resume)
                hypervisor.pause()
                resume_at_s = time.monotonic() + move.pause_ms / 1000
                self.reached(Moment.PAUSED, relocation)
                if move.vm in self._diskless:
                    hypervisor.lose_ipv4_address()
                if not self._hold:
                    began_s = time.monotonic()
                    self._redirect(relocation, PAUSED_PATIENCE_S)
                    took_ms = (time.monotonic() - began_s) * 1e3
                    self._record("redirect-in-pause", relocation, took_ms=took_ms)
                time.sleep(max(0.0, resume_at_s - time.monotonic()))
                self._require_server(destination)
            except MoveRefused:
                self._undo(relocation, undo)
                self._record("move-refused", relocation)
                raise
            except Exception as cause:
                self._record("move-failed", relocation, why=str(cause))
                if self._undo(relocation, undo):
                    raise MoveUndone(str(cause)) from cause
                raise
            hypervisor.activate(destination)
            if self._overlay.can.last_packets:
                self._let_last_packets_pass(relocation, self._overlay.can.last_packets)
        self.where[move.vm] = destination
        self.reached(Moment.RESUMED, relocation)
        announced = move.announce != NOTHING or move.vm in self._diskless
        self._overlay.activate(relocation, COMPLETION_TIMEOUT_S, announced=announced)
        self.reached(Moment.ACTIVATED, relocation)

    def _redirect(self, relocation: OverlayMove, patience_s: float) -> None:
        for nve in (relocation.destination, relocation.source):
            self._require_server(nve)
        self._overlay.redirect(relocation, patience_s)
        self.reached(Moment.REDIRECTED, relocation)

    def _let_last_packets_pass(
        self, relocation: OverlayMove, await_last_packets: Callable[[OverlayMove], list[str]]
    ) -> None:
        """Those that the VM has sent at the source; what it sends at the destination may have a
        shorter way, and is held there meanwhile.  That costs order at most, so it is not held for
        long."""
        try:
            missing = await_last_packets(relocation)
        finally:
            self._hypervisors[relocation.vm.name].release()
        if missing:
            self._record("last-packets-not-awaited", relocation, nves=missing)

    def _require_server(self, nve: str) -> None:
        if not self._data_centre.nves[nve].edge.alive:
            raise ServerGone(f"the server of {nve} does not answer")

    def _undo(self, relocation: OverlayMove, steps: list[Callable[[], None]]) -> bool:
        """What was done last is undone first; what cannot be undone does not keep the rest.

        Returns whether all of it is undone.
        """
        failed = False
        for step in reversed(steps):
            try:
                step()
            except Exception as error:
                self._record("not-undone", relocation, why=str(error))
                failed = True
        if failed:
            return False
        self._record("move-undone", relocation)
        return True

    def _clear_away(self, relocation: OverlayMove, completion: "Future[None]") -> None:
        try:
            self._overlay.converge(relocation, COMPLETION_TIMEOUT_S)
            self.reached(Moment.CONVERGED, relocation)
            self._overlay.complete(relocation, COMPLETION_TIMEOUT_S)
            vm = relocation.vm.name
            with self._turns[vm]:
                if relocation.source not in self._needed(vm):
                    self._overlay.de_associate(relocation, COMPLETION_TIMEOUT_S)
                    self._hypervisors[vm].de_associate(relocation.source)
            completion.set_result(None)
        except Exception as error:
            completion.set_exception(error)

    def _needed(self, vm: str) -> list[str]:
        """The places of a VM that must not be taken away."""
        move = self._under_way.get(vm)
        return [self.where[vm], *([move.source, move.destination] if move else [])]

    def close(self) -> None:
        for hypervisor in self._hypervisors.values():
            hypervisor.close()

    def _record(self, event: str, move: OverlayMove, **details: object) -> None:
        renamed = {"from" if key == "source" else key: value for key, value in details.items()}
        told: dict[str, object] = {"move": move.number, **renamed}
        self._log.note("runner", event, move.vm.name, **told)

    def _note(self, t_ns: int, event: str, vm: str, details: dict[str, object]) -> None:
        self._log.append(TraceEvent(t_ns, "hypervisor", event, vm, details))
