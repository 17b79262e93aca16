"""The agent of an NVE: what an end marker takes that a switch cannot do by itself.

It has a port of its own on the switch, `AGENT_PORT`.  Orders of the NVA come out of that port, what
the agent says goes in there (`nve.wire.end_marker`):

    SEND_MARKER      waits until the switch treats every packet by the rules it holds, and only then
                     sends the marker; a barrier alone does not say that (`OvsInstance`)
    EXPECT_MARKERS   has the VM's reorder buffer hold; says EXPECTING, and RELEASED when it does so
                     no longer

The NVA may repeat an order; doing it again does no harm.  What a VM has sent last is marked at the
word of its hypervisor, which knows when the VM stands still (`mark_last`).
"""

import logging
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from nve.hypervisor.reorder_buffer import ReorderBuffer
from nve.linux.namespace import inside, ip, set_sysctls
from nve.linux.wait import all_readable, readable
from nve.model import TenantSystem
from nve.ovs.bridge import OvsInstance
from nve.pipeline.rules import AGENT_PORT
from nve.wire import end_marker
from nve.wire.end_marker import COPIES, ETHERTYPE, MarkerKind, NotASignal, Signal

INTERFACE = "agent0"
_LONGEST_FRAME = 2048
_RETRY_S = 0.5
log = logging.getLogger("vmmlab.agent")

ReorderBufferOf = Callable[[TenantSystem, str], ReorderBuffer | None]
"""reorder_buffer_of(VM, NVE): the VM's reorder buffer at an NVE; None where it has none."""


class Agent:
    """The agent of one NVE, between `start` and `stop`."""

    def __init__(self, nve: OvsInstance, reorder_buffer_of: ReorderBufferOf) -> None:
        self._nve = nve
        self._reorder_buffer_of = reorder_buffer_of
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Makes the port and begins to listen."""
        self._nve.add_internal_port(INTERFACE, AGENT_PORT)
        self._open()
        self._wake, self._woken = socket.socketpair()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _open(self) -> None:
        # The kernel would say things of its own there.
        set_sysctls(self._nve.pid, {f"ipv6/conf/{INTERFACE}/disable_ipv6": 1})
        ip(self._nve.pid, [f"link set {INTERFACE} up"])
        with inside(self._nve.pid):
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
            self._socket.bind((INTERFACE, ETHERTYPE))

    def stop(self) -> None:
        """Ends it; the port goes with the switch."""
        if self._thread:
            self._wake.close()
            self._thread.join()
            self._woken.close()
            self._socket.close()
            self._thread = None

    def mark_last(self, system: TenantSystem, number: int) -> None:
        """Send a marker of that number behind what a VM has sent here, which stands still.

        Raises OSError or RuntimeError where the switch does not run.
        """
        self._nve.take_in_what_has_come()
        self._send_marker(Signal(MarkerKind.LAST, number, system))

    def _serve(self) -> None:
        """Until it is stopped; a switch that dies takes the port along, and brings it again."""
        while True:
            try:
                self._listen()
                return
            except OSError as error:
                log.warning("%s: the agent's port is gone: %s", self._nve.name, error)
                self._socket.close()
            if not self._opened_again():
                return

    def _listen(self) -> None:
        """Returns when it is stopped.  Raises OSError when the port is gone."""
        while True:
            if self._woken in all_readable([self._socket, self._woken]):
                return
            frame = self._socket.recv(_LONGEST_FRAME)
            try:
                self._carry_out(end_marker.read(frame))
            except (RuntimeError, NotASignal) as error:
                # Those who wait for what was not done have a time-out.
                log.warning("%s: an order was not carried out: %s", self._nve.name, error)

    def _opened_again(self) -> bool:
        """Waits for the port to come back; False when it is stopped meanwhile."""
        while True:
            if readable(self._woken, _RETRY_S):
                return False
            with suppress(OSError, RuntimeError):
                self._open()
                return True

    def _carry_out(self, order: Signal) -> None:
        match order.kind:
            case MarkerKind.SEND_MARKER:
                self._nve.follow_rules_now()
                self._send_marker(replace(order, kind=MarkerKind.MARKER))
            case MarkerKind.EXPECT_MARKERS:
                self._expect(order)

    def _send_marker(self, marker: Signal) -> None:
        for copy in range(COPIES):
            self._say(replace(marker, ingress_nves=(self._nve.name,), copy=copy))

    def _expect(self, order: Signal) -> None:
        def released(missing: tuple[str, ...]) -> None:
            try:
                self._say(replace(order, kind=MarkerKind.RELEASED, ingress_nves=missing))
            except OSError as error:  # the switch has died: when it is back, the NVA asks again
                log.warning("%s: nobody hears that %s are over: %s", self._nve.name, order, error)

        reorder_buffer = self._reorder_buffer_of(order.system, self._nve.name)
        if reorder_buffer and reorder_buffer.expect(order.handover, order.ingress_nves, released):
            self._say(replace(order, kind=MarkerKind.EXPECTING, ingress_nves=()))
        else:  # the VM has left, or is just leaving
            released(order.ingress_nves)

    def _say(self, signal: Signal) -> None:
        self._socket.send(end_marker.frame(signal))
