"""Watches the control channel of an NVE at the NVE's end: which OpenFlow message passed when.

Times are the kernel's.  A segment is assumed to begin with a message, which holds as long as there
is little traffic: for one question at a time.
"""

import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

from nve.linux.namespace import inside
from topologies.configuration import CONTROL_SWITCH

ETH_P_ALL = 3
INTERFACE = f"to-{CONTROL_SWITCH}"
SO_TIMESTAMPNS = 35
PACKET_IN, PACKET_OUT, FLOW_MOD = 10, 13, 14
"""Message types (OpenFlow 1.3.5 section 7.1)."""
HEADER = struct.Struct("!BBHI")
ANCILLARY_BYTES = 64


@dataclass(frozen=True)
class Message:
    t_ns: int
    kind: int


class Watch:
    """Watches one control channel; a context manager."""

    def __init__(self, pid: int, port: int) -> None:
        """`pid` is a process in the NVE's namespace, `port` the controller's."""
        self._port = port
        self._seen: dict[int, int] = {}
        """By the sender's port, up to where its stream is known."""
        with inside(pid):
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        self._socket.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        self._socket.bind((INTERFACE, 0))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def until(self, kind: int, timeout_s: float) -> list[Message]:
        """Return what has passed since the last call, up to a message of that kind.

        Raises TimeoutError.
        """
        self._socket.settimeout(timeout_s)
        found: list[Message] = []
        while not found or found[-1].kind != kind:
            frame, ancillary, _, _ = self._socket.recvmsg(1 << 16, ANCILLARY_BYTES)
            ((_, _, stamp),) = ancillary
            seconds, nanoseconds = struct.unpack("@qq", stamp)
            t_ns = seconds * 10**9 + nanoseconds
            found += [Message(t_ns, each) for each in self._messages(frame)]
        return found

    def _messages(self, frame: bytes) -> Iterator[int]:
        """Yield the types of the messages in a TCP segment over IPv4, to or from the controller."""
        if frame[12:14] != b"\x08\x00" or frame[23] != socket.IPPROTO_TCP:
            return
        start = 14 + (frame[14] & 0x0F) * 4
        end = 14 + int.from_bytes(frame[16:18], "big")
        source, destination, sequence = struct.unpack_from("!HHI", frame, start)
        at = start + (frame[start + 12] >> 4) * 4
        known = self._seen.get(source, sequence)
        if self._port not in (source, destination) or (sequence - known) % 2**32 >= 2**31:
            return  # of another connection, or a retransmission
        self._seen[source] = (sequence + end - at) % 2**32
        while at + HEADER.size <= end:
            _, kind, length, _ = HEADER.unpack_from(frame, at)
            if kind in (PACKET_IN, PACKET_OUT, FLOW_MOD):
                yield kind
            at += max(length, HEADER.size)
