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
suspended (`mark_last`), and awaited at the destination (`await_last`).  In between, agents talk to
each other without the NVA: an agent that receives a marker tells the destination's agent, by UDP on
the underlay (`nve.ovs.last_packets`).
"""

import logging
import socket
import threading
import time
from collections.abc import Callable, Collection
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import replace
from ipaddress import ip_address
from queue import SimpleQueue

from nve.hypervisor.reorder_buffer import ReorderBuffer
from nve.linux.namespace import inside, ip, set_sysctls
from nve.linux.wait import all_readable, readable
from nve.model import TenantSystem
from nve.ovs.bridge import OvsInstance
from nve.ovs.last_packets import LastPackets
from nve.pipeline.rules import AGENT_PORT
from nve.wire import end_marker
from nve.wire.end_marker import COPIES, ETHERTYPE, MarkerKind, NotASignal, Signal

INTERFACE = "agent0"
UDP_PORT = 1021
"""The UDP port on which agents listen: one of those for experiments (RFC 4727 section 6)."""
TELLINGS = 3
"""How often an agent reports a marker, so that datagrams may be lost."""
_LONGEST_FRAME = 2048
_RETRY_S = 0.5
log = logging.getLogger("vmmlab.agent")

ReorderBufferOf = Callable[[TenantSystem, str], ReorderBuffer | None]
"""reorder_buffer_of(VM, NVE) returns the VM's reorder buffer at an NVE, or None if it has none."""


class Agent:
    """The agent of one NVE, which works between `start` and `stop`."""

    def __init__(self, nve: OvsInstance, reorder_buffer_of: ReorderBufferOf) -> None:
        self._nve = nve
        self._reorder_buffer_of = reorder_buffer_of
        self._thread: threading.Thread | None = None
        self._to_mark: SimpleQueue[tuple[Signal, Future[None]]] = SimpleQueue()
        self._following: dict[TenantSystem, threading.Event] = {}
        """By VM that is about to leave: set when its switch follows the redirect."""
        self._last_packets = LastPackets()
        self._heard = threading.Condition()
        """Locks what is known of last packets; notified of news."""

    def start(self) -> None:
        """Make the port and begin to listen."""
        self._nve.add_internal_port(INTERFACE, AGENT_PORT)
        self._open()
        self._peers = self._open_to_peers()
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

    def _open_to_peers(self) -> socket.socket:
        vtep = self._nve.vtep
        with inside(self._nve.pid):
            peers = socket.socket(
                socket.AF_INET if vtep.version == 4 else socket.AF_INET6, socket.SOCK_DGRAM
            )
            peers.bind((str(vtep), UDP_PORT))
            peers.setblocking(False)
        return peers

    def stop(self) -> None:
        """Stop listening; the port goes with the switch."""
        if self._thread:
            self._wake.close()
            self._thread.join()
            self._woken.close()
            self._socket.close()
            self._peers.close()
            self._thread = None

    def following(self, system: TenantSystem) -> threading.Event:
        """Return an event that is set when the switch redirects every packet for the VM.

        Call this before the NVA is told to redirect.
        """
        event = self._following[system] = threading.Event()
        return event

    # -- what a VM has sent last -----------------------------------------------------------------

    def mark_last(self, system: TenantSystem, number: int, destination: str) -> "Future[None]":
        """Send marker `number` behind the last packets of a VM that is suspended here.

        Returns at once.  The future is done when the marker is sent; it fails with OSError or
        RuntimeError if the switch does not run.
        """
        sent: Future[None] = Future()
        marker = Signal(MarkerKind.LAST, number, system, (self._nve.name, destination))
        self._to_mark.put((marker, sent))
        self._wake.send(b"!")
        return sent

    def expect_last(self, system: TenantSystem, number: int) -> None:
        """Expect marker `number` behind what a VM, which is about to come here, has sent before."""
        with self._heard:
            self._last_packets.expect(system, number)

    def await_last(
        self,
        system: TenantSystem,
        nves: Collection[str],
        sent: "Future[None]",
        timeout_s: float,
    ) -> list[str]:
        """Wait until the expected marker has come to these NVEs.

        Waiting also ends if the marker could not be `sent` or the time is over.  Returns the NVEs
        that the marker has not come to.
        """
        sent.add_done_callback(self._news)
        deadline_s = time.monotonic() + timeout_s
        with self._heard:
            while missing := self._last_packets.missing(system, nves):
                left_s = deadline_s - time.monotonic()
                if left_s <= 0 or (sent.done() and sent.exception()):
                    break
                self._heard.wait(left_s)
            self._last_packets.forget(system)
        return missing

    def _news(self, _sent: "Future[None]") -> None:
        with self._heard:
            self._heard.notify_all()

    def _mark(self) -> None:
        marker, sent = self._to_mark.get()
        try:
            self._nve.take_in_what_has_come()
            self._send_marker(marker)
        except (OSError, RuntimeError) as error:
            sent.set_exception(error)
        else:
            sent.set_result(None)

    def _last_came(self, marker: Signal) -> None:
        """Tell the destination, once enough copies of a LAST marker have come here."""
        if len(marker.ingress_nves) != 2 or not self._last_packets.have_come(marker):
            return
        _, destination = marker.ingress_nves
        arrived = replace(marker, kind=MarkerKind.ARRIVED, ingress_nves=(self._nve.name,), copy=0)
        if destination == self._nve.name:
            self._arrived(arrived)
        elif vtep := self._nve.peers.get(destination):
            with suppress(OSError):  # not reachable; the destination has a time-out
                for _ in range(TELLINGS):
                    self._peers.sendto(end_marker.frame(arrived), (str(vtep), UDP_PORT))

    def _arrived(self, signal: Signal) -> None:
        with self._heard:
            self._last_packets.arrived(signal)
            self._heard.notify_all()

    def _hear_peer(self) -> None:
        with suppress(BlockingIOError, NotASignal):
            octets, (address, *_) = self._peers.recvfrom(_LONGEST_FRAME)
            said = end_marker.read(octets)
            # An agent speaks for its own NVE alone.
            speaker = {self._nve.peers.get(nve) for nve in said.ingress_nves}
            if said.kind is MarkerKind.ARRIVED and speaker == {ip_address(address)}:
                self._arrived(said)

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
            ready = all_readable([self._socket, self._peers, self._woken])
            if self._woken in ready:
                if not self._woken.recv(1):
                    return
                self._mark()
            if self._peers in ready:
                self._hear_peer()
            if self._socket in ready:
                self._take(self._socket.recv(_LONGEST_FRAME))

    def _take(self, frame: bytes) -> None:
        try:
            self._carry_out(end_marker.read(frame))
        except (RuntimeError, NotASignal) as error:
            # Whoever waits for something that was not done has a time-out.
            log.warning("%s: an order was not carried out: %s", self._nve.name, error)

    def _opened_again(self) -> bool:
        """Wait for the port to come back; return False if stopped meanwhile."""
        while True:
            if readable(self._woken, _RETRY_S):
                if not self._woken.recv(1):
                    return False
                _, sent = self._to_mark.get()
                sent.set_exception(RuntimeError(f"{self._nve.name}: its switch does not run"))
            with suppress(OSError, RuntimeError):
                self._open()
                return True

    def _carry_out(self, order: Signal) -> None:
        match order.kind:
            case MarkerKind.SEND_MARKER:
                self._nve.follow_rules_now()
                marker = replace(order, kind=MarkerKind.MARKER, ingress_nves=(self._nve.name,))
                self._send_marker(marker)
            case MarkerKind.EXPECT_MARKERS:
                self._expect(order)
            case MarkerKind.LAST:
                self._last_came(order)
            case MarkerKind.FOLLOW:
                self._nve.follow_rules_now(thoroughly=True)
                if event := self._following.get(order.system):
                    event.set()

    def _send_marker(self, marker: Signal) -> None:
        for copy in range(COPIES):
            self._say(replace(marker, copy=copy))

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
