"""The orchestrator, as in a cloud manager: it carries out moves with hypervisors and an overlay.

A move is a table of steps (`experiments.run.move_steps`) that `experiments.run.interpreter` carries
out.  This module keeps which VMs there are, which of them are being moved, and what waits for what.

The last steps of a move are done in the background: the VM's next move may begin when it has
arrived.  If that brings it back to a place that was to be taken away, the place stays.
"""

import threading
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial

from experiments.measure.event_log import EventLog
from experiments.measure.trace import TraceEvent
from experiments.overlays import MoveRefused, Overlay, OverlayMove
from experiments.run.interpreter import Interpreter, Reached
from experiments.run.move_steps import Patience, table_of
from experiments.run.move_under_way import MoveUnderWay, PauseOnly, Transfer
from experiments.scenario.failures import DESTINATION, SOURCE
from experiments.scenario.moves import MoveSpec
from nve.hypervisor.hypervisor import Hypervisor
from nve.hypervisor.realtime import threads_in_line
from nve.hypervisor.reorder_buffer import ReorderBuffer
from nve.model import TenantSystem
from nve.pipeline.rules import FIRST_VM_PORT
from topologies.emulation.data_centre import DataCentre
from topologies.underlay_paths import UnderlayPaths

COMPLETION_TIMEOUT_S = 120.0
PATIENCE_S = 20.0
PAUSED_PATIENCE_S = 5.0


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
        self._interpreter = Interpreter(
            partial(table_of, overlay),
            self._patience_s,
            lambda moment, move: self.reached(moment, move),
        )
        self._diskless = diskless
        self._log = log
        self.patience_s = PATIENCE_S
        """How long a request is repeated while the VM runs at the source."""
        self.transfer_of: Callable[[MoveSpec], Transfer] = lambda _move: PauseOnly()
        """How the state of a move's VM is brought over."""
        self.reached: Reached = lambda _moment, _move: None
        self._underlay_paths = UnderlayPaths(data_centre.fabric)
        self._under_way: dict[str, OverlayMove] = {}
        self._turns: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        """A lock for each VM, held while a move of it begins and while one is cleaned up."""
        self._hypervisors: dict[str, Hypervisor] = {}
        self._next_port = FIRST_VM_PORT
        for name in data_centre.vms:
            self._hypervisors[name] = self._hypervisor(name)

    @property
    def hypervisors(self) -> Mapping[str, Hypervisor]:
        return self._hypervisors

    @property
    def where(self) -> dict[str, str]:
        """The NVE of each VM."""
        return {name: hypervisor.at for name, hypervisor in self._hypervisors.items()}

    def reorder_buffer(self, system: TenantSystem, nve: str) -> ReorderBuffer | None:
        """Return the VM's reorder buffer at an NVE, or None."""
        found = (each for each in self._hypervisors.values() if each.vm.tenant_system == system)
        hypervisor = next(found, None)
        return hypervisor.reorder_buffer(nve) if hypervisor else None

    def start_vms(self, moves: Sequence[MoveSpec], standbys: Mapping[str, str]) -> None:
        """Start every VM where the scenario says, wired to every NVE of its moves and of its
        standby.
        """
        for name, at in standbys.items():
            self._hypervisors[name].expect_visit(self._data_centre.nves[at].edge)
        for move in moves:
            self._hypervisors[move.vm].expect_visit(self._data_centre.nves[move.to].edge)
            if move.announcement.lost:
                self._hypervisors[move.vm].expect_to_lose_announcements()
        for name, vm in self._data_centre.vms.items():
            hypervisor, nve = self._hypervisors[name], self._data_centre.nves[vm.spec.nve].edge
            hypervisor.lay_cable(nve)
            # First the NVE, then the VM: its kernel has something to say at once (MLD reports),
            # which would come from a port that the NVE does not know.
            self._overlay.associate(vm.spec, vm.spec.nve, hypervisor.port)
            hypervisor.associate(nve)

    def _hypervisor(self, name: str) -> Hypervisor:
        vm, port = self._data_centre.vms[name], self._next_port
        self._next_port += 1
        return Hypervisor(vm.spec, vm.pid, vm.cgroup, port, self._note, self._overlay.can.hold)

    def add_vm(self, name: str) -> None:
        """Start a VM that was added to the data centre, wired to every NVE."""
        made = self._hypervisor(name)
        for nve in self._data_centre.nves.values():
            made.lay_cable(nve.edge)
        self._overlay.associate(made.vm, made.vm.nve, made.port)
        made.associate(self._data_centre.nves[made.vm.nve].edge)
        self._hypervisors[name] = made

    def remove_vm(self, name: str) -> None:
        """Remove a VM that the overlay has removed."""
        self._hypervisors.pop(name).unplug()

    def goes_on_as(self, vm: str, hypervisor: Hypervisor) -> None:
        """A VM had two instances, and this is the hypervisor of the one that is left."""
        self._hypervisors[vm] = hypervisor

    def is_moving(self, vm: str) -> bool:
        """Return whether a move of the VM is under way, and it has not arrived."""
        return vm in self._under_way

    def move(
        self,
        number: int,
        move: MoveSpec,
        transfer: Transfer | None = None,
        *,
        source_runs: bool = False,
    ) -> "Future[None]":
        """Carry out one move; return when the VM has arrived.

        `transfer` is how its state is brought over; by default `transfer_of` decides.
        `source_runs`: it is a take-over from a server that is not dead.  The future is done when
        nothing is left of the move.  Raises what `Interpreter.bring_over` raises.
        """
        asked = transfer or self.transfer_of(move)
        under_way = self._request(number, move, asked, source_runs=source_runs)
        try:
            self._interpreter.bring_over(under_way)
        finally:
            del self._under_way[move.vm]
        completion: Future[None] = Future()
        cleaner = threading.Thread(target=self._clear_away, args=(under_way, completion))
        cleaner.daemon = True
        with threads_in_line():
            cleaner.start()
        return completion

    def _request(
        self, number: int, move: MoveSpec, transfer: Transfer, *, source_runs: bool
    ) -> MoveUnderWay:
        """Begin a move; if the VM is being moved, only ask the overlay, which refuses."""
        hypervisor = self._hypervisors[move.vm]
        with self._turns[move.vm]:
            source = hypervisor.at
            # Each request before the arrival may take the full patience.
            deadline_s = 3 * self.patience_s + PAUSED_PATIENCE_S + move.takes_s
            told = OverlayMove(
                number,
                hypervisor.vm,
                source,
                move.to,
                hypervisor.port,
                deadline_s,
                transfer.state,
                move.mode,
                source_runs,
            )
            under_way = self._made(move, told, transfer)
            vtep = self._data_centre.fabric.vteps[move.to]
            self._log.note(
                "runner",
                "move-requested",
                move.vm,
                **{"move": number, "from": source, "to": move.to},
                underlay_delay_ms=self._underlay_paths.delay_ms(source, vtep),
                **({} if move.transfer else {"pause_ms": move.pause_ms}),
                announce=move.announce,
                mode=move.mode,
            )
            busy = move.vm in self._under_way
            if not busy:
                self._under_way[move.vm] = told
        if busy:
            try:
                self._overlay.prepare(told, self.patience_s)
            except MoveRefused as refusal:
                under_way.note("move-refused", why=str(refusal))
                raise
            raise RuntimeError(f"the overlay moves {move.vm} twice at a time")
        return under_way

    def _made(self, move: MoveSpec, told: OverlayMove, transfer: Transfer) -> MoveUnderWay:
        nves = self._data_centre.nves
        return MoveUnderWay(
            move,
            told,
            self._hypervisors[move.vm],
            self._overlay,
            {SOURCE: nves[told.source].edge, DESTINATION: nves[told.destination].edge},
            self._log,
            partial(self._leaving, told),
            diskless=move.vm in self._diskless,
            transfer=transfer,
            reached=lambda moment: self.reached(moment, told),
        )

    def _patience_s(self, patience: Patience) -> float:
        return {
            Patience.RUNNING: self.patience_s,
            Patience.PAUSED: PAUSED_PATIENCE_S,
            Patience.AFTERWARDS: COMPLETION_TIMEOUT_S,
        }[patience]

    def _clear_away(self, move: MoveUnderWay, completion: "Future[None]") -> None:
        try:
            self._interpreter.clear_away(move)
            completion.set_result(None)
        except Exception as error:
            completion.set_exception(error)

    @contextmanager
    def _leaving(self, told: OverlayMove) -> Iterator[bool]:
        """Keep moves of the VM from beginning in the block; yield whether its place at the source
        is free.
        """
        vm = told.vm.name
        with self._turns[vm]:
            begun = self._under_way.get(vm)
            needed = [self._hypervisors[vm].at]
            if begun:
                needed += [begun.source, begun.destination]
            yield told.source not in needed

    def close(self) -> None:
        for hypervisor in self._hypervisors.values():
            hypervisor.close()

    def _note(self, t_ns: int, event: str, vm: str, details: dict[str, object]) -> None:
        self._log.append(TraceEvent(t_ns, "hypervisor", event, vm, details))
