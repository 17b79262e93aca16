"""A diskless client's protocol: its request, what counts as an answer, and when it repeats itself.

Reverse ARP (RFC 903) has no numbers that tell requests apart: an answer that comes late, after the
client has repeated its request, is taken for an answer to the last one.  An answer carries an
address and no netmask.  The RFC does not say how long to wait: here waits double from 0.1 s up to 2
s.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from ipaddress import IPv4Address

from nve.model import Mac
from nve.wire.announcement import reverse_arp
from nve.wire.frames import RARP, RARP_REPLY, ethertype, read_arp

FIRST_WAIT_S, LONGEST_WAIT_S = 0.1, 2.0


@dataclass(frozen=True)
class Request:
    """One request and its outcome.  `used`: the client had no address and took this one."""

    t_ns: int
    attempt: int
    answered_ns: int | None = None
    answer: str | None = None
    used: bool = False

    @property
    def round_trip_ms(self) -> float | None:
        return None if self.answered_ns is None else (self.answered_ns - self.t_ns) / 1e6

    def line(self) -> str:
        return json.dumps(asdict(self)) + "\n"


def request(mac: Mac) -> bytes:
    """Return the frame that asks for one's own address."""
    return reverse_arp(mac)


def answer(frame: bytes, mac: Mac) -> IPv4Address | None:
    """Return the address that a frame tells the client with this MAC, or None if it is no such
    reply.
    """
    try:
        if ethertype(frame) != RARP:
            return None
        told = read_arp(frame)
    except ValueError:
        return None
    for_us = (told.operation, told.target_mac.hex(":")) == (RARP_REPLY, mac)
    return told.target_ip if for_us else None


def waits_s() -> Iterator[float]:
    """Yield how long to wait for an answer, attempt by attempt."""
    wait_s = FIRST_WAIT_S
    while True:
        yield wait_s
        wait_s = min(2 * wait_s, LONGEST_WAIT_S)


def requests(lines: Iterable[str]) -> list[Request]:
    """Return what a client has written; an incomplete last line is left out, as it is killed at the
    end.
    """
    return [Request(**json.loads(line)) for line in lines if line.endswith("\n")]


def rows(client: str, made: Iterable[Request]) -> list[tuple[object, ...]]:
    """Return lines of requests.csv."""
    return [
        (r.t_ns, client, r.attempt, r.answered_ns, r.round_trip_ms, r.answer, r.used) for r in made
    ]
