"""What the host that a task has left does with packets that still come for it (adapter; R4.2.1.4).

It no longer has the address and forwards nothing, so that its kernel drops them silently.
`LateSegments` gets a copy of each, from before the task stops: what came while the task was
suspended waits there.  A connection that has moved is known by both of its ends for as long as the
record is kept; its segments, and those that open a new connection, can be forwarded to where the
task is.  Others are dropped: the stack there would answer them with a reset.

Forwarded frames go over the connection between the two hosts' task processes.  There `Delivery`
passes them to the kernel by the loopback interface, as if they had come from the network.
"""

import array
import socket
import struct
import time
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from nve.model import IPAddress
from nve.task.addresses import Suspended
from nve.task.checkpoint import Endpoint, MovedSocket, TcpConnection
from nve.wire.frames import ETHERNET_OCTETS, IPV4, IPV6, checksum
from nve.wire.segments import ACK, FIN, RST, TcpSegment, read_segment, segment

_SOL_PACKET: Final = 263
# linux/if_packet.h
_VNET_HEADER, _IGNORE_OUTGOING = 15, 23
_RCVBUFFORCE, _ATTACH_FILTER = 33, 26
_ROOM: Final = 32 << 20
_LONGEST: Final = 1 << 17
_VNET_OCTETS: Final = 10
"""The size of struct virtio_net_hdr: what a frame lacks that has yet to be segmented or summed."""
_TOLD: Final = {
    (Suspended.UNREACHABLE, 4): (3, 1),
    (Suspended.UNREACHABLE, 6): (1, 3),
    (Suspended.PORT_UNREACHABLE, 4): (3, 3),
    (Suspended.PORT_UNREACHABLE, 6): (1, 4),
}
"""The types and codes of ICMP and ICMPv6 messages: RFC 792, RFC 4443 section 3.1."""
_QUOTED_OCTETS: Final = 576 - 20 - 8
"""How much of the packet an error quotes (RFC 1812 section 4.3.2.3)."""
_TELL_EVERY_S: Final = 0.1
"""A limit, as RFC 4443 section 2.4 (f) wants one."""
_LOAD, _JUMP_IF, _RETURN = 0x20, 0x15, 0x06


class LateSegments:
    """The frames that come to an interface for some addresses, and how they are treated."""

    def __init__(self, interface: str, addresses: Iterable[IPAddress]) -> None:
        """Capture from now on, in the network namespace of the thread."""
        self.counts: Counter[str] = Counter()
        """How many were `forwarded`, `dropped`, `resets` among them."""
        self._known: set[tuple[Endpoint, Endpoint]] = set()
        self._listening: set[int] = set()
        self._told_s = -_TELL_EVERY_S
        self._taps = [_tap(interface, address) for address in addresses]

    def forget(self) -> None:
        """Discard what has come so far, which the task itself has handled."""
        for _ in self._frames():
            pass

    def know(self, sockets: Collection[MovedSocket]) -> None:
        """Begin the record of the sockets that have moved."""
        for each in sockets:
            if isinstance(each, TcpConnection):
                self._known.add((each.local, each.remote))
            elif each is not None:
                self._listening.add(each.local.port)

    def to_forward(self) -> Iterator[bytes]:
        """Yield the frames that have come and that the task wants, in the form that `Delivery`
        takes.
        """
        for frame in self._frames():
            found = read_segment(frame[_VNET_OCTETS:])
            if found and found.flags & RST:
                self.counts["resets"] += 1
            if found and self._wanted(found):
                self.counts["forwarded"] += 1
                yield frame
            else:
                self.counts["dropped"] += 1

    def drop(self, suspended: Suspended = Suspended.DROP) -> None:
        """Drop what has come, and tell who has sent it what `suspended` says.

        Linux would only do so if it forwarded packets, and for IPv6 with another code (no route).
        """
        for frame in self._frames():
            if suspended is not Suspended.DROP:
                self._tell(frame[_VNET_OCTETS:], suspended)
            found = read_segment(frame[_VNET_OCTETS:])
            self.counts["resets"] += bool(found and found.flags & RST)
            self.counts["dropped"] += 1

    def _tell(self, frame: bytes, suspended: Suspended) -> None:
        now_s = time.monotonic()
        if now_s < self._told_s + _TELL_EVERY_S:
            return
        self._told_s = now_s
        packet = frame[ETHERNET_OCTETS:]
        source: IPAddress
        if frame[12:ETHERNET_OCTETS] == IPV4.to_bytes(2, "big"):
            family, protocol, source = (
                socket.AF_INET,
                socket.IPPROTO_ICMP,
                IPv4Address(packet[12:16]),
            )
            said = _error(suspended, packet)
            said = said[:2] + checksum(said) + said[4:]
        else:  # the kernel fills in the checksum
            family, protocol = socket.AF_INET6, socket.IPPROTO_ICMPV6
            source, said = IPv6Address(packet[8:24]), _error(suspended, packet)
        with (
            suppress(OSError),  # one may get lost
            socket.socket(family, socket.SOCK_RAW, protocol) as raw,
        ):
            raw.sendto(said, (str(source), 0))

    def filenos(self) -> list[int]:
        """Return the descriptors to wait for."""
        return [tap.fileno() for tap in self._taps]

    def _wanted(self, found: TcpSegment) -> bool:
        if not (found.source_port and found.to_port):
            return False
        ends = (Endpoint(found.to, found.to_port), Endpoint(found.source, found.source_port))
        if found.opens and found.to_port in self._listening:
            self._known.add(ends)
        return ends in self._known

    def _frames(self) -> Iterator[bytes]:
        for tap in self._taps:
            while True:
                try:
                    yield tap.recv(_LONGEST, socket.MSG_DONTWAIT)
                except BlockingIOError:
                    break

    def close(self) -> None:
        for tap in self._taps:
            tap.close()


class Delivery:
    """Passes frames to this host's kernel, in the network namespace of the thread."""

    def __init__(self) -> None:
        self._loopback = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        self._loopback.setsockopt(_SOL_PACKET, _VNET_HEADER, 1)
        self._loopback.bind(("lo", 0))

    def deliver(self, frame: bytes | bytearray) -> None:
        """Pass on a frame of `LateSegments`, unchanged except for its MAC addresses."""
        head, ethertype = frame[:_VNET_OCTETS], frame[_VNET_OCTETS + 12 : _VNET_OCTETS + 14]
        with suppress(OSError):  # the frame is lost, which TCP can handle
            self._loopback.send(head + bytes(12) + ethertype + frame[_VNET_OCTETS + 14 :])

    def repeat_fin(self, connection: TcpConnection) -> None:
        """Repeat to this kernel the FIN of a peer that has closed its direction before the move."""
        local, remote = connection.local, connection.remote
        ethertype = IPV4 if local.address.version == 4 else IPV6
        packet = segment(
            (remote.address, remote.port),
            (local.address, local.port),
            connection.receive_seq + len(connection.received),
            connection.send_seq,
            FIN | ACK,
        )
        self.deliver(bytes(_VNET_OCTETS + 12) + ethertype.to_bytes(2, "big") + packet)

    def close(self) -> None:
        self._loopback.close()


def _error(suspended: Suspended, packet: bytes) -> bytes:
    """Return the message about a packet, without its checksum."""
    kind, code = _TOLD[suspended, packet[0] >> 4]
    return bytes([kind, code, 0, 0, 0, 0, 0, 0]) + packet[:_QUOTED_OCTETS]


def _tap(interface: str, address: IPAddress) -> socket.socket:
    ethertype, place = (IPV4, 30) if address.version == 4 else (IPV6, 38)
    opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    opened.setsockopt(_SOL_PACKET, _IGNORE_OUTGOING, 1)
    opened.setsockopt(_SOL_PACKET, _VNET_HEADER, 1)
    opened.setsockopt(socket.SOL_SOCKET, _RCVBUFFORCE, _ROOM)
    _take_only(opened, place, address.packed)
    opened.bind((interface, ethertype))
    return opened


def _take_only(tap: socket.socket, place: int, octets: bytes) -> None:
    """Attach a classic BPF program that takes frames with these octets at this place."""
    words = [int.from_bytes(octets[each : each + 4], "big") for each in range(0, len(octets), 4)]
    left = 2 * len(words)
    program = b""
    for number, word in enumerate(words):
        left -= 2
        program += struct.pack("=HBBI", _LOAD, 0, 0, place + 4 * number)
        program += struct.pack("=HBBI", _JUMP_IF, 0, left + 1, word)
    program += struct.pack("=HBBI", _RETURN, 0, 0, _LONGEST)
    program += struct.pack("=HBBI", _RETURN, 0, 0, 0)
    kept = array.array("B", program)
    address, octets_of_it = kept.buffer_info()
    filtered = struct.pack("@HP", octets_of_it // 8, address)
    tap.setsockopt(socket.SOL_SOCKET, _ATTACH_FILTER, filtered)
