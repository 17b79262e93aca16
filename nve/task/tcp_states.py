"""What happens to a TCP connection (RFC 9293) when its task moves, by its state.

The kernel's repair mode creates established connections only.  So a connection that one side or
both have closed is restored as it was before, and then closed again: the task sends its FIN again,
and the peer's FIN is repeated to the new kernel.  A peer that already has the task's FIN
acknowledges it once more.

A task has no socket for a connection in SYN-RECEIVED or TIME-WAIT.  Such a connection stays in the
old kernel, which loses the address.  The destination's kernel answers the peer, and does not know
the connection.
"""

from collections.abc import Mapping
from enum import IntEnum, StrEnum
from typing import Final


class TcpState(IntEnum):
    """TCP states with the kernel's numbers (include/net/tcp_states.h)."""

    ESTABLISHED = 1
    SYN_SENT = 2
    SYN_RECEIVED = 3
    FIN_WAIT_1 = 4
    FIN_WAIT_2 = 5
    TIME_WAIT = 6
    CLOSED = 7
    CLOSE_WAIT = 8
    LAST_ACK = 9
    LISTEN = 10
    CLOSING = 11


class Fate(StrEnum):
    """How a connection is treated."""

    MIGRATED = "migrated"
    LISTENED = "listened again"
    CLOSED = "closed"
    """The task is told that it no longer has the connection."""


FATES: Final[Mapping[TcpState, Fate]] = {
    TcpState.ESTABLISHED: Fate.MIGRATED,
    TcpState.FIN_WAIT_1: Fate.MIGRATED,
    TcpState.FIN_WAIT_2: Fate.MIGRATED,
    TcpState.CLOSE_WAIT: Fate.MIGRATED,
    TcpState.LISTEN: Fate.LISTENED,
    # No data has passed: whoever began the connection begins again.
    TcpState.SYN_SENT: Fate.CLOSED,
    TcpState.SYN_RECEIVED: Fate.CLOSED,
    TcpState.CLOSING: Fate.MIGRATED,
    TcpState.LAST_ACK: Fate.MIGRATED,
    # Both sides have closed, and all was acknowledged.
    TcpState.TIME_WAIT: Fate.CLOSED,
    TcpState.CLOSED: Fate.CLOSED,
}

SAYS: Final[Mapping[TcpState, str]] = {
    TcpState.ESTABLISHED: "with everything in its queues",
    TcpState.FIN_WAIT_1: "the task's FIN is sent again, after what is in the queue",
    TcpState.FIN_WAIT_2: "the task's FIN is sent again; the peer acknowledges it once more",
    TcpState.CLOSE_WAIT: "the peer's FIN is repeated to the new kernel",
    TcpState.LISTEN: "connections that nobody has accepted yet move as well",
    TcpState.SYN_SENT: "the task connects again",
    TcpState.SYN_RECEIVED: (
        "a peer without a SYN-ACK sends its SYN again, and is connected at the destination; a peer "
        "with one is reset there when it sends, and has to connect again"
    ),
    TcpState.CLOSING: "both FINs, as in FIN-WAIT-1 and CLOSE-WAIT",
    TcpState.LAST_ACK: "both FINs, as in FIN-WAIT-1 and CLOSE-WAIT",
    TcpState.TIME_WAIT: (
        "it expires in the old kernel; a peer that repeats its FIN is reset by the destination, "
        "which ends its side; a new connection from the same port is accepted"
    ),
    TcpState.CLOSED: "there is no connection any more; what a program has not read of it is lost",
}

FIN_UNACKNOWLEDGED: Final = frozenset({TcpState.FIN_WAIT_1, TcpState.CLOSING, TcpState.LAST_ACK})
"""States in which the task has closed its direction, and the peer has not acknowledged that."""
FIN_SENT: Final = FIN_UNACKNOWLEDGED | {TcpState.FIN_WAIT_2}
"""States in which the task has closed its direction."""
FIN_RECEIVED: Final = frozenset({TcpState.CLOSE_WAIT, TcpState.CLOSING, TcpState.LAST_ACK})
"""States in which the peer has closed its direction."""
