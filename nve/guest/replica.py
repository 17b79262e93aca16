"""Two instances of one service that both answer, and count as one (hot standby, R7.4).

One *leads*: it gives the numbers.  The other *follows*.  A change is stored at both before it is
answered, so that either of them alone knows everything that a client was told:

    asked at the leader     leader stores, Store -> follower stores, Stored -> leader answers
    asked at the follower   Propose -> leader stores, Store -> follower stores and answers

Both take one round trip.  Messages may be lost, late, duplicated or out of order: `again` returns
what has to be repeated.  Without its partner an instance gives only answers that were given before,
until it is told to continue *alone*.  Only one of them is told so, and once: by the part that has
made sure that the other one answers nobody any more (`controller.core.pairs`).  An instance that is
alone accepts nothing from the other, and sends nothing to it.

A client has one request at a time, with growing numbers: a repeated request is answered with the
same number, and one older than its last request is dropped.

There are no clocks or sockets here: `nve.guest.paired` has those.  A `Replica` is a value, and each
input returns the next one with what has to be done, in order.
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
    """The role of an instance in its pair."""

    LEADS = "leads"
    FOLLOWS = "follows"
    ALONE = "alone"


@dataclass(frozen=True)
class Propose:
    """The follower has got this request, and asks for a number for it."""

    asked: ServiceRequest


@dataclass(frozen=True)
class Store:
    """The leader has stored this request with this number."""

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
    """One of the two instances.  It has counted up to `counter`."""

    role: ReplicaRole
    counter: int = 0
    stored: int = 0
    """For a leader: the number up to which both have stored everything."""
    given: Mapping[int, ServiceReply] = field(default_factory=dict)
    """The last reply to each client."""
    waiting: tuple[ServiceRequest, ...] = ()
    """The requests to this instance that are not answered yet."""
    unconfirmed: tuple[Store, ...] = ()
    """For a leader: what the follower may not have stored."""
    newest: ServiceRequest | None = None
    """The request that got the number `counter`."""

    def asked(self, request: ServiceRequest) -> tuple[Self, tuple[Action, ...]]:
        """Handle a client's request to this instance."""
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
        """Handle a message of the other instance."""
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
                # An earlier one is being repeated, or this one is old.
                if number != self.counter + 1:
                    return self, (Stored(self.counter),)
                after, replies = self._put(asked)._answered()
                return after, (Stored(number), *replies)
        return self, ()

    def again(self) -> tuple[Message, ...]:
        """Return the messages that the other instance may not have received."""
        if self.role is ReplicaRole.LEADS:
            return self.unconfirmed
        if self.role is ReplicaRole.FOLLOWS:
            return tuple(map(Propose, self.waiting))
        return ()

    def alone(self) -> tuple[Self, tuple[Action, ...]]:
        """Continue alone: the other instance answers nobody any more, and what waits is
        answered.
        """
        after = replace(self, role=ReplicaRole.ALONE, unconfirmed=(), stored=0)
        for request in self.waiting:
            known = after.given.get(request.client)
            if known is None or known.request < request.request:
                after = after._put(request)
        return after._answered()

    def _is_at_both(self, number: int) -> bool:
        """Return whether a number that is stored here is stored wherever it has to be."""
        return self.role is not ReplicaRole.LEADS or number <= self.stored

    def _number(self, request: ServiceRequest) -> tuple[Self, tuple[Action, ...]]:
        """Give the next number, as a leader or an instance that is alone does."""
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
        """Answer the waiting requests whose numbers are stored at both by now."""
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
    """One message in a datagram.  Without a message, it says that its sender is alive.

    `writes` and `disk_writes` are the sender's own writes so far: the follower does as many.
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
        """Parse a datagram; return None if it is none, or of another pair."""
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
