"""Makes parts of a lab fail, and restores them.

`experiments.scenario.failures` says what failures there are, and what their outcome has to be.
Each is in the trace: `failure-injected` when it has taken effect, `failure-ended` when the part
works again; `began_ns` is when this was begun.
"""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from experiments.measure.event_log import EventLog
from experiments.overlays import Fault, OverlayMove
from experiments.scenario.failures import (
    OF_ONE_NVE,
    OF_ONE_NVE_OR_ALL,
    Failure,
    FailureKind,
    Moment,
)
from nve.linux import full_disk
from topologies.configuration import CONTROL_SWITCH
from topologies.emulation.data_centre import DataCentre
from topologies.emulation.links import Cable

REPAIR_TIMEOUT_S = 60.0
Acts = tuple[Callable[[], None], Callable[[], None]]
"""The function that makes a part fail, and the one that ends the failure."""


class FaultInjector:
    """Injects the failures of one run.

    `begin` starts the clock of those that have a time; `reached` is told how far moves have come;
    `finish` returns when all failures that end have ended.
    """

    def __init__(
        self,
        data_centre: DataCentre,
        faults: Mapping[str, Fault],
        failures: Sequence[Failure],
        log: EventLog,
    ) -> None:
        """`faults` are the overlay's own kinds of failure."""
        self.problems: list[str] = []
        self._data_centre = data_centre
        self._faults = faults
        self._log = log
        self._happened = False
        self._awaited = dict(enumerate(failures, start=1))
        """The failures that have not happened yet, by number."""
        self._timers: list[threading.Timer] = []
        self._lock = threading.Lock()

    def begin(self, start_ns: int) -> None:
        """Start the clock: the traffic has begun at `start_ns`."""
        since_s = (time.time_ns() - start_ns) / 1e9
        for number, failure in self._awaited.items():
            if failure.at_s is not None:
                self._after(failure.at_s - since_s, self._happen, number, failure, "", "", {})

    def reached(self, moment: Moment, move: OverlayMove) -> None:
        """Inject the failures for this moment of a move; return when they have taken effect."""
        for number, failure in list(self._awaited.items()):
            if failure.during is moment and failure.move == move.number:
                of_move = {"move": move.number, "during": moment.value}
                self._happen(number, failure, move.source, move.destination, of_move)

    def happened(self) -> bool:
        """Return whether anything has failed yet."""
        return self._happened

    def finish(self) -> None:
        """Return when every failure that ends has ended; one that has not happened is a problem."""
        deadline_s = time.monotonic() + REPAIR_TIMEOUT_S
        for timer in self._timers:
            timer.join(max(0.0, deadline_s - time.monotonic()))
            if timer.is_alive():
                self.problems.append("a failure has not ended in time")
        for number, failure in self._awaited.items():
            when = f"{failure.at_s:g} s" if failure.during is None else failure.during
            self.problems.append(f"failure {number}, {failure.kind}, never happened: {when}")

    def stop(self) -> None:
        """Inject and repair nothing more."""
        for timer in self._timers:
            timer.cancel()

    def _after(self, seconds: float, act: Callable[..., None], *arguments: object) -> None:
        timer = threading.Timer(max(0.0, seconds), act, arguments)
        timer.daemon = True
        timer.start()
        self._timers.append(timer)

    def _happen(
        self,
        number: int,
        failure: Failure,
        source: str,
        destination: str,
        of_move: Mapping[str, object],
    ) -> None:
        with self._lock:
            if self._awaited.pop(number, None) is None:
                return
        if failure.kind in OF_ONE_NVE | OF_ONE_NVE_OR_ALL:
            parts = failure.concerned(list(self._data_centre.nves), source, destination)
        else:
            parts = [self._data_centre.control_node.name]
        details = {**of_move, "failure": number, "kind": failure.kind}
        subject = ", ".join(parts)
        acts = [self._acts(failure, number, part) for part in parts]
        self._do_and_note("failure-injected", subject, details, [fail for fail, _ in acts])
        if failure.for_s is not None:
            ends = [end for _, end in acts]
            act = (self._do_and_note, "failure-ended", subject, details, ends)
            self._after(failure.for_s, *act)

    def _do_and_note(
        self,
        event: str,
        subject: str,
        details: Mapping[str, object],
        acts: Sequence[Callable[[], None]],
    ) -> None:
        began_ns = time.time_ns()
        try:
            for act in acts:
                act()
        except Exception as error:
            self.problems.append(f"{event} ({details['kind']}): {error}")
        self._happened = True
        self._log.note("runner", event, subject, began_ns=began_ns, **details)

    def _acts(self, failure: Failure, number: int, part: str) -> Acts:
        if failure.kind in _ACTS:
            return _ACTS[failure.kind](self, failure, number, part)
        fault = self._faults[failure.kind]
        return fault.fail, fault.end

    # -- what each kind does ---------------------------------------------------------------------

    def _nve_dies(self, _failure: Failure, _number: int, nve: str) -> Acts:
        centre = self._data_centre
        return partial(centre.kill_nve, nve), partial(centre.revive_nve, nve)

    def _underlay_loses(self, failure: Failure, number: int, nve: str) -> Acts:
        uplink = self._data_centre.fabric.uplink(nve)
        cable = self._data_centre.cabling.between(nve, uplink.peer)
        return self._lossy(cable, number, failure.loss_pct or 100.0)

    def _control_loses(self, failure: Failure, number: int, nve: str) -> Acts:
        cable = self._data_centre.cabling.between(nve, CONTROL_SWITCH)
        return self._lossy(cable, number, failure.loss_pct or 100.0)

    def _server_fills(self, _failure: Failure, _number: int, nve: str) -> Acts:
        folder = self._data_centre.session.directory / "servers" / nve
        return partial(full_disk.fill, folder), partial(full_disk.make_room, folder)

    def _control_slows_down(self, failure: Failure, _number: int, control_node: str) -> Acts:
        cabling = self._data_centre.cabling
        cable = cabling.between(control_node, CONTROL_SWITCH)
        assert failure.delay_ms is not None
        slow = partial(cabling.slow_down, cable, failure.delay_ms)
        return slow, partial(cabling.slow_down, cable, 0.0)

    def _lossy(self, cable: Cable, number: int, loss_pct: float) -> Acts:
        cabling = self._data_centre.cabling
        impair = partial(cabling.impair, cable, number, loss_pct)
        return impair, partial(cabling.repair, cable, number)


_ACTS: dict[str, Callable[[FaultInjector, Failure, int, str], Acts]] = {
    FailureKind.NVE_DIES: FaultInjector._nve_dies,
    FailureKind.CONTROL_CUT: FaultInjector._control_loses,
    FailureKind.CONTROL_LOSSY: FaultInjector._control_loses,
    FailureKind.CONTROL_SLOW: FaultInjector._control_slows_down,
    FailureKind.UNDERLAY_PARTITION: FaultInjector._underlay_loses,
    FailureKind.UNDERLAY_LOSSY: FaultInjector._underlay_loses,
    FailureKind.SERVER_FULL: FaultInjector._server_fills,
}
