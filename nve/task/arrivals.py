"""Connections that have come with a task: when their peers are heard of, and when they are as fast
again as before (adapter).

The kernel probes each peer's window when a connection leaves repair mode.  A Linux peer answers
such empty segments of one connection at most every 500 ms (`tcp_invalid_ratelimit`), so two moves
within that time would leave it silent.  It is asked once more, by an octet that it has had already:
to data it always answers (the keepalive of RFC 9293 section 3.8.4).

The kernel measures the round-trip time and the path's rate anew.  A connection is as fast as before
when the kernel's estimate of its delivery rate is 90 % of what it was at the source.
"""

import socket
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from nve.linux.wait import wait_until
from nve.task import repair
from nve.task.checkpoint import TcpConnection
from nve.task.repair import TcpInfo
from nve.wire.segments import ACK, segment

LOOK_EVERY_S: Final = 0.0005
LOOKED_AFTER_S: Final = 5.0
ENOUGH: Final = 0.9

Row = dict[str, Any]


class ArrivedConnections:
    """The connections that have come with one move, by their names."""

    def __init__(self) -> None:
        self._of: dict[str, tuple[socket.socket, TcpConnection]] = {}
        self._rows: dict[str, Row] = {}
        self._copies = False

    def watch(
        self, arrived: Sequence[tuple[socket.socket, TcpConnection]], *, copies: bool
    ) -> None:
        """From now on; the task has just been restarted.

        `copies` are of sockets that a process of its own has, and would keep them open: they are
        closed as soon as their peer has been heard of.
        """
        self._of = {str(connection): (each, connection) for each, connection in arrived}
        self._rows = {name: {"heard_ns": None, "ramp_up_ms": None} for name in self._of}
        self._copies = copies
        threading.Thread(target=self._look, args=(time.time_ns(),), daemon=True).start()

    def report(self) -> Mapping[str, Row]:
        """Return `heard_ns`, `ramp_up_ms`, `retransmissions`, `cwnd` of each; None if unknown."""
        for name, (each, _) in list(self._of.items()):
            with suppress(OSError):  # it is closed by now
                self._keep(name, TcpInfo.of(each))
        return self._rows

    def _keep(self, name: str, info: TcpInfo) -> None:
        self._rows[name] |= {"retransmissions": info.retransmissions, "cwnd": info.cwnd}

    def _look(self, restarted_ns: int) -> None:
        waiting = dict(self._of)

        def left() -> str | None:
            for name, (each, connection) in list(waiting.items()):
                try:
                    info = TcpInfo.of(each)
                except OSError:  # it is closed by now
                    del waiting[name]
                    continue
                if self._done(name, info, connection, restarted_ns):
                    del waiting[name]
                    if self._copies:
                        self._keep(name, info)
                        each.close()
            return ", ".join(waiting) or None

        left()
        for name, (_, connection) in waiting.items():
            if self._rows[name]["heard_ns"] is None:
                with suppress(OSError):  # its peer is not reached
                    ask(connection)
        with suppress(TimeoutError):
            wait_until(left, LOOKED_AFTER_S, LOOK_EVERY_S)
        if self._copies:
            for each, _ in waiting.values():
                each.close()

    def _done(self, name: str, info: TcpInfo, connection: TcpConnection, restarted_ns: int) -> bool:
        """Whether there is nothing more to wait for."""
        row = self._rows[name]
        if row["heard_ns"] is None and info.segments_in:
            row["heard_ns"] = time.time_ns()
        wanted_bps = 0 if self._copies else connection.delivered_bps
        if wanted_bps and row["ramp_up_ms"] is None and info.delivered_bps >= ENOUGH * wanted_bps:
            row["ramp_up_ms"] = round((time.time_ns() - restarted_ns) / 1e6, 3)
        return row["heard_ns"] is not None and (not wanted_bps or row["ramp_up_ms"] is not None)


def ask(connection: TcpConnection) -> None:
    """The peer says where it is.  Raises OSError."""
    local, remote = connection.local, connection.remote
    packet = segment(
        (local.address, local.port),
        (remote.address, remote.port),
        # Before all that it may not have acknowledged to us yet.
        connection.send_seq - 2,
        connection.receive_seq + len(connection.received),
        ACK,
        b"\0",
    )
    with socket.socket(repair.family(local), socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
        raw.sendto(packet, (str(remote.address), 0))
