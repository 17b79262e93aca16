"""The hypervisor's side of a VM: its plugs, its pausing and its announcements (RFC 8394).

    lay_cable       its server is wired to an NVE              plug and port; nothing forwarded
    associate       the VM starts at an NVE                    plug forwards
    pre_associate   a place for it at another NVE              gate; nothing forwarded yet
    pause           it stops: neither computes nor answers     plug shut, processes frozen
    activate        it goes on, at the other NVE               plug flipped, announcement sent,
                                                               processes thawed, gate opened
    resume          it goes on where it was                    (a move that was given up)
    de_associate    its old place is taken away                gate removed, plug shut

Cables to the NVEs that a VM is going to visit are laid before an experiment begins, as servers are
wired before VMs move: a new link in an NVE's namespace makes the userspace datapath of Open vSwitch
read its routes again, and lose what it tunnels for some milliseconds.

Each step is recorded with the time at which it took effect.  What an emulation cannot do: the
guest kernel's timers go on while its VM is paused.
"""

import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from nve import announce, freezer
from nve.bridge import OvsInstance
from nve.gate import Gate
from nve.model import VmSpec
from nve.namespace import inside
from nve.plug import NIC, Plug

Note = Callable[[int, str, str, dict[str, object]], None]
"""note(t_ns, event, VM, details): takes a line of the trace."""


@dataclass
class _Place:
    """A VM's place at one NVE."""

    plug: Plug
    gate: Gate | None = None


class Hypervisor:
    """One VM.  `port` is the number of its OpenFlow port, the same at every NVE."""

    def __init__(self, vm: VmSpec, pid: int, cgroup: Path, port: int, note: Note) -> None:
        self.vm = vm
        self.port = port
        self._pid = pid
        self._cgroup = cgroup
        self._note = note
        self._places: dict[str, _Place] = {}
        self._active: str | None = None
        with inside(pid):
            # Ready beforehand: opening a packet socket takes longer than a whole switch-over.
            self._raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
            self._raw.bind((NIC, 0))

    def lay_cable(self, nve: OvsInstance) -> None:
        """Wire the VM to an NVE, unless it is; nothing is forwarded."""
        if nve.name in self._places:
            return
        offloads = nve.datapath == "system"
        plug = Plug.create(self.vm.name, nve.name, self._pid, nve.pid, offloads=offloads)
        self._places[nve.name] = _Place(plug)
        nve.add_port(plug.nve_interface, self.port)

    def associate(self, nve: OvsInstance) -> None:
        """Start at an NVE."""
        self.lay_cable(nve)
        self._places[nve.name].plug.set_forwarding(True)
        self._active = nve.name

    def pre_associate(self, nve: OvsInstance, *, hold: bool) -> None:
        """Make a place at another NVE.  With `hold`, what arrives there waits for the VM."""
        self.lay_cable(nve)
        place = self._places[nve.name]
        place.gate = Gate(self._pid, place.plug.vm_interface) if hold else None
        self._record("pre-associated", nve=nve.name, hold=hold)

    def pause(self) -> None:
        """Stop the VM: from now on it neither computes nor sends, receives or answers."""
        assert self._active is not None
        started_ns = time.time_ns()
        self._places[self._active].plug.set_forwarding(False)
        freezer.freeze(self._cgroup)
        self._note(started_ns, "vm-paused", self.vm.name, {"nve": self._active})

    def resume(self) -> None:
        """Let the VM go on where it was."""
        assert self._active is not None
        self._places[self._active].plug.set_forwarding(True)
        freezer.thaw(self._cgroup)
        self._record("vm-resumed", nve=self._active)

    def activate(self, nve: str, form: str) -> None:
        """Let the VM go on at another NVE, and announce it in `form` (see `nve.announce`)."""
        assert self._active is not None
        frames = announce.frames(self.vm, form)
        place = self._places[nve]
        # Usually shut by `pause`; at no time may two plugs forward.
        if self._places[self._active].plug.forwarding:
            self._places[self._active].plug.set_forwarding(False)
        place.plug.set_forwarding(True)
        self._active = nve
        flipped_ns = time.time_ns()
        # First of all, as hypervisors do it: nothing that the VM says is to be heard before this.
        for frame in frames:
            self._raw.send(frame)
        announced_ns = time.time_ns()
        freezer.thaw(self._cgroup)
        resumed_ns = time.time_ns()
        if place.gate:
            place.gate.open()
        self._note(flipped_ns, "nic-flipped", self.vm.name, {"nve": nve})
        if frames:
            self._note(announced_ns, "announced", self.vm.name, {"form": form})
        self._note(resumed_ns, "vm-resumed", self.vm.name, {"nve": nve})

    def de_associate(self, nve: str) -> None:
        """Take the VM's place at an NVE away, where it does not run.

        The record says what found no room in the gate that the VM has come through.
        """
        assert self._active is not None
        place, active = self._places[nve], self._places[self._active]
        place.plug.set_forwarding(False)
        if place.gate:
            place.gate.remove()
            place.gate = None
        overflow = active.gate.dropped() if active.gate else 0
        self._record("de-associated", nve=nve, hold_overflow=overflow)

    def close(self) -> None:
        self._raw.close()

    def _record(self, event: str, **details: object) -> None:
        self._note(time.time_ns(), event, self.vm.name, details)
