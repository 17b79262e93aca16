"""The service of one of two instances: the sockets and clock around `nve.guest.replica`.

The other instance is on another server, and is reached over the underlay by a socket that the
hypervisor has made for the two.
"""

import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

from nve.guest import replica, service
from nve.guest.dirty_log import DirtyLog
from nve.guest.replica import Action, Message, Replica, ReplicaDatagram, ReplicaRole
from nve.guest.service import ServiceReply, ServiceRequest

AGAIN_S = 0.03
"""The time after which a message without confirmation is repeated, in seconds."""
ALIVE_S = 0.05
"""The interval at which an instance reports at least that it is alive, and its writes, in
seconds."""


class PairedService:
    """The service; call `take_turn` whenever something has come, and at least every `ALIVE_S`."""

    def __init__(
        self,
        serving: socket.socket,
        other: socket.socket,
        token: bytes,
        role: ReplicaRole,
        log: DirtyLog,
    ) -> None:
        self.sockets = serving, other
        self.work = (0, 0)
        """How far the leader's own work is: writes to memory and to disk."""
        self._serving, self._other = serving, other
        self._token = token
        self._log = log
        self._replica = Replica(role)
        self._senders: dict[ServiceRequest, Any] = {}
        self._said_s = self._looked_s = 0.0
        self._unconfirmed: Message | None = None
        for each in self.sockets:
            each.setblocking(False)

    @property
    def follows(self) -> bool:
        """Whether it repeats the leader's writes and does none of its own."""
        return self._replica.role is ReplicaRole.FOLLOWS

    def take_turn(self, work: tuple[int, int], keep: Callable[[Replica], None]) -> None:
        """Handle what has come.

        `work` is this instance's number of writes; `keep` is called with what has to be stored,
        before anybody is told of it.
        """
        for octets, _ in _received(self._other, replica.LONGEST + 1):
            if said := ReplicaDatagram.of(octets, self._token):
                self._log.heard_ns = time.monotonic_ns()
                if self.follows:
                    self.work = max(self.work, (said.writes, said.disk_writes))
                if said.message:
                    self._do(self._replica.heard(said.message), work, keep)
        for octets, sender in _received(self._serving, service.LONGEST):
            if asked := ServiceRequest.of(octets):
                self._log.asked += 1
                self._senders[asked] = sender
                self._do(self._replica.asked(asked), work, keep)
                if asked not in self._replica.waiting:
                    self._senders.pop(asked, None)
        self._repeat(work)

    def go_on_alone(self, work: tuple[int, int], keep: Callable[[Replica], None]) -> None:
        """Continue alone: the other instance answers nobody any more."""
        self._do(self._replica.alone(), work, keep)

    def _do(
        self,
        made: tuple[Replica, tuple[Action, ...]],
        work: tuple[int, int],
        keep: Callable[[Replica], None],
    ) -> None:
        self._replica, actions = made
        keep(self._replica)
        for action in actions:
            if isinstance(action, ServiceReply):
                self._reply(action)
            else:
                self._say(action, work)

    def _reply(self, reply: ServiceReply) -> None:
        sender = self._senders.pop(ServiceRequest(reply.client, reply.request), None)
        if sender:
            self._log.answered += 1
            try:
                self._serving.sendto(reply.octets(), sender)
            except OSError:  # as good as lost: it is asked again
                return

    def _say(self, message: Message | None, work: tuple[int, int]) -> None:
        octets = ReplicaDatagram(self._token, message, *work).octets()
        self._said_s = time.monotonic()
        try:
            self._other.send(octets)
        except OSError:  # an ICMP error, or no route: as good as lost
            return
        self._log.sent_octets += len(octets)

    def _repeat(self, work: tuple[int, int]) -> None:
        now_s = time.monotonic()
        if now_s - self._looked_s >= AGAIN_S:
            self._looked_s = now_s
            waiting = self._replica.again()
            if waiting and waiting[0] == self._unconfirmed:
                for message in waiting:
                    self._say(message, work)
            self._unconfirmed = waiting[0] if waiting else None
        if now_s - self._said_s >= ALIVE_S and self._replica.role is not ReplicaRole.ALONE:
            self._say(None, work)


def _received(from_: socket.socket, longest: int) -> Iterator[tuple[bytes, Any]]:
    """Yield the datagrams that wait in a socket."""
    while True:
        try:
            yield from_.recvfrom(longest)
        except BlockingIOError:
            return
        except OSError:  # an ICMP error that answers what was sent before
            continue
