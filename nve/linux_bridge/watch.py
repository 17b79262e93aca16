"""Listens to the kernel's notifications about the forwarding databases of all edges."""

import logging
import selectors
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from ipaddress import ip_address

from nve.linux.namespace import inside
from nve.linux.netlink import attributes
from nve.linux_bridge.bridge import LinuxBridge
from nve.linux_bridge.fdb import FdbChange
from nve.model import Mac, TenantSystem

log = logging.getLogger("vmmlab.fdb")

Tell = Callable[[int, LinuxBridge, FdbChange], None]
"""tell(t_ns, edge, change): called by the watch's own thread, one change after the other."""

# linux/rtnetlink.h, linux/neighbour.h, asm-generic/socket.h
_RTM_NEWNEIGH, _RTM_DELNEIGH, _RTMGRP_NEIGH = 28, 29, 4
_NUD_PERMANENT, _NDA_DST, _NDA_LLADDR = 0x80, 1, 2
_MESSAGE = struct.Struct("=IH10x")  # length, kind, and flags, sequence, port
_NEIGHBOUR = struct.Struct("=B3xiH2x")  # family, interface, state, and flags, type
_SO_RCVBUFFORCE = 33
_ROOM_BYTES, _LONGEST = 4 << 20, 1 << 16


class FdbWatch:
    """Listens from `start` to `stop`; `tell` gets every change of a learned entry."""

    def __init__(self, edges: Iterable[LinuxBridge], tell: Tell) -> None:
        self._edges = tuple(edges)
        self._tell = tell
        self._selector = selectors.DefaultSelector()
        self._wake, self._woken = socket.socketpair()
        self._thread = threading.Thread(target=self._listen, daemon=True)

    def start(self) -> None:
        for edge in self._edges:
            with inside(edge.pid):
                ear = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
            ear.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _ROOM_BYTES)
            ear.bind((0, _RTMGRP_NEIGH))
            self._selector.register(ear, selectors.EVENT_READ, edge)
        self._selector.register(self._woken, selectors.EVENT_READ, None)
        self._thread.start()

    def stop(self) -> None:
        """Stop listening; this is safe at any time."""
        self._wake.close()
        if self._thread.ident is not None:
            self._thread.join()
        for key in list((self._selector.get_map() or {}).values()):
            self._selector.unregister(key.fileobj)
            if isinstance(key.fileobj, socket.socket):
                key.fileobj.close()
        self._woken.close()
        self._selector.close()

    def _listen(self) -> None:
        while True:
            for key, _ in self._selector.select():
                if key.data is None:
                    return
                assert isinstance(key.fileobj, socket.socket)
                try:
                    octets = key.fileobj.recv(_LONGEST)
                except OSError as error:  # too many came at once: some are lost
                    log.warning(
                        "%s: not all changes of its FDB are heard: %s", key.data.name, error
                    )
                    continue
                t_ns = time.time_ns()
                for change in _changes(key.data, octets):
                    self._tell(t_ns, key.data, change)


def _changes(edge: LinuxBridge, octets: bytes) -> Iterator[FdbChange]:
    """Yield what a notification says about learned addresses.

    It is parsed by hand, as in `nve.linux.netlink`: pyroute2 takes milliseconds for each, and the
    time noted for the next one would be late by that.
    """
    place = 0
    while place < len(octets):
        length, kind = _MESSAGE.unpack_from(octets, place)
        family, number, state = _NEIGHBOUR.unpack_from(octets, place + _MESSAGE.size)
        device = edge.device(number)
        about_fdb = kind in (_RTM_NEWNEIGH, _RTM_DELNEIGH) and family == socket.AF_BRIDGE
        if about_fdb and device and not state & _NUD_PERMANENT:
            vni, interface = device
            told = octets[place + _MESSAGE.size + _NEIGHBOUR.size : place + length]
            said = attributes(told)
            there = said.get(_NDA_DST)
            yield FdbChange(
                TenantSystem(vni, Mac(said[_NDA_LLADDR].hex(":"))),
                interface,
                ip_address(there) if there else None,
                gone=kind == _RTM_DELNEIGH,
            )
        place += (length + 3) & ~3
