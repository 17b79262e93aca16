"""Two instances of one service that both answer, and count as one (hot standby, R7.4).

One *leads*: it gives the numbers.  The other *follows*.  A change is stored at both before it is
answered, so that whichever of them is left knows of all that a client was told:

    asked at the leader     leader stores, Store -> follower stores, Stored -> leader answers
    asked at the follower   Propose -> leader stores, Store -> follower stores and answers

Either takes one round trip.  Messages may be lost, late, doubled or out of order: `again` says what
has to be sent once more.  Without the other one, nothing is answered that was not answered before,
until an instance is told to go on *alone*.  That is told to one of them, and once: by whoever has
made sure that the other one answers nobody any more (`controller.core.pairs`).  An instance that is
alone takes nothing from the other, and says nothing to it.

A client asks for one thing at a time, with numbers that grow: what it asks again is answered with
the same number, and what is older than its last request is dropped.

No clock and no sockets here: `nve.guest.paired` has those.  A `Replica` is a value, and each input
returns the next one with what has to be done, in order.
"""

import enum
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Self, TypeAlias

from nve.guest.service import ServiceReply, ServiceRequest

_DATAGRAM = struct.Struct("!4s8sBQQQQQ")
# mark, token, kind, number, client, request, writes, disk writes
_MARK = b"vmm2"
LONGEST = _DATAGRAM.size
TOKEN_SIZE = 8


class ReplicaRole(enum.Enum):
    """What an instance does for the other one."""

    LEADS = "leads"
    FOLLOWS = "follows"
    ALONE = "alone"


@dataclass(frozen=True)
class Propose:
    """The follower was asked this, and wants a number for it."""

    asked: ServiceRequest


@dataclass(frozen=True)
class Store:
    """The leader has answered this request with this number, as far as it is concerned."""

    number: int
    asked: ServiceRequest


@dataclass(frozen=True)
class Stored:
    """The follower has stored all numbers up to this one."""

    number: int


Message: TypeAlias = Propose | Store | Stored
Action: TypeAlias = Message | ServiceReply
"""A message for the other instance, or a reply for a client that has asked here."""


@dataclass(frozen=True)
class Replica:
    """One of the two.  It has counted up to `counter`."""

    role: ReplicaRole
    counter: int = 0
    stored: int = 0
    """Of a leader: both have stored all up to this."""
    given: Mapping[int, ServiceReply] = field(default_factory=dict)
    """The last of each client."""
    waiting: tuple[ServiceRequest, ...] = ()
    """Asked here, and not answered yet."""
    unconfirmed: tuple[Store, ...] = ()
    """Of a leader: what the follower may not have stored."""
    newest: ServiceRequest | None = None
    """That of `counter`."""

    def asked(self, request: ServiceRequest) -> tuple[Self, tuple[Action, ...]]:
        """A client has asked here."""
        known = self.given.get(request.client)
        if known and request.request < known.request:
            return self, ()
        if known and request.request == known.request and self._is_at_both(known.counter):
            return self, (known,)
        waits = self
        if request not in self.waiting:
            waits = replace(self, waiting=(*self.waiting, request))
        if known and request.request == known.request:
            return waits, ()
        if self.role is ReplicaRole.FOLLOWS:
            return waits, (Propose(request),)
        return waits._number(request)

    def heard(self, message: Message) -> tuple[Self, tuple[Action, ...]]:
        """The other instance has said this."""
        match self.role, message:
            case ReplicaRole.LEADS, Propose(asked):
                known = self.given.get(asked.client)
                if known is None or known.request < asked.request:
                    return self._number(asked)
                return self, tuple(each for each in self.unconfirmed if each.asked == asked)
            case ReplicaRole.LEADS, Stored(number) if self.stored < number <= self.counter:
                unconfirmed = tuple(each for each in self.unconfirmed if each.number > number)
                return replace(self, stored=number, unconfirmed=unconfirmed)._answered()
            case ReplicaRole.FOLLOWS, Store(number, asked):
                if number != self.counter + 1:  # one before it is under way again, or it is old
                    return self, (Stored(self.counter),)
                after, replies = self._put(asked)._answered()
                return after, (Stored(number), *replies)
        return self, ()

    def again(self) -> tuple[Message, ...]:
        """What the other instance may not have heard."""
        if self.role is ReplicaRole.LEADS:
            return self.unconfirmed
        if self.role is ReplicaRole.FOLLOWS:
            return tuple(map(Propose, self.waiting))
        return ()

    def alone(self) -> tuple[Self, tuple[Action, ...]]:
        """The other instance is gone, and answers nobody any more: what waits is answered."""
        after = replace(self, role=ReplicaRole.ALONE, unconfirmed=(), stored=0)
        for request in self.waiting:
            known = after.given.get(request.client)
            if known is None or known.request < request.request:
                after = after._put(request)
        return after._answered()

    def _is_at_both(self, number: int) -> bool:
        """Whether a number that is stored here is stored wherever it has to be."""
        return self.role is not ReplicaRole.LEADS or number <= self.stored

    def _number(self, request: ServiceRequest) -> tuple[Self, tuple[Action, ...]]:
        """A leader, or an instance that is alone, gives the next number."""
        after = self._put(request)
        if self.role is ReplicaRole.ALONE:
            return after._answered()
        store = Store(after.counter, request)
        return replace(after, unconfirmed=(*after.unconfirmed, store)), (store,)

    def _put(self, request: ServiceRequest) -> Self:
        number = self.counter + 1
        reply = ServiceReply(request.client, request.request, number)
        given = {**self.given, request.client: reply}
        return replace(self, counter=number, given=given, newest=request)

    def _answered(self) -> tuple[Self, tuple[Action, ...]]:
        """Those who wait for what is at both by now have their answers."""
        replies: list[Action] = []
        waiting = []
        for request in self.waiting:
            known = self.given.get(request.client)
            if known is None or known.request < request.request:
                waiting.append(request)
            elif known.request == request.request:
                if self._is_at_both(known.counter):
                    replies.append(known)
                else:
                    waiting.append(request)
        return replace(self, waiting=tuple(waiting)), tuple(replies)


@dataclass(frozen=True)
class ReplicaDatagram:
    """One message with what surrounds it.  Without a message it says that its sender is there.

    `writes` and `disk_writes` say how far the sender's own work is: the follower does as much.
    """

    token: bytes
    message: Message | None
    writes: int = 0
    disk_writes: int = 0

    def octets(self) -> bytes:
        kind, number, asked = 0, 0, ServiceRequest(0, 0)
        match self.message:
            case Propose(asked):
                kind = 1
            case Store(number, asked):
                kind = 2
            case Stored(number):
                kind = 3
        return _DATAGRAM.pack(
            *(_MARK, self.token, kind, number, asked.client, asked.request),
            *(self.writes, self.disk_writes),
        )

    @classmethod
    def of(cls, octets: bytes, token: bytes) -> Self | None:
        """None if it is none, or of another pair."""
        if len(octets) != _DATAGRAM.size:
            return None
        mark, theirs, kind, number, client, request, writes, disk = _DATAGRAM.unpack(octets)
        asked = ServiceRequest(client, request)
        messages: dict[int, Message | None] = {
            0: None,
            1: Propose(asked),
            2: Store(number, asked),
            3: Stored(number),
        }
        if (mark, theirs) != (_MARK, token) or kind not in messages:
            return None
        return cls(token, messages[kind], writes, disk)
