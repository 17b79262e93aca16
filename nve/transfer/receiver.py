"""The destination's side, a process on its server: puts pages where they belong.

    python -m nve.transfer.receiver SPEC MEMORY DISK ADDRESS TOKEN

It says the port that it listens at, and takes one connection: who does not know the token is sent
away.  It ends when the connection does.
"""

import argparse
import json
import socket
from ipaddress import ip_address

from nve.guest.spec import GuestSpec
from nve.hypervisor.realtime import realtime_priority
from nve.transfer.connection import TransferConnection
from nve.transfer.framing import Head, Incoming, ProtocolError, Say
from nve.transfer.state import Digests, State

PATIENCE_S = 5.0


def listen(address: str) -> socket.socket:
    version = ip_address(address).version
    listening = socket.socket(socket.AF_INET if version == 4 else socket.AF_INET6)
    listening.bind((address, 0))
    listening.listen()
    return listening


def receive(connection: TransferConnection, state: State, incoming: Incoming) -> None:
    """Until the other side is gone.  Raises ProtocolError, and ConnectionError if it goes before it
    has sent all."""
    digests = Digests(state)
    while (message := _next(connection, incoming)) is not None:
        _take(connection, state, incoming, digests, *message)
        if incoming.urgent:
            with realtime_priority():
                while incoming.urgent:
                    _take(connection, state, incoming, digests, *connection.receive())


def _next(connection: TransferConnection, incoming: Incoming) -> tuple[Head, bytes] | None:
    """The next message; None where the other side is gone and has nothing left to send."""
    try:
        return connection.receive()
    except OSError:
        if incoming.finished:
            return None
        raise


def _take(
    connection: TransferConnection,
    state: State,
    incoming: Incoming,
    digests: Digests,
    head: Head,
    more: bytes,
) -> None:
    if head.say == Say.PAGES:
        runs = incoming.pages(more)
        connection.receive_into([state.at(run) for run in runs])
        for run in runs:
            digests.take(run)
    elif (answer := incoming.other(head, more)) == Say.DIGEST:
        connection.send(answer, **digests.totals())
    elif answer is not None:
        connection.send(answer)


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
    listening = listen(given.address)
    print(json.dumps({"port": listening.getsockname()[1]}), flush=True)
    while True:
        connected, _ = listening.accept()
        connection = TransferConnection(connected, PATIENCE_S)
        try:
            receive(connection, state, Incoming(given.token, state.pages))
        except ProtocolError as error:
            connection.send(Say.ERROR, why=str(error))
        except OSError as error:
            raise SystemExit(str(error)) from None
        else:
            return
        finally:
            connection.close()


if __name__ == "__main__":
    main()
