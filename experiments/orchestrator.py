"""What a cloud manager does: it carries out a move with two hypervisors and an overlay.

A hot move, in order (sections 4.1, 5 and 7 of the draft):

    pre-associate   the destination hypervisor makes the VM's place        VM runs at the source
    prepare         the overlay makes the destination ready (R5.1)
    switch over     what still comes for the VM is in flight (R4.1.4)
    pause           the VM stops                                           guest blackout begins
                    (with `hold`, after the switch-over; without, before: what comes for the VM
                    between the two would be lost for nothing)
    transfer        its last state goes over: `pause_ms`
    activate        NIC flipped, VM announced (R4.1.2, R4.1.6), resumed    guest blackout ends
    arrive          the overlay is told (RFC 8394 activate)
    complete        old entries and the in-flight tunnel are gone (R3.5)
    de-associate    the source forgets the VM

When a step before `activate` fails, the VM is resumed where it was and the overlay rolls back.
"""

import time
from collections.abc import Mapping, Sequence

from experiments.events import Event
from experiments.overlays import Overlay, Relocation
from experiments.scenario import Move
from nve.hypervisor import Hypervisor
from nve.rules import FIRST_VM_PORT
from topologies.emulation import DataCentre

COMPLETION_TIMEOUT_S = 120.0


class Orchestrator:
    """Moves VMs of one data centre.  Moves of different VMs may run in parallel threads."""

    def __init__(self, data_centre: DataCentre, overlay: Overlay, *, hold: bool) -> None:
        self._data_centre = data_centre
        self._overlay = overlay
        self._hold = hold
        self.events: list[Event] = []
        self.where: dict[str, str] = {}
        self._hypervisors = {
            name: Hypervisor(vm.spec, vm.pid, vm.cgroup, FIRST_VM_PORT + index, self._note)
            for index, (name, vm) in enumerate(data_centre.vms.items())
        }

    @property
    def hypervisors(self) -> Mapping[str, Hypervisor]:
        return self._hypervisors

    def start_vms(self, moves: Sequence[Move]) -> None:
        """Every VM starts where the scenario says, wired to every NVE it is going to visit."""
        for move in moves:
            self._hypervisors[move.vm].lay_cable(self._data_centre.nves[move.to].bridge)
        for name, vm in self._data_centre.vms.items():
            hypervisor = self._hypervisors[name]
            hypervisor.associate(self._data_centre.nves[vm.spec.nve].bridge)
            self._overlay.attach(vm.spec, vm.spec.nve, hypervisor.port)
            self.where[name] = vm.spec.nve

    def move(self, number: int, move: Move) -> None:
        """Carry out one move and return when nothing is left of it.

        Raises what the failing step raised, after the VM was brought back where possible.
        """
        hypervisor = self._hypervisors[move.vm]
        source, destination = self.where[move.vm], move.to
        relocation = Relocation(number, hypervisor.vm, source, destination, hypervisor.port)
        self._record("move-requested", move.vm, number=number, source=source, to=destination)
        place = self._data_centre.nves[destination].bridge
        paused = False
        try:
            hypervisor.pre_associate(place, hold=self._hold)
            self._overlay.prepare(relocation)
            if self._hold:
                # Nothing that comes for the VM may meet a paused one: what is not in flight by now
                # is delivered to it, and what is waits at the destination.
                self._switch_over(relocation)
            paused = True
            hypervisor.pause()
            resume_at_s = time.monotonic() + move.pause_ms / 1000
            if not self._hold:
                self._switch_over(relocation)
            time.sleep(max(0.0, resume_at_s - time.monotonic()))
        except Exception:
            self._record("move-failed", move.vm, number=number)
            if paused:
                hypervisor.resume()
            self._overlay.roll_back(relocation)
            hypervisor.de_associate(destination)
            raise
        hypervisor.activate(destination, move.announce)
        self.where[move.vm] = destination
        self._overlay.arrive(relocation, announced=move.announce != "none")
        self._overlay.complete(relocation, COMPLETION_TIMEOUT_S)
        self._overlay.release(relocation)
        hypervisor.de_associate(source)

    def _switch_over(self, relocation: Relocation) -> None:
        switch = self._data_centre.nves[relocation.source].bridge
        # What the switch has forwarded and not yet counted, it would count as in flight.
        switch.follow_rules_now()
        self._overlay.switch_over(relocation)
        switch.follow_rules_now()

    def close(self) -> None:
        for hypervisor in self._hypervisors.values():
            hypervisor.close()

    def _record(self, event: str, vm: str, *, number: int, **details: object) -> None:
        renamed = {"from" if key == "source" else key: value for key, value in details.items()}
        self.events.append(Event(time.time_ns(), "runner", event, vm, {"move": number, **renamed}))

    def _note(self, t_ns: int, event: str, vm: str, details: dict[str, object]) -> None:
        self.events.append(Event(t_ns, "hypervisor", event, vm, details))
