"""Datagrams by which servers know of each other: a standby's, its primary's, and some witnesses'.

They cross the underlay from VTEP to VTEP, as the tenants' packets do, and so tell a server that
runs and that nobody reaches (`experiments.run.cut_off`) from one that is dead.
"""

import socket
import time
from contextlib import suppress

from experiments.run.cut_off import Silences, pairs, witnesses
from nve.linux.namespace import inside
from topologies.emulation.data_centre import DataCentre

BEATS = 8
"""How many each server sends in the time after which another one counts as cut off."""
_LONGEST_NAME = 64


class Heartbeats:
    """The heartbeats for one standby; all calls come from one thread."""

    def __init__(self, data_centre: DataCentre, detect_s: float) -> None:
        self._data_centre = data_centre
        self._detect_s = detect_s
        self._ends: tuple[str, str] | None = None
        self._sockets: dict[str, socket.socket] = {}
        self._due_s = self._looked_s = time.monotonic()
        self._silences = Silences(self._due_s)

    def cut_off_s(self, primary: str, standby: str) -> float | None:
        """Exchange what is due; return for how long the primary's server has been cut off, or None
        if it is not.

        To be called all the time: where the last call was long ago, what was not heard says
        nothing, and it begins anew.
        """
        now_s = time.monotonic()
        if self._ends != (primary, standby) or now_s - self._looked_s > self._detect_s / 2:
            self._ends = primary, standby
            self._silences = Silences(now_s)
        self._looked_s = now_s
        third = witnesses(list(self._data_centre.nves), primary, standby)
        if now_s >= self._due_s:
            self._due_s = now_s + self._detect_s / BEATS
            for listener, speaker in pairs(primary, standby, third):
                with suppress(OSError):  # what cannot be sent is not heard
                    self._of(speaker).sendto(speaker.encode(), self._of(listener).getsockname())
        for listener in (standby, *third):
            for speaker in self._received(listener):
                self._silences.heard(listener, speaker, now_s)
        return self._silences.cut_off_s(primary, standby, third, self._detect_s, now_s)

    def _of(self, server: str) -> socket.socket:
        if server not in self._sockets:
            nve = self._data_centre.nves[server]
            family = socket.AF_INET if nve.vtep.version == 4 else socket.AF_INET6
            with inside(nve.pid):
                made = socket.socket(family, socket.SOCK_DGRAM)
            made.setblocking(False)
            made.bind((str(nve.vtep), 0))
            self._sockets[server] = made
        return self._sockets[server]

    def _received(self, listener: str) -> list[str]:
        said = []
        with suppress(OSError):  # nothing more is there, or a port is gone
            while True:
                said.append(self._of(listener).recv(_LONGEST_NAME).decode(errors="replace"))
        return said

    def close(self) -> None:
        for each in self._sockets.values():
            each.close()
