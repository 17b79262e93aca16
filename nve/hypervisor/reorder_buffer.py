"""The paths into a VM at the destination of a move, and which of them is held until when.

    frames in flight, by way of the source NVE --> lane ----> gate --+
                                                                     +--> eth0
    frames on new paths, and all later ones -----> plug ----> gate --+

Without end markers there is the plug alone.  Its gate is opened when the VM runs.

With them (`nve.wire.end_marker`), what comes from the source NVE comes by a lane of its own.  The
lane's gate is opened when the VM runs, the plug's when the markers of all ingress NVEs have come
out of the lane, and the NVE has dealt with what came with them: a switch that takes in several
packets at once may forward a marker before the packets it follows.  A time-out ends the waiting in
any case, so that markers that do not come cost order, not packets.  It begins when the VM runs, as
the control plane, which says whose markers to expect, may be out of reach then.

A thread waits for the markers.  A marker may come before it is known whose are expected.
"""

import socket
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

from nve.hypervisor.gate import Gate
from nve.hypervisor.plug import NIC
from nve.linux.namespace import inside
from nve.linux.socket_filter import take_only
from nve.linux.wait import all_readable, waiting_in
from nve.model import Bounds
from nve.wire.end_marker import ETHERTYPE, KIND_AT, NEEDED, MarkerKind, NotASignal, read

Released = Callable[[tuple[str, ...]], None]
"""released(missing) is called once, with the ingress NVEs whose marker has not come in time."""
_NO_KIND = 0
"""No signal is of this kind (`nve.wire.end_marker.MarkerKind`)."""


@dataclass(frozen=True)
class _Expectation:
    deadline_s: float
    handover: int = 0
    ingress_nves: frozenset[str] | None = None
    """The ingress NVEs whose markers are expected; None before that is known."""
    released: Released | None = None
    dealt_with: Callable[[], None] | None = None


class ReorderBuffer:
    """The gate of a plug and, with end markers, that of a lane, for one visit of the VM."""

    def __init__(
        self,
        vm_pid: int,
        bounds: Bounds,
        not_asked: Callable[[], None],
        plug_gate: Gate,
        lane_gate: Gate | None = None,
    ) -> None:
        """Closes both gates.

        `not_asked` is called when the time is over and nobody has said whose markers to expect.
        """
        self._not_asked = not_asked
        self._plug_gate = plug_gate
        self._lane_gate = lane_gate
        self._dropped_before = sum(gate.dropped() for gate in self._gates)
        for gate in self._gates:
            gate.close()
        self._seen: defaultdict[tuple[int, str], set[int]] = defaultdict(set)
        """The copies that have come, by handover and ingress NVE."""
        self._markers_s = bounds.markers_s
        self._expectation: _Expectation | None = None
        self._lock = threading.Lock()
        self._delivered = threading.Event()
        """Nothing is held any more."""
        self._thread: threading.Thread | None = None
        if lane_gate:
            with inside(vm_pid):
                self._markers = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
                take_only(self._markers, KIND_AT, MarkerKind.MARKER)
                self._markers.bind((NIC, ETHERTYPE))
            self._wake, self._woken = socket.socketpair()
            self._thread = threading.Thread(target=self._watch, daemon=True)
            self._thread.start()

    def open(self) -> None:
        """Deliver what was held: the VM runs."""
        self._first_gate.open()
        if self._thread:
            with self._lock:
                self._expectation = self._expectation or _Expectation(self._deadline_s())
            self._wake.send(b"!")
        else:
            self._delivered.set()

    def await_delivery(self) -> None:
        """Return when nothing is held any more, which takes no longer than markers may."""
        self._delivered.wait()

    def expect(
        self,
        handover: int,
        ingress_nves: tuple[str, ...],
        released: Released,
        dealt_with: Callable[[], None],
    ) -> bool:
        """Hold what comes on new paths until the markers of all these ingress NVEs have come.

        `dealt_with` then returns when the NVE has dealt with everything that had come to it when
        it was called; it must not take long.  An expectation replaces the one before it, whose
        markers are expected no longer.  Returns False if nothing can be held any more.
        """
        try:
            with self._lock:
                self._plug_gate.close()
                self._delivered.clear()
                self._expectation = _Expectation(
                    self._deadline_s(), handover, frozenset(ingress_nves), released, dealt_with
                )
            self._wake.send(b"!")
        except OSError:
            return False
        return True

    def ignore_markers(self) -> None:
        """Do not wake up for markers any more: the VM has left, and they are for its new place."""
        if self._thread:
            take_only(self._markers, KIND_AT, _NO_KIND)

    def give_up(self) -> None:
        """Drop what is held, and what still arrives until the VM runs."""
        self._first_gate.give_up()

    def dropped(self) -> int:
        """Return how many packets found no room, or were given up."""
        return sum(gate.dropped() for gate in self._gates) - self._dropped_before

    def end(self) -> None:
        """Stop waiting, drop what is still held, and leave the gates open."""
        self.close()
        for gate in self._gates:
            if not gate.is_open:
                gate.give_up()
                gate.open()

    def close(self) -> None:
        """Stop waiting for markers."""
        self._delivered.set()
        if self._thread:
            self._wake.close()
            self._thread.join()
            self._woken.close()
            self._markers.close()
            self._thread = None

    @property
    def _first_gate(self) -> Gate:
        """The gate that packets reach before the VM runs."""
        return self._lane_gate or self._plug_gate

    @property
    def _gates(self) -> list[Gate]:
        return [gate for gate in (self._plug_gate, self._lane_gate) if gate]

    def _watch(self) -> None:
        """Note markers, and release what is held when all are there or the time is over."""
        while True:
            ready = all_readable([self._markers, self._woken], self._left_s())
            if self._woken in ready and not self._woken.recv(1):
                return
            if self._markers in ready:
                for frame in waiting_in(self._markers):
                    self._count(frame)
            self._release()

    def _deadline_s(self) -> float:
        assert self._markers_s is not None, "without end markers nothing waits for them"
        return time.monotonic() + self._markers_s

    def _left_s(self) -> float | None:
        with self._lock:
            waiting = self._expectation
        return max(0.0, waiting.deadline_s - time.monotonic()) if waiting else None

    def _count(self, frame: bytes) -> None:
        try:
            signal = read(frame)
        except NotASignal:
            return  # cannot come from an agent; the NVE counts what its ports may not send
        if signal.kind is MarkerKind.MARKER:
            for ingress_nve in signal.ingress_nves:
                self._seen[signal.handover, ingress_nve].add(signal.copy)

    def _release(self) -> None:
        with self._lock:
            waiting = self._expectation
            if waiting is None:
                return
            missing = {
                ingress_nve
                for ingress_nve in waiting.ingress_nves or ()
                if len(self._seen[waiting.handover, ingress_nve]) < NEEDED
            }
            settled = waiting.ingress_nves is not None and not missing
            if not settled and time.monotonic() < waiting.deadline_s:
                return
        if settled and waiting.dealt_with:
            waiting.dealt_with()
        with self._lock:
            if self._expectation is not waiting:
                return  # another has replaced it, and has woken this thread
            self._plug_gate.open()
            self._expectation = None
            self._delivered.set()
        if waiting.released:
            waiting.released(tuple(sorted(missing)))
        else:
            self._not_asked()
