"""The agent of an NVE: does for end markers what a switch cannot do by itself.

It has a port of its own on the switch, `AGENT_PORT`.  The NVA's orders come out of that port, and
the agent's messages go in there (`nve.wire.end_marker`):

    SEND_MARKER      waits until the switch treats every packet by the rules it holds, and only then
                     sends the marker; a barrier alone does not say that (`OvsInstance`)
    FOLLOW           makes the switch treat packets by the rules that redirect a VM's packets
    EXPECT_MARKERS   has the VM's reorder buffer hold; says EXPECTING, and RELEASED when it does so
                     no longer

The NVA may repeat an order; carrying it out again does no harm.

The last packets from a VM are marked when its hypervisor asks for it, which knows when the VM is
suspended (`mark_last`), and awaited at the destination (`await_last`).  In between there are only
switches, which send the marker on to the destination (`nve.ovs.last_packets`).
"""

import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace

from nve.hypervisor.reorder_buffer import ReorderBuffer
from nve.linux.namespace import inside, ip, set_sysctls
from nve.linux.wait import all_readable, readable, waiting_in
from nve.model import Mac, TenantSystem
from nve.ovs.bridge import OvsInstance
from nve.ovs.buffers import Inlet
from nve.ovs.last_packets import LastPackets
from nve.pipeline.rules import AGENT_PORT
from nve.wire import end_marker
from nve.wire.end_marker import (
    COPIES,
    ETHERTYPE,
    MarkerKind,
    NotASignal,
    Signal,
    last_address,
    passed_address,
)
from nve.wire.frames import destination_mac

INTERFACE = "agent0"
TAKEN_IN_S = 0.02
"""How long a switch may take to take in what has come to it, in seconds; one that takes longer has
died, or is about to."""
_RETRY_S = 0.5
log = logging.getLogger("vmmlab.agent")

ReorderBufferOf = Callable[[TenantSystem, str], ReorderBuffer | None]
"""reorder_buffer_of(VM, NVE) returns the VM's reorder buffer at an NVE, or None if it has none."""


class Following:
    """Readable once the switch of a VM's source NVE redirects every packet for it."""

    def __init__(self) -> None:
        self._event = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.network_nves: tuple[str, ...] = ()
        """The other NVEs that the VM may have sent packets to, once it is readable."""

    def begins(self, network_nves: tuple[str, ...]) -> None:
        """Make it readable."""
        self.network_nves = network_nves
        os.eventfd_write(self._event, 1)

    def fileno(self) -> int:
        return self._event

    def close(self) -> None:
        os.close(self._event)


class Agent:
    """The agent of one NVE, which works between `start` and `stop`."""

    def __init__(self, nve: OvsInstance, reorder_buffer_of: ReorderBufferOf) -> None:
        self._nve = nve
        self._reorder_buffer_of = reorder_buffer_of
        self._thread: threading.Thread | None = None
        self._following: dict[TenantSystem, Following] = {}
        """By VM that is about to leave."""
        self._last_packets = LastPackets()
        self._passed = {
            last_address(nve.vtep): nve.name,
            **{passed_address(vtep): peer for peer, vtep in nve.peers.items()},
        }
        """By the address of a marker that has come here: the NVE that it has passed."""
        self._heard = threading.Condition()
        """Locks what is known of last packets; notified of news."""

    def start(self) -> None:
        """Make the port and begin to listen."""
        self._nve.add_internal_port(INTERFACE, AGENT_PORT)
        self._open()
        self._wake, self._woken = socket.socketpair()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _open(self) -> None:
        # The kernel would send packets of its own there.
        set_sysctls(self._nve.pid, {f"ipv6/conf/{INTERFACE}/disable_ipv6": 1})
        ip(self._nve.pid, [f"link set {INTERFACE} up"])
        with inside(self._nve.pid):
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
            self._socket.bind((INTERFACE, ETHERTYPE))

    def stop(self) -> None:
        """Stop listening; the port goes with the switch."""
        if self._thread:
            self._wake.close()
            self._thread.join()
            self._woken.close()
            self._socket.close()
            self._thread = None

    @contextmanager
    def following(self, system: TenantSystem) -> "Iterator[Following]":
        """Yield what becomes readable when the switch redirects every packet for the VM.

        Enter this before the NVA is told to redirect.
        """
        following = self._following[system] = Following()
        try:
            yield following
        finally:
            del self._following[system]
            following.close()

    # -- what a VM has sent last -----------------------------------------------------------------

    def mark_last(
        self, system: TenantSystem, number: int, destination: str, inlet: Inlet | None
    ) -> None:
        """Send marker `number` behind the last packets of a VM that is suspended here.

        They have come in by that inlet.  The caller's thread does this: to wake another takes
        longer.  Raises OSError if the switch does not run.
        """
        if inlet:
            inlet.await_taken_in(TAKEN_IN_S)
        marker = Signal(MarkerKind.LAST, number, system, (self._nve.name, destination))
        self._send_marker(marker, last_address(self._nve.peers[destination]))

    def expect_last(self, system: TenantSystem, number: int) -> None:
        """Expect marker `number` behind what a VM, which is about to come here, has sent before."""
        with self._heard:
            self._last_packets.expect(system, number)

    def await_last(
        self, system: TenantSystem, nves: Collection[str], timeout_s: float
    ) -> list[str]:
        """Wait until the expected marker has come to these NVEs, or the time is over.

        Returns the NVEs that the marker has not come to.
        """
        deadline_s = time.monotonic() + timeout_s
        with self._heard:
            while missing := self._last_packets.missing(system, nves):
                left_s = deadline_s - time.monotonic()
                if left_s <= 0:
                    break
                self._heard.wait(left_s)
            self._last_packets.forget(system)
        return missing

    def _last_came(self, marker: Signal, address: Mac) -> None:
        nve = self._passed.get(address)
        with self._heard:
            if nve and self._last_packets.came(marker, nve):
                self._heard.notify_all()

    # -- at its port -----------------------------------------------------------------------------

    def _serve(self) -> None:
        """Serve until stopped; if the switch dies, its port goes and comes back with it."""
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
        """Listen until stopped.  Raises OSError when the port is gone."""
        while True:
            ready = all_readable([self._socket, self._woken])
            if self._woken in ready:
                return
            if self._socket in ready:
                for frame in waiting_in(self._socket):
                    self._take(frame)

    def _take(self, frame: bytes) -> None:
        try:
            self._carry_out(end_marker.read(frame), destination_mac(frame))
        except (RuntimeError, NotASignal) as error:
            # Whoever waits for something that was not done has a time-out.
            log.warning("%s: an order was not carried out: %s", self._nve.name, error)

    def _opened_again(self) -> bool:
        """Wait for the port to come back; return False if stopped meanwhile."""
        while True:
            if readable(self._woken, _RETRY_S):
                return False
            with suppress(OSError, RuntimeError):
                self._open()
                return True

    def _carry_out(self, order: Signal, address: Mac) -> None:
        match order.kind:
            case MarkerKind.SEND_MARKER:
                self._nve.follow_rules_now()
                marker = replace(order, kind=MarkerKind.MARKER, ingress_nves=(self._nve.name,))
                self._send_marker(marker)
            case MarkerKind.EXPECT_MARKERS:
                self._expect(order)
            case MarkerKind.LAST:
                self._last_came(order, address)
            case MarkerKind.FOLLOW:
                self._nve.follow_rules_now(thoroughly=True)
                if following := self._following.get(order.system):
                    following.begins(order.ingress_nves)

    def _send_marker(self, marker: Signal, to: Mac | None = None) -> None:
        for copy in range(COPIES):
            self._say(replace(marker, copy=copy), to)

    def _expect(self, order: Signal) -> None:
        def released(missing: tuple[str, ...]) -> None:
            try:
                self._say(replace(order, kind=MarkerKind.RELEASED, ingress_nves=missing))
            except OSError as error:  # the switch has died: when it is back, the NVA asks again
                log.warning("%s: nobody hears that %s are over: %s", self._nve.name, order, error)

        def dealt_with() -> None:
            # If that cannot be found out, the markers have come all the same.
            with suppress(OSError, RuntimeError):
                self._nve.await_underlay(TAKEN_IN_S)

        reorder_buffer = self._reorder_buffer_of(order.system, self._nve.name)
        if reorder_buffer and reorder_buffer.expect(
            order.handover, order.ingress_nves, released, dealt_with
        ):
            self._say(replace(order, kind=MarkerKind.EXPECTING, ingress_nves=()))
        else:  # the VM has left, or is just leaving
            released(order.ingress_nves)

    def _say(self, signal: Signal, to: Mac | None = None) -> None:
        self._socket.send(end_marker.frame(signal, to))
