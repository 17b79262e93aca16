"""A task's sockets when it leaves: accepted, closed or taken out of the kernel; and made again.

`nve.task.repair` has what is done to one connection, and in which order.
"""

import socket
import struct
from collections.abc import Collection, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from nve.linux.wait import wait_until
from nve.model import IPAddress
from nve.task import repair
from nve.task.checkpoint import Listener, MovedSocket, TcpConnection
from nve.task.initial_window import InitialWindows
from nve.task.program import Socket, listens
from nve.task.repair import TcpInfo
from nve.task.tcp_states import FATES, FIN_UNACKNOWLEDGED, Fate, TcpState

CLOSING_S: Final = 0.2
"""How long the peer of a connection that is closed, not moved, has to acknowledge all of it."""

Row = dict[str, Any]


def resets_sent() -> int:
    """Return how many resets this host's TCP has sent since it began."""
    lines = Path("/proc/thread-self/net/snmp").read_text(encoding="ascii").splitlines()
    names, values = (line.split() for line in lines if line.startswith("Tcp:"))
    return int(values[names.index("OutRsts")])


def accept_rest(sockets: list[Socket | None]) -> None:
    """Accept and block the connections that the program has not accepted yet, and add them."""
    for listening in [each for each in sockets if each and listens(each)]:
        listening.setblocking(False)
        with suppress(BlockingIOError):
            while True:
                accepted, _ = listening.accept()
                repair.block(accepted)
                sockets.append(accepted)


def refuse_more(sockets: list[Socket | None]) -> None:
    """Nobody connects any more; connections that are made already join the others."""
    for listening in [each for each in sockets if each and listens(each)]:
        repair.block(listening)
        listening.setblocking(False)
        with suppress(BlockingIOError):
            while True:
                sockets.append(listening.accept()[0])


def close_connections(
    sockets: list[Socket | None], peers: Collection[IPAddress] | None = None
) -> list[Row]:
    """Close each connection, or only those to these peers; a peer that does not acknowledge all of
    it in time is reset.  The others do not wait for these peers, which have to do it at once.

    Leaves None in the place of each; returns a row for each.
    """
    open_ones = [
        (place, each)
        for place, each in enumerate(sockets)
        if each is not None and not listens(each) and (peers is None or _peer_of(each) in peers)
    ]
    closed = []
    for place, each in open_ones:
        state = TcpInfo.of(each).state
        closed.append(_row(name_of(each), state, Fate.CLOSED))
        with suppress(OSError):
            each.shutdown(socket.SHUT_WR)
        sockets[place] = None
    with suppress(TimeoutError):
        patience_s = CLOSING_S if peers is None else 0
        wait_until(lambda: _unacknowledged(each for _, each in open_ones) or None, patience_s)
    for _, each in open_ones:
        if _unacknowledged([each]):
            each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        each.close()
    return closed


def _peer_of(each: Socket) -> IPAddress | None:
    with suppress(OSError):
        return repair.endpoint(each.getpeername()).address
    return None


def package(sockets: list[Socket | None]) -> tuple[list[Row], tuple[MovedSocket, ...]]:
    """Return all sockets, in order: a row for each connection, and their state.

    One in a state that cannot be carried is closed, and leaves None in its place.
    """
    rows, moved = [], list[MovedSocket]()
    for place, each in enumerate(sockets):
        if each is None:
            moved.append(None)
            continue
        state = TcpInfo.of(each).state
        fate = FATES[state]
        if fate is Fate.LISTENED:
            moved.append(repair.dump_listener(each))
            continue
        if fate is Fate.CLOSED:
            rows.append(_row("-", state, fate))
            each.close()
            sockets[place] = None
            moved.append(None)
            continue
        connection = repair.dump(each)
        moved.append(connection)
        rows.append(
            _row(
                str(connection),
                state,
                fate,
                received=len(connection.received),
                sent=len(connection.sent),
                unsent=len(connection.unsent),
                before_mbit=round(connection.delivered_bps / 1e6, 3),
            )
        )
    return rows, tuple(moved)


def _unacknowledged(closed: Iterable[Socket]) -> str:
    """Return the connections whose peer has not acknowledged everything; empty if there are
    none.
    """
    return ", ".join(
        name_of(each) for each in closed if TcpInfo.of(each).state in FIN_UNACKNOWLEDGED
    )


def restored(each: MovedSocket, windows: InitialWindows, segments: int | None) -> Socket | None:
    """Return one socket made again; it does not run yet.

    `segments` are its congestion window, if that is carried.
    """
    match each:
        case TcpConnection():
            ends = each.local.address, each.remote.address
            with windows.of(*ends, segments):
                return repair.restore(each)
        case Listener():
            return repair.restore_listener(each)
        case None:
            return None


def _row(name: str, state: TcpState, fate: Fate, **held: float) -> Row:
    return {"connection": name, "state": state.name, "fate": fate.value, **held}


def name_of(each: Socket) -> str:
    """Return its ends as addresses and ports; a listening socket has no peer."""
    ends = [repair.endpoint(each.getsockname())]
    with suppress(OSError):
        ends.append(repair.endpoint(each.getpeername()))
    return "-".join(map(str, ends))
