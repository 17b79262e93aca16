"""The destination's side, a process on its server: puts pages where they belong.

    python -m nve.transfer.receiver SPEC MEMORY DISK ADDRESS TOKEN [--guest SOCKET] [--mirrored]

It prints the port on which it listens, and accepts the connections of one transfer: a peer that
does not know the token is refused.  It ends when the first connection does.  By SOCKET the guest
passes the descriptor that a post-copy needs; after a post-copy, the receiver prints the pages that
the guest has waited for.

If memory and disk are `--mirrored`, they are a mirror of the VM, and a sender that knows this
mirror sends only what was written since.  Then the receiver stays until a line on its standard
input ends it: with `undo`, it makes the pages what they were before, and prints a line when they
are.
"""

import argparse
import json
import os
import socket
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import astuple
from ipaddress import ip_address
from queue import SimpleQueue

from nve.guest.spec import PAGE_SIZE, GuestSpec
from nve.hypervisor.realtime import realtime_priority
from nve.transfer.connection import TransferConnection
from nve.transfer.encoding import unpacked
from nve.transfer.framing import (
    ASKED_CHANNEL,
    CONTENT,
    FIRST_CHANNEL,
    Head,
    Incoming,
    PageRun,
    ProtocolError,
    Say,
    of_pages,
    size_of,
)
from nve.transfer.missing_pages import MissingPages, PageBuffer
from nve.transfer.overwritten import Overwritten
from nve.transfer.state import Digests, State

PATIENCE_S = 5.0
_READY_TIMEOUT_S = 60.0


class StateReceiver:
    """One transfer at its destination: a thread for each of its connections."""

    def __init__(
        self, state: State, token: str, guest: socket.socket | None, *, mirrored: bool = False
    ) -> None:
        """`mirrored`: the state is a mirror of the VM, which is kept until the transfer is over."""
        self._state = state
        self._token = token
        self._guest = guest
        self._digests = Digests(state)
        self._overwritten: Overwritten | None = None
        """The pages of a mirror that this transfer has overwritten."""
        if mirrored:
            self._digests.take_all()
            self._overwritten = Overwritten(state.at)
        self._turn = threading.Lock()
        """Held while pages of a mirror are overwritten, and for ever when that was undone."""
        self._finished = False
        self._missing: MissingPages | None = None
        self._can_resume = threading.Event()
        self._resumed = False
        self.over: SimpleQueue[str | None] = SimpleQueue()
        """When it is over: None, or what went wrong."""

    def accept(self, listening: socket.socket) -> None:
        """Accept connections without end."""
        while True:
            connected, _ = listening.accept()
            connection = TransferConnection(connected, PATIENCE_S)
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection: TransferConnection) -> None:
        """Serve one connection, until the other side is gone."""
        incoming = Incoming(self._token, self._state.pages, self._state.memory_pages)
        channel = _Channel(self, connection, incoming)
        try:
            channel.receive()
        except ProtocolError as error:
            with suppress(OSError):
                connection.send(Say.ERROR, why=str(error))
            self._ended(incoming, str(error))
        except OSError as error:
            self._ended(incoming, None if self._finished else str(error))
        finally:
            connection.close()

    def _ended(self, incoming: Incoming, why: str | None) -> None:
        """Record the end of a connection.

        The end of a stranger's connection is ignored, and so is that of a further channel of a
        transfer which is finished.
        """
        if incoming.channel is not None and (why or incoming.channel == FIRST_CHANNEL):
            self.over.put(why)

    def watch(self, connection: TransferConnection) -> None:
        """Use this connection for the pages that the guest waits for."""
        if self._guest is None:
            raise ProtocolError("no post-copy was registered here")
        self._guest.settimeout(_READY_TIMEOUT_S)
        self._missing = MissingPages(self._guest, self._state.memory_pages, self._digests)
        threading.Thread(target=self._watch, args=(connection,), daemon=True).start()
        self._can_resume.set()

    def _watch(self, connection: TransferConnection) -> None:
        assert self._missing
        try:
            self._missing.watch(lambda page: connection.send_all([of_pages([(page, 1)], Say.ASK)]))
        except OSError as error:
            if not self._finished:
                self.over.put(str(error))

    def resume_without(self, runs: list[PageRun]) -> None:
        """Remove these pages, which are too old here; the guest waits when it touches one."""
        if not self._can_resume.wait(_READY_TIMEOUT_S):
            raise ProtocolError("there is no channel for the pages that the guest waits for")
        assert self._missing
        for run in runs:
            self._state.forget(run)
        self._missing.take_away(runs)
        self._resumed = True

    def holds(self, mirror: Mapping[str, str]) -> bool:
        """Return whether memory and disk are the mirror with these digests, in which only what was
        written since has to be replaced.
        """
        if self._overwritten is None or self._digests.totals() != mirror:
            self._overwritten = None  # it is no mirror that could be gone back to
            return False
        return True

    def undo(self) -> None:
        """Make memory and disk the mirror again that they were; nothing is put in place after
        that.
        """
        self._turn.acquire()
        if self._overwritten:
            self._overwritten.put_back()

    def place(self, runs: list[PageRun], channel: "_Channel", say: Say, frame: bytes) -> None:
        """Put the pages of a message in place; their content is in it or follows it."""
        if self._resumed:
            self._place_missing(runs, channel, say, frame)
            return
        if self._overwritten is not None:
            self._place_over(self._overwritten, runs, channel, say, frame)
            return
        there = [self._state.at(run) for run in runs]
        channel.fill(there, say, frame)
        for run in runs:
            self._digests.take(run)

    def _place_over(
        self,
        overwritten: Overwritten,
        runs: list[PageRun],
        channel: "_Channel",
        say: Say,
        frame: bytes,
    ) -> None:
        """Put pages in place of those of a mirror, whole messages at a time."""
        content = channel.buffer.octets[: size_of(runs) * PAGE_SIZE]
        channel.fill([content], say, frame)
        with self._turn:
            for run in runs:
                overwritten.keep(run)
                there = self._state.at(run)
                there[:] = content[: len(there)]
                content = content[len(there) :]
                self._digests.take(run)

    def _place_missing(
        self, runs: list[PageRun], channel: "_Channel", say: Say, frame: bytes
    ) -> None:
        assert self._missing
        if any(first + count > self._state.memory_pages for first, count in runs):
            raise ProtocolError("a page of the disk comes when the VM runs")
        channel.fill([channel.buffer.octets[: size_of(runs) * PAGE_SIZE]], say, frame)
        place = 0
        for run in runs:
            self._missing.put(run, channel.buffer, place)
            place += run[1] * PAGE_SIZE

    def finish(self) -> None:
        """Check that everything has come, as the sender says that everything was sent."""
        if self._missing and self._missing.presence.missing:
            raise ProtocolError(f"{self._missing.presence.missing} pages have not come")
        self._finished = True

    def tell_faults(self) -> None:
        """Print what the guest has waited for, if it was resumed before its pages were there."""
        if self._resumed and self._missing:
            print(
                json.dumps({"faults": [astuple(each) for each in self._missing.presence.faults]}),
                flush=True,
            )

    def digests(self) -> dict[str, str]:
        return self._digests.totals()


class _Channel:
    """One connection and what was received on it."""

    def __init__(
        self, receiver: StateReceiver, connection: TransferConnection, incoming: Incoming
    ) -> None:
        self._receiver = receiver
        self._connection = connection
        self._incoming = incoming
        self.buffer = PageBuffer()

    def receive(self) -> None:
        """Receive messages without end.  Raises ProtocolError, and OSError when the other side is
        gone.
        """
        incoming = self._incoming
        while True:
            self._take(*self._connection.receive())
            if incoming.urgent or incoming.channel == ASKED_CHANNEL:
                with realtime_priority():
                    while incoming.urgent or incoming.channel == ASKED_CHANNEL:
                        self._take(*self._connection.receive())

    def _take(self, head: Head, more: bytes) -> None:
        incoming, connection = self._incoming, self._connection
        if head.say in CONTENT:
            runs, frame = incoming.pages(head, more)
            self._receiver.place(runs, self, head.say, frame)
            return
        if head.say == Say.LATER:
            self._receiver.resume_without(incoming.later(more))
            connection.send(Say.ACK)
            return
        answer = incoming.other(head, more)
        if head.say == Say.FINISH:
            self._receiver.finish()
        if answer == Say.DIGEST:
            connection.send(answer, **self._receiver.digests())
        elif answer == Say.MIRRORED and incoming.mirror is not None:
            connection.send(answer, holds=self._receiver.holds(incoming.mirror))
        elif answer is not None:
            connection.send(answer)
        if head.say == Say.FINISH:
            self._receiver.tell_faults()
        if head.say == Say.HELLO and incoming.channel == ASKED_CHANNEL:
            self._receiver.watch(connection)

    def fill(self, places: list[memoryview], say: Say, frame: bytes) -> None:
        """Fill in the content of a message's pages, one behind the other."""
        if say == Say.PAGES:
            self._connection.receive_into(places)
            return
        pages = sum(len(each) for each in places) // PAGE_SIZE
        content = memoryview(unpacked(frame, pages) if say == Say.PACKED else bytes(pages * 4096))
        for place in places:
            place[:] = content[: len(place)]
            content = content[len(place) :]


def listen(address: str) -> socket.socket:
    version = ip_address(address).version
    listening = socket.socket(socket.AF_INET if version == 4 else socket.AF_INET6)
    listening.bind((address, 0))
    listening.listen()
    return listening


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("spec", type=GuestSpec.of)
    parser.add_argument("memory", type=int)
    parser.add_argument("disk", type=int)
    parser.add_argument("address")
    parser.add_argument("token")
    parser.add_argument("--guest", type=int)
    parser.add_argument("--mirrored", action="store_true")
    given = parser.parse_args()
    spec: GuestSpec = given.spec
    state = State(given.memory, spec.memory_pages, given.disk, spec.disk_pages)
    guest = socket.socket(fileno=given.guest) if given.guest is not None else None
    listening = listen(given.address)
    receiver = StateReceiver(state, given.token, guest, mirrored=given.mirrored)
    print(json.dumps({"port": listening.getsockname()[1]}), flush=True)
    threading.Thread(target=receiver.accept, args=(listening,), daemon=True).start()
    if given.mirrored:
        if sys.stdin.readline().strip() == "undo":
            receiver.undo()
            print(json.dumps({"undone": True}), flush=True)
        os._exit(0)  # other threads may wait for a peer that is gone
    if why := receiver.over.get():
        raise SystemExit(why)


if __name__ == "__main__":
    main()
