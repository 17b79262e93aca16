"""All standbys of a run, of every kind: started, watched, beside moves, and closed."""

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from functools import partial
from typing import Any

from experiments.measure.event_log import EventLog
from experiments.measure.standby_costs import StandbyCost, mirrored
from experiments.overlays import Overlay
from experiments.run.guests import Guests
from experiments.run.hot_standby import HotStandby
from experiments.run.move_under_way import Transfer
from experiments.run.orchestrator import COMPLETION_TIMEOUT_S, Orchestrator
from experiments.run.standby import Standby
from experiments.run.standby_moves import Beside, TakeOver
from experiments.run.state_transfer import StateTransfer
from experiments.scenario.moves import MoveSpec
from experiments.scenario.standbys import StandbySpec
from nve.wire.announcement import NOTHING
from topologies.emulation.data_centre import DataCentre


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
        """The rows of mirrors.csv."""
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
        self._data_centre = data_centre
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
        if self._data_centre.vms[standby.vm].spec.routed:
            asked |= {"announce": NOTHING}  # a network of layer 3 does not carry it
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

    def finish(self, *, excused: bool) -> list[str]:
        """Stop making mirrors; return sentences about problems.

        Returns when take-overs that have begun are over.  A mirror that failed may be `excused`,
        because a failure was injected.
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
        if not excused:
            self._problems += [said for each in self.of.values() for said in each.failed_mirrors]
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
