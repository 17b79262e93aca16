"""Support for kernels that have no IPv6 (`ipv6.disable=1`), or whose container shows none.

Such a kernel has no IPv6 sockets, nothing below /proc/sys/net/ipv6, and refuses `ip` commands that
mention IPv6.  VMs then have IPv4 addresses only.  `namespace`, which runs commands in a namespace
and sets its sysctls, leaves out what is for IPv6 only; no other module has to know.
"""

import socket
from collections.abc import Iterable, Sequence
from functools import cache
from ipaddress import ip_interface
from pathlib import Path

SYSCTLS = Path("/proc/sys/net/ipv6")
_GIVE_AN_ADDRESS = (["addr", "add"], ["neigh", "replace"], ["route", "add"])
_GENERATION = "addrgenmode"
"""The word of `ip link` for how the kernel makes an interface's link-local address."""


@cache
def available() -> bool:
    """Return whether this kernel has IPv6.  The answer is cached as long as the process lives."""
    try:
        socket.socket(socket.AF_INET6, socket.SOCK_DGRAM).close()
    except OSError:
        return False
    return SYSCTLS.is_dir()


def udp_socket(port: int) -> socket.socket:
    """Return a socket that receives on a port, over IPv4, and over IPv6 if the kernel has it.

    It is in the network namespace of the thread.  Raises OSError if the port is in use.
    """
    if not available():
        only = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        only.bind(("", port))
        return only
    both = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    both.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    both.bind(("::", port))
    return both


def left_out(commands: Iterable[str]) -> Sequence[str]:
    """Return `ip` commands without their IPv6 parts."""
    return [left for command in commands if (left := _without(command.split()))]


def _without(words: Sequence[str]) -> str:
    if list(words[:2]) in _GIVE_AN_ADDRESS and _is_ipv6(words[2]):
        return ""
    if _GENERATION not in words:
        return " ".join(words)
    place = words.index(_GENERATION)
    left = [*words[:place], *words[place + 2 :]]
    says_more = left[:2] != ["link", "set"] or len(left) > len(["link", "set", "interface"])
    return " ".join(left) if says_more else ""


def _is_ipv6(address: str) -> bool:
    try:
        return ip_interface(address).version == 6
    except ValueError:  # `default`, as in routes
        return False
