"""A task's name in the DNS, and how it is pointed to other addresses (adapter; R4.2.1.1).

This is done by a signed (TSIG, RFC 8945) dynamic update (RFC 2136): the name's old addresses are
deleted and the new ones added in one message, which a server carries out as a whole or not at all.
A message that only has prerequisites changes nothing, and shows beforehand whether the server is
reachable, accepts the key, and has the name at the expected addresses.
"""

import base64
import secrets
import socket
import time
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Final

import dns.exception
import dns.message
import dns.name
import dns.query
import dns.rcode
import dns.tsig
from dns.update import UpdateMessage

from nve.model import IPAddress

PORT: Final = 53
ALGORITHM: Final = "hmac-sha256"
TRY_S: Final = 0.5
"""How long to wait for an answer before the message is sent again, in seconds."""
PATIENCE_S: Final = 2.0
"""How long to wait in all, in seconds."""

_ELSEWHERE: Final = "there it does not lead to {addresses}"
_WHY: Final = {
    dns.rcode.NXRRSET: _ELSEWHERE,
    dns.rcode.NXDOMAIN: _ELSEWHERE,
    dns.rcode.NOTAUTH: "it is no authority for {zone}",
    dns.rcode.REFUSED: "it takes no updates from us",
}


class NameServerError(RuntimeError):
    """The name could not be pointed elsewhere; the message says why."""


@dataclass(frozen=True)
class UpdateKey:
    """The key that client and server of updates share."""

    name: str
    secret: str
    """base64, 32 octets."""

    @classmethod
    def new(cls, name: str = "vmmlab") -> "UpdateKey":
        return cls(name, base64.b64encode(secrets.token_bytes(32)).decode())


@dataclass(frozen=True)
class TaskName:
    """The name of a task."""

    host: str
    """The name within the zone."""
    zone: str
    ttl_s: int

    def __str__(self) -> str:
        return f"{self.host}.{self.zone}"


def confirmation(name: TaskName, addresses: Iterable[IPAddress], key: UpdateKey) -> UpdateMessage:
    """Return a message that changes nothing, and fails unless the name has exactly these addresses.

    RFC 2136 section 2.4.2.
    """
    message = _message(name, key)
    for address in addresses:
        message.present(name.host, _type_of(address), str(address))
    return message


def leading_to(name: TaskName, addresses: Iterable[IPAddress], key: UpdateKey) -> UpdateMessage:
    """Return a message that gives the name these addresses and no others.

    RFC 2136 sections 2.5.2 and 2.5.1.
    """
    message = _message(name, key)
    for kind in ("A", "AAAA"):
        message.delete(name.host, kind)
    for address in addresses:
        message.add(name.host, name.ttl_s, _type_of(address), str(address))
    return message


def _message(name: TaskName, key: UpdateKey) -> UpdateMessage:
    signed = dns.tsig.Key(key.name, key.secret, ALGORITHM)
    return UpdateMessage(f"{name.zone}.", keyring=signed)


def _type_of(address: IPAddress) -> str:
    return "A" if address.version == 4 else "AAAA"


class LedName:
    """A name that a server of its zone points to a task's addresses."""

    def __init__(self, name: TaskName, server: IPAddress, key: UpdateKey) -> None:
        self._name = name
        self._server = server
        self._key = key

    def __str__(self) -> str:
        return str(self._name)

    @property
    def ttl_s(self) -> int:
        return self._name.ttl_s

    @property
    def family(self) -> socket.AddressFamily:
        """The address family of the sockets that reach the server."""
        return socket.AF_INET if self._server.version == 4 else socket.AF_INET6

    def confirm(self, addresses: Sequence[IPAddress], opened: socket.socket) -> None:
        """Raise NameServerError unless the name has these addresses, and could be given others.

        The question is sent by a datagram socket, which is closed afterwards, as `lead` does.
        """
        self._carry_out(confirmation(self._name, addresses, self._key), addresses, opened)

    def lead(self, addresses: Sequence[IPAddress], opened: socket.socket) -> None:
        """Point the name to these addresses from now on.  Raises NameServerError."""
        self._carry_out(leading_to(self._name, addresses, self._key), addresses, opened)

    def _carry_out(
        self, message: UpdateMessage, addresses: Sequence[IPAddress], opened: socket.socket
    ) -> None:
        name = self._name
        place = f"the name server {self._server}"
        try:
            answer = self._answer(message, opened)
        except dns.tsig.PeerError as error:
            raise NameServerError(f"{place} refuses our signature ({error})") from None
        except dns.exception.Timeout:
            raise NameServerError(f"{place} does not answer an update of {name}") from None
        except (dns.exception.DNSException, OSError) as error:
            raise NameServerError(f"{place} cannot be told of {name}: {error}") from None
        if answer.rcode() != dns.rcode.NOERROR:
            why = _WHY.get(answer.rcode(), dns.rcode.to_text(answer.rcode()))
            told = why.format(addresses=", ".join(map(str, addresses)), zone=name.zone)
            raise NameServerError(f"{place} refuses an update of {name}: {told}")

    def _answer(self, message: UpdateMessage, opened: socket.socket) -> dns.message.Message:
        """Return the answer to a message, which may be sent again: repeating it asks for the
        same.
        """
        until_s = time.monotonic() + PATIENCE_S
        with closing(opened):
            opened.setblocking(False)
            while True:
                left_s = until_s - time.monotonic()
                try:
                    return dns.query.udp(
                        message,
                        str(self._server),
                        timeout=max(0.0, min(TRY_S, left_s)),
                        port=PORT,
                        sock=opened,
                        ignore_unexpected=True,
                    )
                except dns.exception.Timeout:
                    if left_s <= TRY_S:
                        raise
