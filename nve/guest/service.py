"""Requests and replies of a guest's service: each request is answered with the next number.

A client gives each request a number of its own, and may repeat it: the same request is answered
with the same number as long as no other one has come in between.  The answer is part of the guest's
state, so that a client that sees it decrease has met an older state.
"""

import struct
from dataclasses import dataclass
from typing import Self

from nve.guest.registers import Registers

_REQUEST = struct.Struct("!4sQQ")  # mark, client, request
_REPLY = struct.Struct("!4sQQQ")  # mark, client, request, counter
_ASKED, _ANSWERED = b"vmm?", b"vmm!"
LONGEST = 64


@dataclass(frozen=True)
class ServiceRequest:
    """One request; `client` tells clients apart."""

    client: int
    request: int

    def octets(self) -> bytes:
        return _REQUEST.pack(_ASKED, self.client, self.request)

    @classmethod
    def of(cls, octets: bytes) -> Self | None:
        """Parse a request; return None if it is none."""
        if len(octets) != _REQUEST.size:
            return None
        mark, client, request = _REQUEST.unpack(octets)
        return cls(client, request) if mark == _ASKED else None


@dataclass(frozen=True)
class ServiceReply:
    client: int
    request: int
    counter: int

    def octets(self) -> bytes:
        return _REPLY.pack(_ANSWERED, self.client, self.request, self.counter)

    @classmethod
    def of(cls, octets: bytes) -> Self | None:
        """Parse a reply; return None if it is none."""
        if len(octets) != _REPLY.size:
            return None
        mark, client, request, counter = _REPLY.unpack(octets)
        return cls(client, request, counter) if mark == _ANSWERED else None


def answer(asked: ServiceRequest, registers: Registers) -> tuple[ServiceReply, Registers]:
    """Return the reply, and the registers that have to be stored before it is sent."""
    again = (asked.client, asked.request) == (registers.client, registers.request)
    if not again or not registers.counter:
        registers = registers.after(
            counter=registers.counter + 1, client=asked.client, request=asked.request
        )
    return ServiceReply(asked.client, asked.request, registers.counter), registers
