"""The hypervisor's side of a VM: its plugs, its pausing and its announcements (RFC 8394).

    lay_cable       its server is wired to an NVE              plug, lane, ports; nothing forwarded
    expect_visit    it is going to come there                  gates, open; nothing forwarded yet
    associate       the VM starts at an NVE                    plug forwards
    pre_associate   a place for it at another NVE              gates closed
    pause           it stops: neither computes nor answers     plug shut, processes frozen
    flip            it is the other NVE's                      plug flipped
    announce        it is announced there                      announcement sent
    thaw            it goes on there                           processes thawed
    open            what waited there reaches it               gate opened
    release         what it has sent there since, goes out     outbound gate opened
    settle          what was there for the pause alone ends    announcement repeated
    resume          it goes on where it was                    (a move that was given up)
    de_associate    its old place is taken away                plug shut, gates open

Cables to the NVEs that a VM is going to visit are laid before an experiment begins, as servers are
wired before VMs move: a new link in an NVE's namespace makes a userspace edge read its routes
again, and lose what it tunnels for some milliseconds.  Their gates are made then, too, and stay.

Each step is recorded with the time at which it took effect.  What an emulation cannot do: the
guest kernel's timers go on while its VM is paused.
"""

import json
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from nve.edge import Edge
from nve.hypervisor import freezer
from nve.hypervisor.announcer import Announcer
from nve.hypervisor.drain_probe import DrainProbe, run_dry
from nve.hypervisor.gate import Gate
from nve.hypervisor.outbound_gate import OutboundGate
from nve.hypervisor.plug import NIC, Plug, set_forwarding
from nve.hypervisor.realtime import first_in_line
from nve.hypervisor.reorder_buffer import ReorderBuffer
from nve.linux.namespace import run_in
from nve.linux.steering import take_in_by_one_processor
from nve.model import Bounds, Rank, VmSpec
from nve.wire.announcement import Announcement

Note = Callable[[int, str, str, dict[str, object]], None]
"""note(t_ns, event, VM, details) takes an event of the trace."""


@dataclass
class _Place:
    """A VM's place at one NVE.  `cables` are the plug and, if there is one, its lane."""

    plug: Plug
    lane: Plug | None
    outbound: OutboundGate | None
    """Holds what the VM sends here, until what it has sent elsewhere has arrived."""
    gates: list[Gate] = field(default_factory=list)
    """The gates of its cables, in their order, once the VM is expected to come here."""
    reorder_buffer: ReorderBuffer | None = None
    patience: threading.Timer | None = None
    """The timer that ends the holding, if nothing else does."""
    drain_probes: list[DrainProbe] = field(default_factory=list)
    """The drain probes of its cables, once the VM is about to leave."""

    @property
    def cables(self) -> list[Plug]:
        return [cable for cable in (self.plug, self.lane) if cable]

    def set_forwarding(self, forwarding: bool) -> None:
        set_forwarding(self.cables, forwarding)

    def follow_carrier(self, follows: bool) -> None:
        """Have cables that forward follow their carrier, or not; others are left alone."""
        for cable in self.cables:
            if cable.forwarding:
                cable.follow_carrier(follows)


class PartsOfPause:
    """Measures how long each part of a pause takes, beginning when this is created."""

    def __init__(self) -> None:
        self.began_ns = self._last_ns = time.time_ns()
        self.ms: dict[str, float] = {}

    def ends(self, part: str) -> int:
        """End a part and begin the next; return the time."""
        now_ns = time.time_ns()
        self.ms[f"{part}_ms"] = (now_ns - self._last_ns) / 1e6
        self._last_ns = now_ns
        return now_ns


class Hypervisor:
    """The hypervisor of one VM.  `port` is the number of the VM's port, the same at every NVE.

    `bounds` limit what waits for the VM, if anything may; with end markers it has a reorder buffer
    (see `nve.hypervisor.reorder_buffer`).
    """

    def __init__(
        self,
        vm: VmSpec,
        pid: int,
        cgroup: Path,
        port: int,
        note: Note,
        bounds: Bounds | None,
    ) -> None:
        self.vm = vm
        self.port = port
        self._bounds = bounds
        self._pid = pid
        self._cgroup = cgroup
        self._note = note
        self._places: dict[str, _Place] = {}
        self._active: str | None = None
        self._resumed_ns = 0
        self._parts = PartsOfPause()
        self._stopping = ExitStack()
        """Ends that the VM's processes go first."""
        self._announcer = Announcer(vm, pid, self._record)

    @property
    def at(self) -> str:
        """The NVE where the VM is."""
        assert self._active is not None, f"{self.vm.name} has not started"
        return self._active

    def lay_cable(self, nve: Edge) -> None:
        """Wire the VM to an NVE, unless it is already; nothing is forwarded."""
        if nve.name in self._places:
            return
        plug = self._lay(nve)
        if self._bounds is None or self._bounds.markers_s is None:
            place = _Place(plug, None, None)
        else:
            take_in_by_one_processor(nve.pid, [plug.nve_interface])
            outbound = OutboundGate(self._pid, plug.vm_interface, self._bounds)
            place = _Place(plug, self._lay(nve, lane=True), outbound)
        self._places[nve.name] = place
        for cable in place.cables:
            nve.plug_in(cable.nve_interface, self.vm, self.port, lane=cable.lane)

    def expect_visit(self, nve: Edge) -> None:
        """Wire the VM to an NVE that it is not at and is going to come to, unless that is done."""
        self.lay_cable(nve)
        place = self._places[nve.name]
        if self._bounds and not place.gates:
            place.gates = [
                Gate(self._pid, cable.vm_interface, self._bounds) for cable in place.cables
            ]

    def _lay(self, nve: Edge, *, lane: bool = False) -> Plug:
        return Plug.create(
            self.vm.name, nve.name, self._pid, nve.pid, offloads=nve.offloads, lane=lane
        )

    def expect_to_lose_announcements(self) -> None:
        """Get ready to lose announcements, before the VM sends anything."""
        self._announcer.lay_filter()

    def associate(self, nve: Edge) -> None:
        """Start the VM at an NVE that knows its port: it may send at once."""
        self.lay_cable(nve)
        place = self._places[nve.name]
        place.set_forwarding(True)
        place.follow_carrier(True)
        self._active = nve.name

    def pre_associate(
        self, nve: Edge, announcement: Announcement, *, hold_outbound: bool = False
    ) -> None:
        """Make a place at another NVE, where the VM is going to announce itself like this.

        Within its bounds, what arrives there waits for the VM; with `hold_outbound`, what the VM
        sends there waits to be released.
        """
        self.expect_visit(nve)
        self._announcer.prepare(announcement)
        if self._active:
            left = self._places[self._active]
            left.follow_carrier(False)
            if not left.drain_probes:
                left.drain_probes = [DrainProbe.of(cable) for cable in left.cables]
        place = self._places[nve.name]
        self._hold_no_more(place)
        if self._bounds:
            not_asked = partial(self._record, "markers-not-asked-for", nve=nve.name)
            place.reorder_buffer = ReorderBuffer(self._pid, self._bounds, not_asked, *place.gates)
            place.patience = self._timer(nve.name, self._bounds)
        if hold_outbound and place.outbound:
            place.outbound.close()
            self._announcer.pass_by(place.plug.vm_interface)
        self._record("pre-associated", nve=nve.name, hold=self._bounds is not None)

    def hold_anew(self, nve: str) -> None:
        """Restart the time for which packets may wait for the VM at a place."""
        place = self._places[nve]
        if self._bounds and place.patience:
            place.patience.cancel()
            place.patience = self._timer(nve, self._bounds)

    def pause(self) -> None:
        """Suspend the VM: from now on it neither computes nor sends, receives or answers.

        Its processes are stopped first, as what they send to a NIC that is shut would be lost.
        Before that, what its NVE has delivered reaches the VM.
        """
        place = self._places[self.at]
        self._announcer.stop()
        # A process stops only once it is its turn.  One that computes must not go first for longer.
        listed = (self._cgroup / "cgroup.procs").read_text(encoding="utf-8")
        stopping = dict.fromkeys(map(int, listed.split()), Rank.SERVER)
        self._stopping.enter_context(first_in_line(stopping))
        self._parts = PartsOfPause()
        freezer.freeze(self._cgroup)
        self._parts.ends("freeze")
        dry = run_dry(place.drain_probes)
        self._parts.ends("drain")
        place.set_forwarding(False)
        self._parts.ends("shut")
        self._note(self._parts.began_ns, "vm-paused", self.vm.name, {"nve": self.at})
        if not dry:
            self._record("not-run-dry", nve=self.at)

    def resume(self) -> None:
        """Resume the VM where it was."""
        self._stopping.close()
        place = self._places[self.at]
        place.set_forwarding(True)
        self.thaw()
        place.follow_carrier(True)

    def lose_ipv4_address(self) -> None:
        """Remove the IPv4 address, which a diskless VM cannot keep: it has to ask for it again
        (R4.1.5).
        """
        run_in(self._pid, ["ip", "-4", "address", "flush", "dev", NIC])
        self._record("address-lost", address=str(self.vm.ipv4))

    def flip(self, nve: str) -> None:
        """Plug the VM into another NVE."""
        self._parts.ends("away")
        # The old plug is usually shut by `pause`; at no time may two forward.
        if self._places[self.at].plug.forwarding:
            self._places[self.at].set_forwarding(False)
        self._places[nve].set_forwarding(True)
        self._active = nve
        self._note(self._parts.ends("flip"), "nic-flipped", self.vm.name, {"nve": nve})

    def announce(self) -> None:
        """Announce the VM where it is, before it sends anything else there."""
        self._announcer.announce()
        self._parts.ends("announce")

    def thaw(self) -> None:
        """Let the VM's processes run again."""
        freezer.thaw(self._cgroup)
        self._resumed_ns = self._parts.ends("thaw")
        self._note(self._resumed_ns, "vm-resumed", self.vm.name, {"nve": self.at})

    def open(self) -> None:
        """Let through what waited for the VM where it is."""
        place = self._places[self.at]
        if place.reorder_buffer and place.patience:
            place.reorder_buffer.open()
            self._parts.ends("open")

    def settle(self) -> None:
        """End what was there for the pause alone."""
        place = self._places[self.at]
        if place.patience:
            place.patience.cancel()
        for nve, other in self._places.items():
            if nve != self.at and other.reorder_buffer:
                other.reorder_buffer.ignore_markers()
        self._stopping.close()
        place.follow_carrier(True)
        self._announcer.repeat()
        self._record("parts-of-pause", nve=self.at, **self._parts.ms)

    def release(self) -> None:
        """Let out what the VM has sent since it runs here; what it sent elsewhere has arrived.

        The time that this took is part neither of the pause nor of the network's delay.
        """
        outbound = self._places[self.at].outbound
        if outbound and outbound.closed:
            packets = outbound.open()
            held_ms = (time.time_ns() - self._resumed_ns) / 1e6
            details = {"packets": packets, "held_ms": held_ms, "overflow": outbound.dropped()}
            self._record("outbound-released", nve=self.at, **details)

    def await_delivery(self, nve: str) -> None:
        """Return when nothing is held any more at an NVE to keep the order of packets to the VM.

        This takes no longer than markers may.
        """
        reorder_buffer = self.reorder_buffer(nve)
        if reorder_buffer:
            reorder_buffer.await_delivery()

    def de_associate(self, nve: str) -> None:
        """Take away the VM's place, if any, at an NVE where it does not run.

        The trace says what found no room in the gates of that place.
        """
        assert self.at != nve, f"{self.vm.name} runs at {nve}"
        if nve not in self._places:
            return
        place, active = self._places[nve], self._places[self.at]
        place.set_forwarding(False)
        self._hold_no_more(place)
        active.follow_carrier(True)  # a move that was undone has left it otherwise
        overflow = active.reorder_buffer.dropped() if active.reorder_buffer else 0
        self._record("de-associated", nve=nve, hold_overflow=overflow)

    def reorder_buffer(self, nve: str) -> ReorderBuffer | None:
        """Return the VM's reorder buffer at an NVE, or None."""
        place = self._places.get(nve)
        return place.reorder_buffer if place else None

    def _timer(self, nve: str, bounds: Bounds) -> threading.Timer:
        timer = threading.Timer(bounds.time_s, self._give_up, [nve])
        timer.daemon = True
        timer.start()
        return timer

    def _give_up(self, nve: str) -> None:
        """Drop what has waited for the VM for too long."""
        reorder_buffer = self._places[nve].reorder_buffer
        if reorder_buffer:
            reorder_buffer.give_up()
            self._record("hold-given-up", nve=nve)

    @staticmethod
    def _hold_no_more(place: _Place) -> None:
        if place.reorder_buffer and place.patience:
            place.patience.cancel()
            place.reorder_buffer.end()
        if place.outbound:
            place.outbound.open()
        place.reorder_buffer = place.patience = None

    def plugged(self) -> list[str]:
        """Return the NVEs whose plug forwards, as the kernel has it: one, or none in a pause."""
        ports = json.loads(run_in(self._pid, ["bridge", "-j", "link", "show"]))
        forwarding = {port["ifname"] for port in ports if port["state"] == "forwarding"}
        places = self._places.items()
        return [nve for nve, place in places if place.plug.vm_interface in forwarding]

    def close(self) -> None:
        self._announcer.close()
        for place in self._places.values():
            for drain_probe in place.drain_probes:
                drain_probe.close()
            if place.outbound:
                place.outbound.end()
            if place.reorder_buffer and place.patience:
                place.patience.cancel()
                place.reorder_buffer.close()
            for gate in place.gates:
                gate.end()

    def unplug(self) -> None:
        """Remove the cables of a VM that has ended, and whose ports the switches have removed."""
        self.close()
        for place in self._places.values():
            for cable in place.cables:
                cable.remove()
        self._places.clear()

    def _record(self, event: str, **details: object) -> None:
        self._note(time.time_ns(), event, self.vm.name, details)
