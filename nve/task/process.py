"""A task on a host: runs its program, and moves it when it is told to.

    python -m nve.task.process SPEC [--incoming ADDRESS TOKEN]

SPEC is JSON: `task`, `program`, `addresses`, `arguments`, `interface`; `instead_of`, where the task
comes from a host in which it has other addresses; `multipath` (`nve.task.program.Place`).  Orders
come as lines of JSON, and each is answered with one; `failed` in an answer says why it was not
carried out.

    at the source           what is done
    connect                 a connection to the process at the destination; frames are watched
    stop                    the program stops; its address is suspended here
    package                 its state and its connections, which stay in repair mode
    send                    the checkpoint goes over; the destination says whether it can restore it
    leave                   the connections are closed in silence; what still comes is kept track of
    over                    the task runs at the destination
    end-record              the record ends, and the process with it
    go-on                   instead of `leave`: everything as before

    at the destination      what is done
    configure               the task's addresses are this host's; nobody is told
    instantiate             waits for the checkpoint, and restores it; nothing runs yet
    restart                 the addresses are announced, the connections go on, the program works
    report                  how each connection is that has come with the task

    anywhere
    take                    an address is this host's from now on, and announced
    give-up                 an address is this host's no more
    connections             those that there are
    quit                    the task ends

With `--incoming` the process is at the destination, and waits at ADDRESS for somebody who knows
TOKEN.  After `restart` it is the source of the next move.
"""

import argparse
import select
import socket
import sys
import threading
import time
from contextlib import suppress
from dataclasses import replace
from hmac import compare_digest
from ipaddress import ip_address
from typing import Final

from nve.task import program as programs
from nve.task import repair, sockets
from nve.task.addresses import HostAddresses, Suspended
from nve.task.arrivals import ArrivedConnections
from nve.task.checkpoint import (
    Checkpoint,
    CheckpointError,
    Listener,
    MovedSocket,
    TcpConnection,
)
from nve.task.initial_window import InitialWindows, carried
from nve.task.link import Kind, LinkError, TaskLink
from nve.task.old_stack import Delivery, LateSegments
from nve.task.orders import Orders, TaskSpec, Told, say
from nve.task.program import FromOutside, NoSuchProgram, Socket
from nve.task.repair import NotMovable, TcpInfo
from nve.task.tcp_states import FIN_RECEIVED, FIN_SENT

PATIENCE_S: Final = 3.0
"""How long to wait for the other host, in seconds."""

FAILURES = (OSError, LinkError, NotMovable, NoSuchProgram, CheckpointError, RuntimeError)


class TaskProcess:
    """The task at this host."""

    def __init__(self, spec: TaskSpec, orders: Orders) -> None:
        self._spec = spec
        self._orders = orders
        self._program = programs.find(spec.program)()
        self._host = HostAddresses(spec.interface)
        self._delivery = Delivery()
        self._windows = InitialWindows()
        self._sockets: list[Socket | None] = []
        self._moved: tuple[MovedSocket, ...] = ()
        """While it moves: its sockets, and what they hold."""
        self._state = b""
        self._packaged: list[bytes] = []
        self._link: TaskLink | None = None
        """To the other process of the move that goes on, or of the last one."""
        self._late: LateSegments | None = None
        self._running = False
        self._ends = False
        self._onward = False
        """Whether frames that come late are forwarded now."""
        self._afterwards = False
        self._resets_before = sockets.resets_sent()
        self._suspended = Suspended.DROP
        """What who sends meanwhile is told, if what it sends is dropped."""
        self._late_policy = ""
        self._arrived = ArrivedConnections()
        self._gone = threading.Event()
        """Set when the addresses are here no more."""

    # -- life ----------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the task at its first host."""
        for address in self._spec.place.addresses:
            self._host.let_in(address)
            self._host.add(address)
            self._host.announce(address)
        self._gone = self._host.keep_announcing(self._spec.place.addresses)
        self._program.start(self._spec.place)
        self._running = True
        say(started=True)

    def await_link(self, listening: Socket, token: str) -> None:
        """Return when the process at the source has connected."""
        say(port=listening.getsockname()[1])
        waiting = select.poll()
        for each in (listening, self._orders):
            waiting.register(each, select.POLLIN)
        while self._link is None:
            for number, _ in waiting.poll():
                if number == listening.fileno():
                    self._link = self._known(TaskLink(listening.accept()[0], PATIENCE_S), token)
                elif (order := self._orders.next(0)) is not None:
                    raise SystemExit(f"{order['order']} before anybody has connected")
        listening.close()

    def _known(self, link: TaskLink, token: str) -> TaskLink | None:
        """Return the link if it is the source's, or None."""
        with suppress(LinkError):
            told = link.heard(Kind.HELLO)
            if compare_digest(str(told.get("token")), token):
                for peer in told["peers"]:
                    self._host.resolve(ip_address(peer))
                link.tell(Kind.ANSWER)
                return link
        link.close()
        return None

    def run(self) -> None:
        """Run the task until it has left, or nobody gives orders any more."""
        while not self._ends:
            if self._running:
                self._program.work()
            while (order := self._next_order()) is not None:
                self._carry_out(order)

    def _next_order(self) -> Told | None:
        if self._ends:
            return None
        if not self._running and not self._afterwards:
            return self._orders.next(None)
        if self._afterwards:
            self._await_late()
        return self._orders.next(0)

    def _carry_out(self, order: Told) -> None:
        name = str(order.pop("order")).replace("-", "_")
        if name == "connect":
            # The other host may be far, or not there: the program works on meanwhile.
            args = (name, {**order, "peers": self._peers()})
            threading.Thread(target=self._answer, args=args, daemon=True).start()
        else:
            self._answer(name, order)

    def _answer(self, name: str, order: Told) -> None:
        began_ns = time.time_ns()
        try:
            done = getattr(self, f"do_{name}")(**order)
        except FAILURES as error:
            say(failed=str(error) or type(error).__name__)
            return
        ended_ns = time.time_ns()
        say(done=name, t_ns=ended_ns, ms=round((ended_ns - began_ns) / 1e6, 3), **done)

    # -- at the source -------------------------------------------------------------------------

    def _peers(self) -> list[str]:
        """Return whom the program talks to now."""
        _, open_now = self._program.checkpoint()
        peers = set()
        for each in open_now:
            with suppress(OSError):
                peers.add(each.getpeername()[0])
        return sorted(peers)[:1000]

    def do_connect(self, to: str, port: int, token: str, peers: list[str]) -> Told:
        self._resets_before = sockets.resets_sent()
        self._close_link()
        self._link = TaskLink(socket.create_connection((to, port), PATIENCE_S), PATIENCE_S)
        self._link.tell(Kind.HELLO, token=token, peers=peers)
        self._link.heard(Kind.ANSWER)
        self._late = LateSegments(self._spec.interface, self._spec.place.addresses)
        return {"peers": len(peers)}

    def do_stop(self, connections: str, suspended: str) -> Told:
        """Stop the program, which does not run from the first line on."""
        self._running = False
        stopped_ns = time.time_ns()
        if isinstance(self._program, FromOutside):
            self._program.pause()
            stopped_ns = time.time_ns()
        assert self._late
        self._late.forget()
        self._state, taken = self._program.checkpoint()
        self._sockets = list(taken)
        if connections == "close":
            sockets.refuse_more(self._sockets)
            closed = sockets.close_connections(self._sockets)
        else:
            # A client at this host has the task's address for its own, which leaves it.
            closed = sockets.close_connections(self._sockets, self._spec.place.addresses)
        for each in filter(None, self._sockets):
            repair.block(each)
        sockets.accept_rest(self._sockets)
        self._gone.set()
        self._suspended = Suspended(suspended)
        for address in self._spec.place.addresses:
            self._host.remove(address)
        return {"stopped_ns": stopped_ns, "closed": closed}

    def do_package(self) -> Told:
        """Package all sockets, in order, and the program's state."""
        rows, self._moved = sockets.package(self._sockets)
        spec = self._spec
        found = Checkpoint(spec.task, spec.program, self._moved, self._state)
        self._packaged = found.parts()
        return {"octets": sum(map(len, self._packaged)), "connections": rows}

    def do_send(self) -> Told:
        assert self._link
        self._link.send(Kind.CHECKPOINT, *self._packaged)
        return self._link.heard(Kind.ANSWER)

    def do_leave(self, meanwhile: str, late: str) -> Told:
        """Leave the task to the destination: from here on it is not this host's."""
        assert self._late
        self._late.know(self._moved)
        for each in filter(None, self._sockets):
            repair.leave(each)
        self._sockets, self._packaged, self._moved = [], [], ()
        self._onward = meanwhile == "hold"
        self._late_policy = late
        self._afterwards = True
        return {}

    def do_over(self) -> Told:
        """Handle what has come while the task was suspended."""
        self._keep_record()
        self._onward = self._late_policy == "forward"
        return {}

    def do_end_record(self) -> Told:
        assert self._late
        self._keep_record()
        self._ends = True
        self._late.close()
        self._close_link()
        counts = self._late.counts
        return {
            "forwarded": counts["forwarded"],
            "dropped": counts["dropped"],
            "resets": counts["resets"] + sockets.resets_sent() - self._resets_before,
        }

    def do_go_on(self) -> Told:
        """Give the move up: the task continues here, with its connections."""
        for address in self._spec.place.addresses:
            with suppress(FileExistsError):
                self._host.add(address)
            self._host.announce(address)
        if self._sockets:
            in_repair = bool(self._moved)
            for place, each in enumerate(self._sockets):
                moved = self._moved[place] if in_repair else None
                if each is not None and isinstance(moved, TcpConnection):
                    repair.go_on(each)
                elif each is not None:
                    repair.unblock(each)
            self._program.restore(self._state, self._sockets)
        self._take_over()
        self._sockets, self._packaged, self._moved = [], [], ()
        if self._late:
            self._late.close()
            self._late = None
        self._close_link()
        self._running = True
        return {}

    def _await_late(self) -> None:
        """Wait until something comes late, or an order does."""
        assert self._late
        waiting = select.poll()
        for number in (*self._late.filenos(), self._orders.fileno()):
            waiting.register(number, select.POLLIN)
        waiting.poll()
        self._keep_record()

    def _keep_record(self) -> None:
        assert self._late
        if not self._onward:
            self._late.drop(self._suspended)
            return
        for frame in self._late.to_forward():
            self._forward(frame)

    def _forward(self, frame: bytes) -> None:
        assert self._link
        with suppress(LinkError):  # as good as lost
            self._link.send(Kind.FRAME, frame)

    # -- at the destination --------------------------------------------------------------------

    def do_configure(self) -> Told:
        """Give this host the task's addresses, before anything else (R4.2.1.1).

        Nothing gets through to them before the task's sockets are there.
        """
        for address in self._spec.place.addresses:
            self._host.keep_out(address)
            self._host.add(address)
        return {}

    def do_instantiate(self) -> Told:
        assert self._link
        try:
            _, octets = self._link.receive(Kind.CHECKPOINT)
            began_ns = time.time_ns()
            self._instantiate(Checkpoint.of(octets))
        except FAILURES as error:
            with suppress(LinkError):
                self._link.tell(Kind.ANSWER, refused=str(error) or type(error).__name__)
            raise
        restore_ms = round((time.time_ns() - began_ns) / 1e6, 3)
        self._link.tell(Kind.ANSWER, restore_ms=restore_ms)
        return {"restore_ms": restore_ms}

    def _instantiate(self, found: Checkpoint) -> None:
        if found.program != self._spec.program or found.task != self._spec.task:
            raise CheckpointError(
                f"this is {found.task}, a task of {found.program}, and not {self._spec.task}"
            )
        windows = carried(
            [
                each.congestion_window if isinstance(each, TcpConnection) else 0
                for each in found.sockets
            ]
        )
        for each, segments in zip(found.sockets, windows, strict=True):
            try:
                made_again = sockets.restored(self._at_home(each), self._windows, segments)
                self._sockets.append(made_again)
            except OSError as error:
                raise NotMovable(f"{each} cannot be restored here: {error.strerror}") from error
        for made in filter(None, self._sockets):
            made.setblocking(False)
        self._moved = found.sockets
        self._program.restore(found.state, list(self._sockets))

    def _at_home(self, each: MovedSocket) -> MovedSocket:
        """Return a socket's state with a listening socket's address replaced by the task's address
        here.
        """
        if isinstance(each, Listener) and each.local.address in self._spec.instead_of:
            own = self._spec.instead_of[each.local.address]
            return replace(each, local=replace(each.local, address=own))
        return each

    def do_restart(self) -> Told:
        for address in self._spec.place.addresses:
            self._host.let_in(address)
            self._host.announce(address)
        pairs = list(zip(self._sockets, self._moved, strict=True))
        for each, moved in pairs:
            if each is not None and isinstance(moved, TcpConnection):
                repair.go_on(each, moved.unsent, closed=moved.state in FIN_SENT)
                if moved.state in FIN_RECEIVED:
                    self._delivery.repeat_fin(moved)
        own = not isinstance(self._program, FromOutside)
        arrived = [
            (each if own else each.dup(), moved)
            for each, moved in pairs
            if each and isinstance(moved, TcpConnection)
        ]
        self._take_over()
        restarted_ns = time.time_ns()
        self._running = True
        self._sockets, self._moved = [], ()
        self._arrived.watch(arrived, copies=not own)
        self._gone = self._host.keep_announcing(self._spec.place.addresses)
        threading.Thread(target=self._take_late, daemon=True).start()
        return {"restarted_ns": restarted_ns}

    def do_take(self, address: str) -> Told:
        """Add an address for Multipath TCP, besides the one that the task has."""
        self._host.add(ip_address(address))
        self._host.announce(ip_address(address))
        return {}

    def do_give_up(self, address: str) -> Told:
        self._host.remove(ip_address(address))
        return {}

    def do_quit(self) -> Told:
        """End the task, and the process with it."""
        if isinstance(self._program, FromOutside):
            self._program.end()
        self._ends, self._running = True, False
        return {}

    def _take_over(self) -> None:
        if isinstance(self._program, FromOutside):
            self._program.take_over()

    def do_report(self) -> Told:
        """Report the connections that have come with the task."""
        resets = sockets.resets_sent() - self._resets_before
        return {"connections": self._arrived.report(), "resets": resets}

    def do_connections(self) -> Told:
        """Report the present connections."""
        _, open_now = self._program.checkpoint()
        rows = []
        for each in open_now:
            info = TcpInfo.of(each)
            rows.append(
                {
                    "connection": sockets.name_of(each),
                    "state": info.state.name,
                    "cwnd": info.cwnd,
                    "retransmissions": info.retransmissions,
                }
            )
        return {"connections": rows}

    def _take_late(self) -> None:
        """Deliver the frames that the old host forwards to this kernel."""
        link = self._link
        assert link
        link.wait_for_ever()
        with suppress(LinkError):
            while True:
                _, frame = link.receive(Kind.FRAME)
                self._delivery.deliver(frame)

    def _close_link(self) -> None:
        if self._link:
            self._link.close()
            self._link = None


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("spec")
    parser.add_argument("--incoming", nargs=2, metavar=("ADDRESS", "TOKEN"))
    given = parser.parse_args()
    orders = Orders()
    try:
        task = TaskProcess(TaskSpec.of(given.spec), orders)
        if given.incoming is None:
            task.start()
        else:
            address, token = given.incoming
            version = ip_address(address).version
            family = socket.AF_INET if version == 4 else socket.AF_INET6
            task.await_link(socket.create_server((address, 0), family=family), token)
    except FAILURES as error:
        say(failed=str(error))
        sys.exit(1)
    except Exception as error:  # the program's own
        say(failed=f"{type(error).__name__}: {error}")
        sys.exit(1)
    try:
        task.run()
    except Exception as error:  # the program's own
        say(failed=f"{type(error).__name__}: {error}")
        sys.exit(1)


if __name__ == "__main__":
    main()
