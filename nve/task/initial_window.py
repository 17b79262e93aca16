"""Lets a connection that is restored begin with the congestion window that it had (adapter).

No socket option of Linux sets a congestion window.  A route's metric does: a connection that is
made begins with `initcwnd` of its route (ip-route(8)).  So while a connection is restored, there is
a host route to its peer, like the route that is used anyway, with this metric.  It is gone before
the connection sends anything, and then the usual route is taken.

A window says how much the path from the source took, and the path from here is another one:
`LARGEST` bounds it.  Each route costs some tenths of a millisecond of the freeze, so only the
`MOST` widest windows of a task are carried.  The round-trip time and the threshold of slow start
are not: the kernel takes them from a route only together with its own record of an earlier
connection (`ip tcp_metrics`), to which nobody can add.
"""

import os
import socket
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Final

from nve.linux.netlink import ACK, REQUEST, Netlink, attribute, attributes
from nve.model import IPAddress

USUAL: Final = 10
"""Segments with which the kernel begins by itself (RFC 6928)."""
LARGEST: Final = 4096
"""Segments; of 1,460 octets each, 6 MB: 1 Gbit/s with 48 ms there and back."""
MOST: Final = 16

# linux/rtnetlink.h
_NEW_ROUTE, _DEL_ROUTE, _GET_ROUTE = 24, 25, 26
_CREATE, _EXCLUSIVE = 0x400, 0x200
_ROUTE: Final = struct.Struct("=8BI")
_TO, _FROM, _INTERFACE, _GATEWAY, _PREFERENCE, _METRICS = 1, 2, 4, 5, 6, 8
_INITIAL_WINDOW = 11
_MAIN_TABLE, _STATIC, _UNICAST = 254, 4, 1
_EVERYWHERE, _ON_LINK = 0, 253
"""Scopes."""
_GATEWAY_IS_ON_LINK = 4
_FIRST: Final = struct.pack("=I", 1)


def carried(windows: Sequence[int]) -> list[int | None]:
    """Return with how many segments each begins; None: as the kernel begins by itself."""
    widest = sorted(range(len(windows)), key=lambda place: -windows[place])[:MOST]
    return [
        min(segments, LARGEST) if place in widest and segments > USUAL else None
        for place, segments in enumerate(windows)
    ]


class InitialWindows:
    """Sets the initial windows of connections, in the network namespace of its creator."""

    def __init__(self) -> None:
        self._netlink = Netlink(os.getpid())

    @contextmanager
    def of(self, own: IPAddress, peer: IPAddress, segments: int | None) -> Iterator[None]:
        """Make connections of the block begin with so many segments, where that can be done."""
        made = b""
        if segments is not None:
            with suppress(OSError):  # then it begins as any other does
                route = self._like_the_usual(own, peer, segments)
                self._netlink.ask(_NEW_ROUTE, REQUEST | ACK | _CREATE | _EXCLUSIVE, route)
                made = route
        try:
            yield
        finally:
            if made:
                with suppress(OSError):
                    self._netlink.ask(_DEL_ROUTE, REQUEST | ACK, made)

    def _like_the_usual(self, own: IPAddress, peer: IPAddress, segments: int) -> bytes:
        """Return the body of a message about a route.  Raises OSError if there is none."""
        family = socket.AF_INET if peer.version == 4 else socket.AF_INET6
        length = peer.max_prefixlen
        to = attribute(_TO, peer.packed)
        question = _ROUTE.pack(family, length, length, 0, 0, 0, 0, 0, 0)
        question += to + attribute(_FROM, own.packed)
        answer = self._netlink.ask(_GET_ROUTE, REQUEST, question)
        kind = _ROUTE.unpack_from(answer)[7]
        if kind != _UNICAST:
            raise OSError(f"{peer} is not behind a usual route")
        found = attributes(answer[_ROUTE.size :])
        metric = attribute(_INITIAL_WINDOW, struct.pack("=I", segments))
        kept = {name: found[name] for name in (_INTERFACE, _GATEWAY) if name in found}
        scope = _EVERYWHERE if _GATEWAY in found else _ON_LINK
        flags = _GATEWAY_IS_ON_LINK if _GATEWAY in found else 0
        body = _ROUTE.pack(family, length, 0, 0, _MAIN_TABLE, _STATIC, scope, _UNICAST, flags)
        body += to + attribute(_PREFERENCE, _FIRST)
        body += b"".join(attribute(name, content) for name, content in kept.items())
        return body + attribute(_METRICS, found.get(_METRICS, b"") + metric)

    def close(self) -> None:
        self._netlink.close()
