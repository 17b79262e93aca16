"""What becomes of a TCP connection (RFC 9293) when its task moves, by its state.

The kernel's repair mode makes connections that are established.  One that is half closed is made as
it was before, and closed again: a FIN that the peer has acknowledged is only acknowledged once
more.  Where both sides have closed there is nothing to carry.
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
    # Both sides have closed.
    TcpState.CLOSING: Fate.CLOSED,
    TcpState.LAST_ACK: Fate.CLOSED,
    TcpState.TIME_WAIT: Fate.CLOSED,
    TcpState.CLOSED: Fate.CLOSED,
}

SAYS: Final[Mapping[TcpState, str]] = {
    TcpState.ESTABLISHED: "with all that is in its queues",
    TcpState.FIN_WAIT_1: "made as it was before, and closed again: the FIN is sent once more",
    TcpState.FIN_WAIT_2: "the same; the peer acknowledges the FIN once more",
    TcpState.CLOSE_WAIT: "made as it was before, and told of the peer's FIN once more",
    TcpState.LISTEN: "connections that nobody has accepted yet move as well",
    TcpState.SYN_SENT: "the task connects again",
    TcpState.SYN_RECEIVED: "the peer is reset when it sends, and connects again",
    TcpState.CLOSING: "both sides have closed",
    TcpState.LAST_ACK: "both sides have closed; what the task has sent last may be lost",
    TcpState.TIME_WAIT: "both sides have closed",
    TcpState.CLOSED: "there is none",
}

FIN_SENT: Final = frozenset({TcpState.FIN_WAIT_1, TcpState.FIN_WAIT_2})
"""Migrated states in which the task has closed its direction."""
FIN_RECEIVED: Final = frozenset({TcpState.CLOSE_WAIT})
"""Those in which the peer has closed its direction."""
