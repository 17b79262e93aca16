"""A host's addresses for Multipath TCP (RFC 8684), set in the kernel's path manager (adapter).

Peers are told of an *endpoint* over the existing connections (ADD_ADDR) and open subflows to it; if
an endpoint is deleted, its subflows are closed and peers told that it is gone (REMOVE_ADDR).  So an
address can be replaced only while the old one still works.
"""

import json
from contextlib import suppress
from typing import Final

from nve.linux.namespace import run, run_in
from nve.model import IPAddress

_MOST: Final = "8"
"""The number of further subflows of a connection, and of addresses accepted from a peer."""
_LIMITS: Final = ("ip", "mptcp", "limits", "set", "subflows", _MOST, "add_addr_accepted", _MOST)


class NoMultipath(RuntimeError):
    """The kernel has no Multipath TCP; the message says what to do."""


def allow_here() -> None:
    """Let peers add addresses in this network namespace.  Raises NoMultipath."""
    try:
        run(list(_LIMITS))
    except RuntimeError as error:
        raise _lacking(error) from None


class Endpoints:
    """The endpoints of the host that the process `pid` is in."""

    def __init__(self, pid: int, interface: str) -> None:
        self._pid = pid
        self._interface = interface

    def allow(self) -> None:
        """Let peers add addresses in the host's namespace.  Raises NoMultipath."""
        try:
            run_in(self._pid, list(_LIMITS))
        except RuntimeError as error:
            raise _lacking(error) from None

    def signal(self, address: IPAddress) -> None:
        """Tell peers that the host has this address as well."""
        place = [str(address), "dev", self._interface]
        run_in(self._pid, ["ip", "mptcp", "endpoint", "add", *place, "signal"])

    def withdraw(self, address: IPAddress) -> None:
        """Stop the use of an address by every connection, also by one that began over it."""
        listed = json.loads(run_in(self._pid, ["ip", "-j", "mptcp", "endpoint", "show"]) or "[]")
        numbers = [each["id"] for each in listed if each.get("address") == str(address)]
        for number in numbers:
            run_in(self._pid, ["ip", "mptcp", "endpoint", "delete", "id", str(number)])
        with suppress(RuntimeError):  # no connection began over it
            run_in(self._pid, ["ip", "mptcp", "endpoint", "delete", "id", "0", str(address)])

    def subflows(self, address: IPAddress) -> int:
        """Return how many subflows are established over an address."""
        shown = run_in(self._pid, ["ss", "-Htn", "state", "established", "src", str(address)])
        return len(shown.splitlines())


def _lacking(error: RuntimeError) -> NoMultipath:
    return NoMultipath(
        f"this kernel has no Multipath TCP ({error}); use Debian's kernel, or leave multipath out"
    )
