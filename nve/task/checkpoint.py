"""A task that has been packaged: what its program remembers, and its sockets with their queues.

    octets    what
    8         `vmmlabCP`
    2         version of the format
    8         how many octets follow
    16        XXH3 digest of what follows: against damage, not against forgery
    4         length of the head
    …         the head, JSON: the task, its program, its sockets with the lengths of their queues
    …         the program's state, then the queues of each socket: received, sent, unsent

A checkpoint is read back only if it is complete: another file, another version, one that is cut off
or changed, or one whose head is not allowed, is refused with a sentence (CheckpointError).
"""

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Annotated, Final, TypeAlias

from pydantic import Field, TypeAdapter, ValidationError
from xxhash import xxh3_128

from nve.model import IPAddress
from nve.task.tcp_states import FATES, Fate, TcpState

VERSION: Final = 3
LONGEST: Final = 1 << 31
"""The largest size of a checkpoint, in octets."""

WIDEST: Final = 1 << 20
"""The widest congestion window of a checkpoint, in segments."""

_MARK: Final = b"vmmlabCP"
PREFIX: Final = struct.Struct("!8sHQ16s")
_LENGTH: Final = struct.Struct("!I")

Port: TypeAlias = Annotated[int, Field(ge=1, le=65535)]
U32: TypeAlias = Annotated[int, Field(ge=0, le=2**32 - 1)]
Scale: TypeAlias = Annotated[int, Field(ge=0, le=14)]


class CheckpointError(ValueError):
    """The octets are no checkpoint that can be restored; the message says why."""


@dataclass(frozen=True)
class Endpoint:
    """One end of a connection."""

    address: IPAddress
    port: Port

    def __str__(self) -> str:
        shown = f"[{self.address}]" if self.address.version == 6 else str(self.address)
        return f"{shown}:{self.port}"


@dataclass(frozen=True)
class SendWindow:
    """The windows in the kernel's form (TCP_REPAIR_WINDOW)."""

    snd_wl1: U32
    snd_wnd: U32
    max_window: U32
    rcv_wnd: U32
    rcv_wup: U32


@dataclass(frozen=True)
class TcpOptions:
    """The options on which both sides agreed when they connected."""

    mss: Annotated[int, Field(ge=1, le=65535)]
    sack: bool
    scales: tuple[Scale, Scale] | None
    """The scales of the peer's window and of the task's own (RFC 7323)."""
    timestamp: U32 | None
    """The task's own timestamp clock; None without timestamps."""


@dataclass(frozen=True)
class TcpConnection:
    """A connection that is continued elsewhere."""

    local: Endpoint
    remote: Endpoint
    state: TcpState
    options: TcpOptions
    window: SendWindow
    send_seq: U32
    """The number of the first octet that is sent and not acknowledged, or else of the next one."""
    receive_seq: U32
    """The number of the first octet that the task has not read."""
    congestion_control: Annotated[str, Field(max_length=16)]
    no_delay: bool
    keep_alive: bool
    send_buffer: Annotated[int, Field(ge=0, le=1 << 30)]
    receive_buffer: Annotated[int, Field(ge=0, le=1 << 30)]
    congestion_window: Annotated[int, Field(ge=1, le=WIDEST)] = 10
    """In segments."""
    delivered_bps: Annotated[int, Field(ge=0)] = 0
    """How fast the peer has got data lately; nothing is set by it."""
    received: bytes = b""
    """What the task has not read yet."""
    sent: bytes = b""
    """What was sent and is not acknowledged."""
    unsent: bytes = b""

    def __str__(self) -> str:
        return f"{self.local}-{self.remote}"

    @property
    def queued(self) -> int:
        """The number of octets in its queues."""
        return len(self.received) + len(self.sent) + len(self.unsent)


@dataclass(frozen=True)
class Listener:
    """A socket that listens."""

    local: Endpoint
    backlog: Annotated[int, Field(ge=0, le=1 << 20)]

    def __str__(self) -> str:
        return str(self.local)


MovedSocket: TypeAlias = TcpConnection | Listener | None
"""A socket of the task; None stands for one that it no longer has."""


@dataclass(frozen=True)
class Checkpoint:
    """A packaged task."""

    task: str
    program: str
    sockets: tuple[MovedSocket, ...]
    """In the program's order; connections that nobody has accepted yet come last."""
    state: bytes = b""

    @property
    def connections(self) -> list[TcpConnection]:
        return [each for each in self.sockets if isinstance(each, TcpConnection)]

    def octets(self) -> bytes:
        """Return the package as one piece, as it is sent or stored."""
        return b"".join(self.parts())

    def parts(self) -> list[bytes]:
        """Return the package in parts; copying the queues would prolong the freeze."""
        queues = [
            queue for each in self.connections for queue in (each.received, each.sent, each.unsent)
        ]
        head = _HEAD.dump_json(
            _Head(
                replace(self, sockets=tuple(map(_without_queues, self.sockets)), state=b""),
                tuple(map(len, (self.state, *queues))),
            )
        )
        body = [_LENGTH.pack(len(head)), head, self.state, *queues]
        return [PREFIX.pack(_MARK, VERSION, sum(map(len, body)), _digest(body)), *body]

    @classmethod
    def of(cls, octets: bytes | bytearray) -> "Checkpoint":
        """Read a checkpoint back.  Raises CheckpointError."""
        if len(octets) < PREFIX.size:
            raise CheckpointError(f"the checkpoint is cut off: {len(octets)} octets")
        body = memoryview(octets)[PREFIX.size :]
        length = length_of(octets[: PREFIX.size])
        if len(body) != length:
            raise CheckpointError(
                f"the checkpoint says that it has {length} octets, and it has {len(body)}"
            )
        *_, digest = PREFIX.unpack_from(octets)
        if _digest([body]) != digest:
            raise CheckpointError("the checkpoint has been changed: its digest is another one")
        return _read(body)


@dataclass(frozen=True)
class _Head:
    checkpoint: Checkpoint
    lengths: tuple[Annotated[int, Field(ge=0)], ...]


_HEAD: Final = TypeAdapter(_Head)


def length_of(prefix: bytes | bytearray) -> int:
    """Return how many octets follow the PREFIX of a checkpoint.  Raises CheckpointError."""
    mark, version, length, _ = PREFIX.unpack(prefix)
    if mark != _MARK:
        raise CheckpointError("this is no checkpoint of a task")
    if version != VERSION:
        raise CheckpointError(
            f"the checkpoint has version {version} of the format, and here is version {VERSION}; "
            "let both hosts have the same vmmlab"
        )
    if not _LENGTH.size <= length <= LONGEST:
        raise CheckpointError(f"the checkpoint says that it has {length} octets")
    return int(length)


def _read(body: memoryview) -> Checkpoint:
    (length,) = _LENGTH.unpack_from(body)
    place = _LENGTH.size + length
    try:
        head = _HEAD.validate_json(bytes(body[_LENGTH.size : place]))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "its head"
        raise CheckpointError(f"the checkpoint is wrong at {where}: {first['msg']}") from None
    found = head.checkpoint
    if len(head.lengths) != 1 + 3 * len(found.connections) or place + sum(head.lengths) != len(
        body
    ):
        raise CheckpointError("the checkpoint has other queues than its head says")
    parts = _cut(body, place, head.lengths)
    state = next(parts)
    return replace(
        found, state=state, sockets=tuple(_with_queues(each, parts) for each in found.sockets)
    )


def _cut(body: memoryview, place: int, lengths: tuple[int, ...]) -> Iterator[bytes]:
    for length in lengths:
        yield bytes(body[place : place + length])
        place += length


def _without_queues(each: MovedSocket) -> MovedSocket:
    if isinstance(each, TcpConnection):
        return replace(each, received=b"", sent=b"", unsent=b"")
    return each


def _with_queues(each: MovedSocket, parts: Iterator[bytes]) -> MovedSocket:
    if not isinstance(each, TcpConnection):
        return each
    if FATES[each.state] is not Fate.MIGRATED:
        raise CheckpointError(f"the connection {each} is {each.state.name}, which cannot move")
    received, sent, unsent = next(parts), next(parts), next(parts)
    return replace(each, received=received, sent=sent, unsent=unsent)


def _digest(body: Iterable[bytes | memoryview]) -> bytes:
    found = xxh3_128()
    for part in body:
        found.update(part)
    return found.digest()
