"""A standby's side of a mirror, a process on its server.

    python -m nve.transfer.mirror_receiver SPEC MEMORY DISK ADDRESS TOKEN

It prints the port on which it listens, and accepts one connection.  A line on its standard input
ends it: from then on nothing that arrives is put in place, and it prints which mirror counts and
the digests of what is there.  Until then it stays, even if the connection breaks.
"""

import argparse
import json
import os
import sys
import threading

from nve.guest.spec import PAGE_SIZE, GuestSpec
from nve.transfer.connection import TransferConnection
from nve.transfer.framing import PageRun, ProtocolError, Say
from nve.transfer.mirror import MirrorIncoming, MirrorStamp
from nve.transfer.receiver import PATIENCE_S, listen
from nve.transfer.sender import tell
from nve.transfer.state import Digests, State


class MirrorReceiver:
    """Receives mirrors: `receive` until the other side is gone; `close` at any time, from any
    thread.
    """

    def __init__(self, state: State, incoming: MirrorIncoming) -> None:
        self._state = state
        self._incoming = incoming
        self._digests = Digests(state)
        self._apart: list[tuple[PageRun, bytearray]] = []
        self._lock = threading.Lock()
        """Held while a mirror is put in place."""

    def receive(self, connection: TransferConnection) -> None:
        """Receive mirrors.  Raises OSError, and ProtocolError."""
        self._incoming.hello(*connection.receive())
        connection.send(Say.ACK)
        while True:
            head, text = connection.receive()
            if runs := self._incoming.pages(head, text):
                buffers = [bytearray(count * PAGE_SIZE) for _, count in runs]
                connection.receive_into([memoryview(buffer) for buffer in buffers])
                self._apart += zip(runs, buffers, strict=True)
                if self._incoming.last.number == 0 and self._lock.acquire(blocking=False):
                    self._put()  # there is no earlier mirror to be kept
                    self._lock.release()
            else:
                self._whole(self._incoming.whole(head, text))
                connection.send(Say.ACK)

    def close(self) -> dict[str, str]:
        """Stop putting pages in place; return the digests of what is there."""
        self._lock.acquire()
        self._digests.take_all()
        return self._digests.totals()

    def _whole(self, stamp: MirrorStamp) -> None:
        with self._lock:
            self._put()
            if self._digests.totals() != stamp.digests:
                raise ProtocolError(f"mirror {stamp.number} is not what the primary had")
            self._incoming.counts(stamp)

    def _put(self) -> None:
        for run, octets in self._apart:
            self._state.at(run)[:] = octets
            self._digests.take(run)
        self._apart.clear()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("spec", type=GuestSpec.of)
    parser.add_argument("memory", type=int)
    parser.add_argument("disk", type=int)
    parser.add_argument("address")
    parser.add_argument("token")
    given = parser.parse_args()
    spec: GuestSpec = given.spec
    state = State(given.memory, spec.memory_pages, given.disk, spec.disk_pages)
    incoming = MirrorIncoming(given.token, state.pages)
    receiver = MirrorReceiver(state, incoming)
    listening = listen(given.address)
    print(json.dumps({"port": listening.getsockname()[1]}), flush=True)

    def serve() -> None:
        connected, _ = listening.accept()
        connection = TransferConnection(connected, PATIENCE_S)
        try:
            receiver.receive(connection)
        except ProtocolError as error:
            connection.send(Say.ERROR, why=str(error))
        except OSError as error:
            print(error, file=sys.stderr)
        finally:
            connection.close()

    threading.Thread(target=serve, daemon=True).start()
    if sys.stdin.readline():
        found = receiver.close()
        tell(counts=incoming.last.row(), found=found)
    os._exit(0)  # the other thread may wait for a peer that is gone


if __name__ == "__main__":
    main()
