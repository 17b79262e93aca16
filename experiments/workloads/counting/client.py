"""A client of a guest's service, run in a VM.

    python -m experiments.workloads.counting.client --client N --address A --rate-rps R --out FILE

It prints that it is ready, reads the time to start from a line on its standard input, and sends one
request after the other: each at its due time, or when the one before was answered, whichever is
later.  It is ended with a signal.
"""

import argparse
import socket
import sys
import time
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path
from typing import TextIO

from experiments.probes.process import say
from experiments.workloads.counting.exchange import AGAIN_S, Exchange
from nve.guest.service import LONGEST, ServiceReply, ServiceRequest
from nve.guest.spec import SERVICE_PORT
from nve.linux.wait import readable, sleep_until


class ServiceClient:
    """Sends requests to one server, and writes each down."""

    def __init__(self, number: int, address: str, notes: TextIO) -> None:
        version = ip_address(address).version
        family = socket.AF_INET if version == 4 else socket.AF_INET6
        self._socket = socket.socket(family, socket.SOCK_DGRAM)
        self._target = (address, SERVICE_PORT)
        self._number = number
        self._notes = notes

    def ask(self, number: int) -> None:
        """Send a request and return when it is answered."""
        asked = ServiceRequest(self._number, number)
        asked_ns, attempts = time.time_ns(), 0
        while True:
            attempts += 1
            self._note(Exchange(asked_ns, number, attempts))
            with suppress(OSError):  # no route for a moment: the request counts as lost
                self._socket.sendto(asked.octets(), self._target)
            if reply := self._answer(number):
                self._note(Exchange(asked_ns, number, attempts, time.time_ns(), reply.counter))
                return

    def _answer(self, number: int) -> ServiceReply | None:
        until_s = time.monotonic() + AGAIN_S
        while (left_s := until_s - time.monotonic()) > 0:
            if readable(self._socket, left_s):
                reply = self._received()
                if reply and (reply.client, reply.request) == (self._number, number):
                    return reply
        return None

    def _received(self) -> ServiceReply | None:
        try:
            return ServiceReply.of(self._socket.recv(LONGEST))
        except OSError:  # an ICMP error
            return None

    def _note(self, exchange: Exchange) -> None:
        self._notes.write(exchange.line())
        self._notes.flush()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--client", type=int, required=True)
    parser.add_argument("--address", required=True)
    parser.add_argument("--rate-rps", type=float, required=True)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    with given.out.open("w", encoding="utf-8") as notes:
        client = ServiceClient(given.client, given.address, notes)
        say(ready=True)
        start_ns = int(sys.stdin.readline() or 0)
        number = 0
        while True:
            sleep_until(start_ns + int(number / given.rate_rps * 1e9))
            number += 1
            client.ask(number)


if __name__ == "__main__":
    main()
