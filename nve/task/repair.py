"""Takes a TCP connection out of one kernel and puts it into another: TCP_REPAIR (adapter).

At the source, of a task that has stopped:

    block       a filter on the socket drops what comes: the kernel answers nothing
    dump        repair mode; the receive queue, then the send queue; it stays in repair mode
    leave       closed in repair mode: neither FIN nor RST is sent
    go_on       or else: the connection goes on here

At the destination, where the address is already:

    restore     a socket in repair mode with everything that the other one had
    go_on       repair mode ends; the kernel sends a window probe, and the peer answers

The order is what makes it work.  A kernel whose socket is in repair mode still transmits from its
pacing timer, unless the send queue is the one selected: so that is selected before it is read, and
stays so until the socket is closed.  What left after that would be acknowledged by the peer and be
unknown to the new stack, which ignores such acknowledgements for good.

The congestion window is carried by other means (`nve.task.initial_window`).  Not carried: the
round-trip time, segments that came out of order (the peer sends them again), urgent data.
"""

import array
import errno
import fcntl
import socket
import struct
from contextlib import suppress
from dataclasses import dataclass, replace
from ipaddress import ip_address
from typing import Final

from nve.task.checkpoint import WIDEST, Endpoint, Listener, SendWindow, TcpConnection, TcpOptions
from nve.task.tcp_states import (
    FATES,
    FIN_RECEIVED,
    FIN_SENT,
    FIN_UNACKNOWLEDGED,
    Fate,
    TcpState,
)

_TCP: Final = socket.IPPROTO_TCP
# linux/tcp.h
_REPAIR, _REPAIR_QUEUE, _QUEUE_SEQ, _REPAIR_OPTIONS = 19, 20, 21, 22
_TIMESTAMP, _REPAIR_WINDOW = 24, 29
_NO_QUEUE, _RECEIVE_QUEUE, _SEND_QUEUE = 0, 1, 2
_ON, _OFF = 1, 0
_OPTION_MSS, _OPTION_SCALE, _OPTION_SACK, _OPTION_TIMESTAMP = 2, 3, 4, 8
_INFO_TIMESTAMPS, _INFO_SACK, _INFO_SCALE = 1, 2, 4
# asm-generic/socket.h, asm-generic/sockios.h, linux/sockios.h
_ATTACH_FILTER, _DETACH_FILTER = 26, 27
_SNDBUFFORCE, _RCVBUFFORCE, _BUF_LOCK = 32, 33, 72
_INQ, _OUTQ, _OUTQ_NOT_SENT = 0x541B, 0x5411, 0x894B
_DROP_ALL: Final = array.array("B", struct.pack("=HBBI", 0x06, 0, 0, 0))
"""A classic BPF program of one instruction: return 0."""
_WINDOW: Final = struct.Struct("=5I")
_INFO_OCTETS: Final = 232
_AT_ONCE: Final = 65536


class NotMovable(RuntimeError):
    """A socket cannot be carried over; the message says why."""


@dataclass(frozen=True)
class TcpInfo:
    """What the kernel reports of a connection (TCP_INFO)."""

    state: TcpState
    options: int
    scales: tuple[int, int]
    backlog: int
    """The backlog of a listening socket."""
    cwnd: int
    rtt_ms: float
    retransmissions: int
    segments_in: int
    delivered_bps: int
    """The kernel's last estimate of how fast the peer gets data."""

    @classmethod
    def of(cls, connected: socket.socket) -> "TcpInfo":
        told = connected.getsockopt(_TCP, socket.TCP_INFO, _INFO_OCTETS)
        state, _, _, _, _, options, scales = struct.unpack_from("7B", told)
        word, long = struct.Struct("=I").unpack_from, struct.Struct("=Q").unpack_from
        return cls(
            TcpState(state),
            options,
            (scales & 15, scales >> 4),
            word(told, 28)[0],
            word(told, 80)[0],
            word(told, 68)[0] / 1000,
            word(told, 100)[0],
            word(told, 140)[0],
            8 * long(told, 160)[0],
        )


# -- at the source ---------------------------------------------------------------------------------


def block(each: socket.socket) -> None:
    """Make the kernel drop what comes for this socket, without an answer."""
    address, _ = _DROP_ALL.buffer_info()
    program = struct.pack("@HP", 1, address)
    each.setsockopt(socket.SOL_SOCKET, _ATTACH_FILTER, program)


def unblock(each: socket.socket) -> None:
    """Accept what comes again; this is safe if nothing is blocked."""
    with suppress(FileNotFoundError):
        each.setsockopt(socket.SOL_SOCKET, _DETACH_FILTER, 0)


def dump_listener(listening: socket.socket) -> Listener:
    """Return the state of a listening socket that is blocked and whose connections were
    accepted.
    """
    return Listener(endpoint(listening.getsockname()), TcpInfo.of(listening).backlog)


def dump(connected: socket.socket) -> TcpConnection:
    """Return the state of a connection that is blocked; `leave` or `go_on` follows.

    Raises NotMovable in a state that is not carried, and OSError without the right to
    (CAP_NET_ADMIN).
    """
    _set(connected, _REPAIR, _ON)
    info = TcpInfo.of(connected)
    if FATES[info.state] is not Fate.MIGRATED:
        raise NotMovable(f"a connection that is {info.state.name} cannot move")
    local, remote = endpoint(connected.getsockname()), endpoint(connected.getpeername())
    options = TcpOptions(
        mss=_get(connected, socket.TCP_MAXSEG),
        sack=bool(info.options & _INFO_SACK),
        scales=info.scales if info.options & _INFO_SCALE else None,
        timestamp=_get(connected, _TIMESTAMP) if info.options & _INFO_TIMESTAMPS else None,
    )
    congestion_control = connected.getsockopt(_TCP, socket.TCP_CONGESTION, 16).rstrip(b"\0")
    _set(connected, _REPAIR_QUEUE, _RECEIVE_QUEUE)
    received_octets = _ioctl(connected, _INQ)
    receive_end = _get(connected, _QUEUE_SEQ) - (info.state in FIN_RECEIVED)
    received = _peek(connected, received_octets)
    # From here on nothing is transmitted; so how much was sent is read at once.
    _set(connected, _REPAIR_QUEUE, _SEND_QUEUE)
    not_sent = _ioctl(connected, _OUTQ_NOT_SENT)
    outstanding = _ioctl(connected, _OUTQ)
    send_end = _get(connected, _QUEUE_SEQ) - (info.state in FIN_SENT)
    octets = outstanding - (info.state in FIN_UNACKNOWLEDGED)
    queue = _peek(connected, octets)
    on_the_wire = min(outstanding - not_sent, octets)
    return TcpConnection(
        local,
        remote,
        info.state,
        options,
        SendWindow(*_WINDOW.unpack(connected.getsockopt(_TCP, _REPAIR_WINDOW, _WINDOW.size))),
        send_seq=(send_end - octets) & 0xFFFFFFFF,
        receive_seq=(receive_end - received_octets) & 0xFFFFFFFF,
        congestion_control=congestion_control.decode(),
        no_delay=bool(connected.getsockopt(_TCP, socket.TCP_NODELAY)),
        keep_alive=bool(connected.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)),
        congestion_window=min(info.cwnd, WIDEST),
        delivered_bps=info.delivered_bps,
        # The kernel says twice what it was asked for.
        send_buffer=connected.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) // 2,
        receive_buffer=connected.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2,
        received=received,
        sent=queue[:on_the_wire],
        unsent=queue[on_the_wire:],
    )


def leave(dumped: socket.socket) -> None:
    """Remove the connection from this host without telling the peer."""
    dumped.close()


# -- at the destination ----------------------------------------------------------------------------


def restore_listener(listener: Listener) -> socket.socket:
    """Return a socket that listens as the other one did.  Raises OSError if the port is in use."""
    made = socket.socket(family(listener.local), socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((str(listener.local.address), listener.local.port))
        made.listen(listener.backlog)
    except OSError:
        made.close()
        raise
    return made


def restore(connection: TcpConnection) -> socket.socket:
    """Return the connection in this kernel, still in repair mode; `go_on` follows.

    Its address has to be this host's.  Raises OSError if the address or the port is not free.
    """
    made = socket.socket(family(connection.local), socket.SOCK_STREAM)
    try:
        _restore(made, connection)
    except OSError:
        made.close()
        raise
    return made


def _restore(made: socket.socket, connection: TcpConnection) -> None:
    # Without SO_REUSEADDR: in repair mode the kernel shares ports by itself, unless asked to.
    _set(made, _REPAIR, _ON)
    room = max(connection.send_buffer, len(connection.sent) + len(connection.unsent)) + _AT_ONCE
    made.setsockopt(socket.SOL_SOCKET, _SNDBUFFORCE, room)
    room = max(connection.receive_buffer, 2 * len(connection.received)) + _AT_ONCE
    made.setsockopt(socket.SOL_SOCKET, _RCVBUFFORCE, room)
    with suppress(OSError):  # this host may not have it, and then uses its own
        made.setsockopt(_TCP, socket.TCP_CONGESTION, connection.congestion_control.encode())
    _set(made, _REPAIR_QUEUE, _SEND_QUEUE)
    _set(made, _QUEUE_SEQ, connection.send_seq)
    _set(made, _REPAIR_QUEUE, _RECEIVE_QUEUE)
    _set(made, _QUEUE_SEQ, connection.receive_seq)
    _set(made, _REPAIR_QUEUE, _NO_QUEUE)
    made.bind((str(connection.local.address), connection.local.port))
    made.connect((str(connection.remote.address), connection.remote.port))
    block(made)
    options = connection.options
    agreed = [(_OPTION_MSS, options.mss)]
    if options.scales:
        agreed.append((_OPTION_SCALE, options.scales[0] | options.scales[1] << 16))
    if options.sack:
        agreed.append((_OPTION_SACK, 0))
    if options.timestamp is not None:
        agreed.append((_OPTION_TIMESTAMP, 0))
    made.setsockopt(_TCP, _REPAIR_OPTIONS, b"".join(struct.pack("=II", *each) for each in agreed))
    if options.timestamp is not None:
        _set(made, _TIMESTAMP, options.timestamp)
    _set(made, _REPAIR_QUEUE, _RECEIVE_QUEUE)
    _fill(made, connection.received)
    _set(made, _REPAIR_QUEUE, _SEND_QUEUE)
    _fill(made, connection.sent)
    window = _window_of(connection)
    made.setsockopt(_TCP, _REPAIR_WINDOW, _WINDOW.pack(*vars(window).values()))
    _set(made, _REPAIR_QUEUE, _NO_QUEUE)
    made.setsockopt(_TCP, socket.TCP_NODELAY, int(connection.no_delay))
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, int(connection.keep_alive))


def go_on(each: socket.socket, unsent: bytes = b"", *, closed: bool = False) -> None:
    """Let the connection continue.

    At the destination, `unsent` is what was never sent, and `closed` says that the task had closed
    its direction; at the source, neither is given.  Returns at once: the send buffer grows until
    all of it fits.  If the peer has reset the connection meanwhile, the task finds it ended.
    """
    unblock(each)
    _set(each, _REPAIR, _OFF)
    # Leaving repair mode takes it away.
    each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    with suppress(ConnectionError):
        _send_all(each, unsent)
    if closed:
        with suppress(OSError):  # not connected any more
            each.shutdown(socket.SHUT_WR)
    with suppress(OSError):  # since Linux 5.14; before, buffers keep their size
        each.setsockopt(socket.SOL_SOCKET, _BUF_LOCK, 0)


def _send_all(each: socket.socket, octets: bytes) -> None:
    waiting = memoryview(octets)
    while waiting:
        try:
            waiting = waiting[each.send(waiting, socket.MSG_DONTWAIT) :]
        except BlockingIOError:
            room = each.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) + len(waiting)
            each.setsockopt(socket.SOL_SOCKET, _SNDBUFFORCE, room)


def _window_of(connection: TcpConnection) -> SendWindow:
    """Return a window that the kernel accepts.

    Nothing of it may lie beyond what has been received, to which a FIN of the peer does not belong
    yet.
    """
    received = (connection.receive_seq + len(connection.received)) & 0xFFFFFFFF
    if connection.state in FIN_RECEIVED:
        return replace(connection.window, rcv_wup=received)
    return connection.window


def _fill(made: socket.socket, octets: bytes) -> None:
    """Put octets into the selected queue."""
    waiting = memoryview(octets)
    at_once = _AT_ONCE
    while waiting:
        try:
            waiting = waiting[made.send(waiting[:at_once]) :]
        except OSError as error:
            if error.errno not in (errno.ENOMEM, errno.ENOBUFS) or at_once < 4096:
                raise
            at_once //= 2


# -- the kernel's words ----------------------------------------------------------------------------


def _set(each: socket.socket, option: int, value: int) -> None:
    each.setsockopt(_TCP, option, struct.pack("=I", value & 0xFFFFFFFF))


def _get(each: socket.socket, option: int) -> int:
    value: int
    (value,) = struct.unpack("=I", each.getsockopt(_TCP, option, 4))
    return value


def _ioctl(each: socket.socket, request: int) -> int:
    found = array.array("i", [0])
    fcntl.ioctl(each.fileno(), request, found, True)
    return found[0]


def _peek(each: socket.socket, octets: int) -> bytes:
    """Return the selected queue, with one call that has room for all of it."""
    if not octets:
        return b""
    found = each.recv(octets, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    if len(found) != octets:
        raise NotMovable(f"the kernel shows {len(found)} of {octets} octets of a queue")
    return found


def endpoint(name: tuple[str, int]) -> Endpoint:
    """Return an endpoint; an IPv4 connection of an IPv6 socket counts as IPv4."""
    address = ip_address(name[0].partition("%")[0])
    return Endpoint(getattr(address, "ipv4_mapped", None) or address, name[1])


def family(end: Endpoint) -> socket.AddressFamily:
    """Return the address family of sockets with this endpoint."""
    return socket.AF_INET if end.address.version == 4 else socket.AF_INET6
