"""Gives an address to a host, takes it away, and announces who has it (adapter; R4.2.1.1).

A task's address is its host's for as long as the task is there, but is used for the task only: the
host does not choose it as the source of anything else.  `HostAddresses` works in the network
namespace in which it was made, and opens everything beforehand: opening a packet socket alone takes
longer than a whole move.
"""

import enum
import fcntl
import os
import socket
import struct
import threading
from collections.abc import Sequence
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from nve.linux.netlink import ACK, REQUEST, Netlink, attribute
from nve.model import IPAddress, Mac
from nve.wire.frames import ALL_NODES, ARP_REQUEST, advertisement, broadcast_arp

# linux/rtnetlink.h, linux/if_addr.h, linux/neighbour.h, linux/netlink.h
_NEW_ADDRESS, _DEL_ADDRESS, _NEW_NEIGHBOUR = 20, 21, 28
_ADDRESS, _LOCAL, _CACHE_INFO, _FLAGS = 1, 2, 6, 8
# linux/fib_rules.h
_NEW_RULE, _DEL_RULE = 32, 33
_RULE_TO, _RULE_INTERFACE, _RULE_PREFERENCE = 1, 3, 6
_TO_TABLE, _BLACKHOLE, _UNREACHABLE, _LOCAL_TABLE = 1, 6, 7, 255
_BEFORE_LOCAL, _LOCAL_LATER = 10, 100
"""Preferences of rules; Linux has the local table at 0, ahead of anything else."""
_NO_DAD, _NO_PREFIX_ROUTE = 0x02, 0x200
_FOR_EVER: Final = 0xFFFFFFFF
_EXCLUSIVE, _CREATE, _REPLACE = 0x200, 0x400, 0x100
_USE, _NEIGHBOUR_ADDRESS = 1, 1
_GET_MAC: Final = 0x8927
"""linux/sockios.h, SIOCGIFHWADDR."""
_NO_MAC: Final = "00:00:00:00:00:00"


AGAIN_AFTER_S: Final = (1, 2, 4, 8, 16, 32)
"""An announcement is repeated after so long each, for who keeps the mapping may have been away."""


class Suspended(enum.StrEnum):
    """What the old host does with packets for an address that it no longer has (R4.2.1.1)."""

    DROP = "drop"
    UNREACHABLE = "unreachable"
    """ICMP host unreachable, or ICMPv6 address unreachable, to whoever has sent it."""
    PORT_UNREACHABLE = "port-unreachable"
    """ICMP or ICMPv6 port unreachable to whoever has sent it, as if only the program were gone."""


class HostAddresses:
    """The addresses of one interface of a host."""

    def __init__(self, interface: str) -> None:
        self._interface = interface
        self._index = socket.if_nametoindex(interface)
        self._netlink = Netlink(os.getpid())
        self._voice = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        self._voice.bind((interface, 0))
        asked = struct.pack("256s", interface.encode())
        answer = fcntl.ioctl(self._voice, _GET_MAC, asked)
        self._mac = Mac(answer[18:24].hex(":"))

    def keep_out(self, address: IPAddress) -> None:
        """Drop silently what the interface gets for an address, which the host may have, and what
        is sent to it on the host itself.

        A host that has an address and no connection yet would answer its segments with resets.
        """
        family = _family(address)
        # The local table is consulted later than Linux has it, so that a rule can precede it.
        with suppress(FileExistsError):
            self._rule(_NEW_RULE, family, _TO_TABLE, _LOCAL_LATER)
        with suppress(FileNotFoundError):  # since an earlier task
            self._rule(_DEL_RULE, family, _TO_TABLE, 0)
        for interface, action in self._ways_in:
            with suppress(FileExistsError):
                self._rule(_NEW_RULE, family, action, _BEFORE_LOCAL, address, interface)

    def let_in(self, address: IPAddress) -> None:
        """End `keep_out`, if it was begun."""
        for interface, action in self._ways_in:
            with suppress(FileNotFoundError):
                self._rule(_DEL_RULE, _family(address), action, _BEFORE_LOCAL, address, interface)

    @property
    def _ways_in(self) -> Sequence[tuple[str, int]]:
        """What brings packets to the host, and how they are dropped.

        Those of the host itself are its loopback interface's.  A program that connects then is told
        that the network is unreachable.
        """
        return (self._interface, _BLACKHOLE), ("lo", _UNREACHABLE)

    def _rule(
        self,
        kind: int,
        family: int,
        action: int,
        preference: int,
        to: IPAddress | None = None,
        interface: str = "",
    ) -> None:
        table = _LOCAL_TABLE if action == _TO_TABLE else 0
        length = to.max_prefixlen if to else 0
        body = struct.pack("=BBBBBBBBI", family, length, 0, 0, table, 0, 0, action, 0)
        body += attribute(_RULE_PREFERENCE, struct.pack("=I", preference))
        if to:
            body += attribute(_RULE_TO, to.packed)
            body += attribute(_RULE_INTERFACE, interface.encode() + b"\0")
        create = _CREATE | _EXCLUSIVE if kind == _NEW_RULE else 0
        self._netlink.ask(kind, REQUEST | ACK | create, body)

    def add(self, address: IPAddress) -> None:
        """Give the host an address without announcing it.  Raises OSError if it has it already."""
        never_chosen = struct.pack("=4I", 0, _FOR_EVER, 0, 0)
        flags = struct.pack("=I", _NO_DAD | _NO_PREFIX_ROUTE)
        more = attribute(_FLAGS, flags)
        if address.version == 6:
            more += attribute(_CACHE_INFO, never_chosen)
        self._netlink.ask(
            _NEW_ADDRESS, REQUEST | ACK | _CREATE | _EXCLUSIVE, self._said(address) + more
        )

    def remove(self, address: IPAddress) -> None:
        """Take an address from the host.  Raises OSError if it does not have it."""
        self._netlink.ask(_DEL_ADDRESS, REQUEST | ACK, self._said(address))

    def keep_announcing(self, addresses: Sequence[IPAddress]) -> threading.Event:
        """Everybody is told again that they are here, until the event that is returned is set."""
        gone = threading.Event()

        def again() -> None:
            for after_s in AGAIN_AFTER_S:
                if gone.wait(after_s):
                    return
                for address in addresses:
                    self.announce(address)

        threading.Thread(target=again, daemon=True).start()
        return gone

    def announce(self, address: IPAddress) -> None:
        """Announce an address with gratuitous ARP, or a neighbour advertisement."""
        if isinstance(address, IPv4Address):
            frame = broadcast_arp(ARP_REQUEST, (self._mac, address), (_NO_MAC, address))
        else:
            frame = advertisement((self._mac, address), ALL_NODES, solicited=False)
        self._voice.send(frame)

    def resolve(self, neighbour: IPAddress) -> None:
        """Ask for a neighbour's MAC address before it is needed; returns at once."""
        body = struct.pack("=BxxxiHBB", _family(neighbour), self._index, 0, _USE, 0)
        body += attribute(_NEIGHBOUR_ADDRESS, neighbour.packed)
        with suppress(OSError):  # no direct neighbour; it may be behind a router
            self._netlink.ask(_NEW_NEIGHBOUR, REQUEST | ACK | _CREATE | _REPLACE, body)

    def _said(self, address: IPAddress) -> bytes:
        family, length = _family(address), address.max_prefixlen
        body = struct.pack("=BBBBI", family, length, 0, 0, self._index)
        return body + attribute(_LOCAL, address.packed) + attribute(_ADDRESS, address.packed)

    def close(self) -> None:
        self._netlink.close()
        self._voice.close()


def _family(address: IPAddress) -> int:
    return socket.AF_INET6 if isinstance(address, IPv6Address) else socket.AF_INET
