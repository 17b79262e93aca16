"""The guests of a run: one for each VM whose scenario gives it state."""

import threading
import time
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import count
from socket import socket
from typing import Any

from experiments.scenario.guests import Guest
from nve.guest.machine import NO_FILE, GuestError, GuestMachine, PairedWith, service_socket
from nve.guest.spec import PAGES_OF_A_MB, GuestSpec
from topologies.emulation.data_centre import DataCentre

PAGES_TIMEOUT_S = 300.0
"""How long a move waits for the end of an earlier post-copy, in seconds."""


ENOUGH = 0.9
"""The share of its intended rate below which a guest is reported."""


def shortfalls(facts: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Return sentences about guests that wrote less than they should; see `Guests.facts`."""
    return [
        f"the guest of {vm} has written {told['writes_reached_mb_s']:g} MB/s, and was to write "
        f"{told['writes_asked_mb_s']:g}: it paused, was throttled, or this machine is too slow"
        for vm, told in facts.items()
        if told["writes_reached_mb_s"] < ENOUGH * told["writes_asked_mb_s"]
    ]


class VmGuest:
    """The guest of one VM: where it runs, and where it is going to run."""

    def __init__(self, data_centre: DataCentre, vm: str, spec: GuestSpec) -> None:
        self.vm = vm
        self.spec = spec
        self._start = partial(data_centre.in_vm, vm)
        self._places = count(1)
        self._servers = data_centre.session.directory / "servers"
        self._socket: socket | None = None
        if spec.service:
            self._socket = service_socket(data_centre.vms[vm].pid)
        self.machine = self.place(data_centre.vms[vm].spec.nve)
        self.lost: str | None = None
        """Why nobody has its memory any more."""
        self._pages_there: threading.Event | None = None
        self._writes_before = 0
        self._began = (0.0, 0)

    @property
    def writes(self) -> int:
        """The number of pages that it has written, at all its places."""
        return self._writes_before + self.machine.log.writes

    def moved_to(self, machine: GuestMachine, pages_there: threading.Event | None) -> None:
        """Record that it runs at another place.

        If some of its pages come later, `pages_there` is the event that they have come.
        """
        self._writes_before = self.writes
        self.machine = machine
        self._pages_there = pages_there

    def is_now(self, machine: GuestMachine) -> None:
        """It had two instances, and this is the one that is left: it has done the same work."""
        self.machine = machine

    def await_pages(self) -> None:
        """Return when all its pages are where it runs.  Raises GuestError if it is lost."""
        if self._pages_there and not self._pages_there.wait(PAGES_TIMEOUT_S):
            raise GuestError(f"the guest in {self.vm} has not got all its pages")
        if self.lost:
            raise GuestError(f"the guest in {self.vm} is lost: {self.lost}")

    def lose(self, why: str) -> None:
        """Kill the guest, whose memory is lost, so that it does not run again."""
        self.lost = why
        self.machine.kill()

    def begin(self) -> None:
        """Start measuring its rate of writing."""
        self._began = (time.monotonic(), self.writes)

    def reached_mb_s(self) -> float:
        """Return its rate of writing since then, in MB/s."""
        began_s, before = self._began
        return (self.writes - before) / PAGES_OF_A_MB / (time.monotonic() - began_s)

    def place(self, nve: str, *, stored: bool = False) -> GuestMachine:
        """Return memory and disk at the server of an NVE, in which nothing runs yet.

        If `stored`, the memory is in a file there until it is loaded.
        """
        serving = self._socket.fileno() if self._socket else NO_FILE
        name = f"{self.vm}-{next(self._places)}"
        return GuestMachine(name, self.spec, self._servers / nve, serving, stored=stored)

    def launch(
        self,
        machine: GuestMachine,
        *,
        incoming: bool = False,
        without_pages: int | None = None,
        pair: PairedWith | None = None,
    ) -> None:
        """Start the guest at a place; `GuestMachine.await_ready` follows."""
        machine.launch(self._start, incoming=incoming, without_pages=without_pages, pair=pair)

    def close(self) -> None:
        self.machine.close()
        if self._socket:
            self._socket.close()


class Guests:
    """All of them, by VM.  They are launched early, because a process needs a while until it can do
    anything; `close` is safe at any time."""

    def __init__(
        self,
        data_centre: DataCentre,
        asked: Mapping[str, Guest],
        seed: int,
        paired: Collection[str] = (),
    ) -> None:
        """The guests of `paired` VMs are started elsewhere, with their second instances."""
        self._paired = paired
        self._data_centre = data_centre
        self._specs = {vm: guest.spec(seed) for vm, guest in asked.items()}
        self.of: dict[str, VmGuest] = {}
        self._started: list[VmGuest] = []

    def launch(self) -> None:
        """Start them; `await_ready` follows.  Raises GuestError."""
        for vm, spec in self._specs.items():
            self.of[vm] = VmGuest(self._data_centre, vm, spec)
        self._started = [guest for vm, guest in self.of.items() if vm not in self._paired]
        for guest in self._started:
            guest.launch(guest.machine)

    def await_ready(self) -> None:
        """Returns when all of them write.  Raises GuestError."""
        with ThreadPoolExecutor(max(1, len(self._started))) as waiting:
            for ready in [waiting.submit(each.machine.await_ready) for each in self._started]:
                ready.result()

    def problems(self, *, excused: bool) -> list[str]:
        """Return sentences about what is wrong with guests.

        A lost guest may be `excused`, because a failure was injected.
        """
        found = []
        for guest in self.of.values():
            if not guest.lost and (said := guest.machine.failure()):
                found.append(said)
            elif guest.lost and not excused:
                found.append(f"the guest in {guest.vm} is lost: {guest.lost}")
        return found

    def begin(self) -> None:
        """Begin the experiment: start measuring rates."""
        for guest in self.of.values():
            guest.begin()

    def facts(self) -> dict[str, Any]:
        """Return for the manifest how fast each should write, and how fast it has written.

        Writes to its disk are included, and pauses count.
        """
        return {
            vm: {
                "writes_asked_mb_s": guest.spec.writes_mb_s + guest.spec.disk_writes_mb_s,
                "writes_reached_mb_s": round(guest.reached_mb_s(), 2),
            }
            for vm, guest in self.of.items()
        }

    def close(self) -> None:
        for guest in self.of.values():
            guest.close()
