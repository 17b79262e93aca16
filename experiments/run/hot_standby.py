"""Hot standbys: a VM with two instances that both serve, and what happens when one of them is lost.

    start      a second instance at another NVE, with the VM's addresses; both are active
    lost       its server has been dead for `detect_s`; or the two have not heard of each other for
               as long, and then it is the one that fewer clients have reached since
    fenced     the overlay has made sure that the lost one answers nobody any more
    alone      the other one is told, and continues with what both had stored

Between lost and alone neither answers anything that would need the other (`nve.guest.replica`), so
that it does not matter how long this takes, or whether it happens at all.
"""

import os
import secrets
import socket
import threading
import time
from dataclasses import dataclass, replace

import xxhash

from experiments.measure.event_log import EventLog
from experiments.measure.standby_costs import StandbyCost
from experiments.overlays import Instances, OverlayError
from experiments.run.guests import VmGuest
from experiments.run.orchestrator import Orchestrator
from experiments.scenario.standbys import StandbySpec
from nve.guest import registers
from nve.guest.machine import GuestMachine, PairedWith
from nve.guest.replica import TOKEN_SIZE, ReplicaRole
from nve.guest.spec import PAGE_SIZE
from nve.hypervisor.hypervisor import Hypervisor
from nve.linux.namespace import inside
from nve.linux.wait import wait_until
from topologies.emulation.data_centre import DataCentre

LOOK_S = 0.01
FENCE_AGAIN_S = 0.5
"""The time between two attempts to have an instance fenced, in seconds."""
VERIFY_TIMEOUT_S = 5.0
_PAGES_AT_ONCE = 256
SECOND = "B"
"""Behind a VM's name it is its second instance's; no VM of a scenario has capital letters."""


@dataclass
class _Instance:
    """One of the two instances."""

    nve: str
    guest: VmGuest
    hypervisor: Hypervisor
    machine: GuestMachine
    asked_before: int = 0
    """The number of requests it had got when it last heard of the other one."""

    @property
    def silent_s(self) -> float:
        """For how long it has not heard of the other one, in seconds."""
        return (time.monotonic_ns() - self.machine.log.heard_ns) / 1e9


class HotStandby:
    """The hot standby of one VM: `start`, `watch` in a thread of its own, `stop`, `close`."""

    def __init__(
        self,
        data_centre: DataCentre,
        guest: VmGuest,
        spec: StandbySpec,
        orchestrator: Orchestrator,
        instances: Instances,
        log: EventLog,
    ) -> None:
        self.vm = guest.vm
        self.spec = spec
        self.problems: list[str] = []
        self._data_centre = data_centre
        self._orchestrator = orchestrator
        self._overlay = instances
        self._log = log
        at, hypervisor = data_centre.vms[self.vm].spec.nve, orchestrator.hypervisors[self.vm]
        self._first = _Instance(at, guest, hypervisor, guest.machine)
        self._second: _Instance | None = None
        self._sockets: list[socket.socket] = []
        self._over = threading.Event()
        self._began_s, self._sent_before = 0.0, 0
        self._alone: _Instance | None = None
        self._lost_s = 0.0
        """When one of them was lost, by the monotonic clock."""

    @property
    def _both(self) -> tuple[_Instance, _Instance]:
        assert self._second, f"{self.vm} has no second instance yet"
        return self._first, self._second

    def start(self) -> None:
        """Return when both are active, and hear of each other.  Raises GuestError, OverlayError.

        No client has sent a request before, so that neither needs the other's state.
        """
        spec, nve = self._first.guest.spec, self._data_centre.nves[self.spec.at]
        name = f"{self.vm}{SECOND}"
        vm = replace(self._data_centre.vms[self.vm].spec, name=name, nve=nve.name)
        self._data_centre.add_vm(vm)
        added, port = self._data_centre.vms[name], self._first.hypervisor.port
        hypervisor = Hypervisor(vm, added.pid, added.cgroup, port, lambda *_: None, None)
        hypervisor.lay_cable(nve.edge)
        self._overlay.add(self.vm, nve.name, port)
        hypervisor.associate(nve.edge)
        second = VmGuest(self._data_centre, name, spec)
        self._second = _Instance(nve.name, second, hypervisor, second.machine)
        token = secrets.token_bytes(TOKEN_SIZE)
        self._sockets = self._connected()
        roles = (ReplicaRole.LEADS, ReplicaRole.FOLLOWS)
        for each, end, role in zip(self._both, self._sockets, roles, strict=True):
            each.machine.log.heard_ns = time.monotonic_ns()
            each.guest.launch(each.machine, pair=PairedWith(end, token, role))
        for each in self._both:
            each.machine.await_ready()

    def begin(self) -> None:
        """Begin the experiment: the costs of the standby count from here."""
        self._began_s, self._sent_before = time.monotonic(), self._sent_octets()

    def _sent_octets(self) -> int:
        return sum(each.machine.log.sent_octets for each in self._both)

    def _connected(self) -> list[socket.socket]:
        """Return a socket on each server, connected from VTEP to VTEP."""
        nves = [self._data_centre.nves[each.nve] for each in self._both]
        made = []
        for nve in nves:
            with inside(nve.pid):
                family = socket.AF_INET if nve.vtep.version == 4 else socket.AF_INET6
                end = socket.socket(family, socket.SOCK_DGRAM)
            end.bind((str(nve.vtep), 0))
            made.append(end)
        for end, other in (made, reversed(made)):
            end.connect(other.getsockname()[:2])
        return made

    # -- one of them is lost ---------------------------------------------------------------------

    def watch(self) -> None:
        """Watch until the end, or until one instance is alone."""
        since_ns: dict[str, int] = {}
        while not self._over.wait(LOOK_S):
            now_ns = time.time_ns()
            for each in self._both:
                if self._data_centre.nves[each.nve].edge.alive:
                    since_ns.pop(each.nve, None)
                elif now_ns - since_ns.setdefault(each.nve, now_ns) >= self.spec.detect_s * 1e9:
                    self._lost(each, since_ns[each.nve], dead=True)
                    return
            if not since_ns and (lost := self._cut_off()):
                self._lost(lost, now_ns - int(lost.silent_s * 1e9), dead=False)
                return

    def _cut_off(self) -> _Instance | None:
        """Return the instance to end if both servers run but the two have not heard of each other,
        or None.
        """
        for each in self._both:
            if each.silent_s < self.spec.detect_s / 2:
                each.asked_before = each.machine.log.asked
        if min(each.silent_s for each in self._both) < self.spec.detect_s:
            return None
        first, second = self._both
        asked = {each.nve: each.machine.log.asked - each.asked_before for each in (first, second)}
        return first if asked[first.nve] < asked[second.nve] else second

    def _lost(self, lost: _Instance, since_ns: int, *, dead: bool) -> None:
        first, second = self._both
        left = second if lost is first else first
        self._lost_s = time.monotonic()
        said = {"nve": lost.nve, "since_ns": since_ns, "kind": "hot", "interval_s": 0.0}
        if dead:
            self._log.note("runner", "server-lost", self.vm, **said)
        else:
            self._log.note("runner", "instance-cut-off", self.vm, **said)
        if dead:
            lost.machine.kill()
        while not self._over.is_set():
            try:
                self._overlay.fence(self.vm, lost.nve, dead)
            except OverlayError as error:
                self._log.note("runner", "instance-not-fenced", self.vm, why=str(error))
                self._over.wait(FENCE_AGAIN_S)
                continue
            left.machine.go_on_alone()
            self._log.note("runner", "instance-alone", self.vm, nve=left.nve, lost=lost.nve)
            lost.machine.kill()
            self._alone = left
            self._first.guest.is_now(left.machine)
            self._orchestrator.goes_on_as(self.vm, left.hypervisor)
            return
        self.problems.append(f"{self.vm} has lost an instance, and the other one did not go on")

    # -- the end ---------------------------------------------------------------------------------

    def stop(self) -> None:
        """Let no instance continue alone from now on."""
        self._over.set()

    def verify(self) -> None:
        """Compare both instances when no more requests come and the leader writes nothing more."""
        if self._second and (said := self._second.machine.failure()) and not self._alone:
            self.problems.append(said)
        if self._alone or self.problems:
            return
        self._first.machine.log.throttle_pct = 100
        try:
            wait_until(self._different_work, VERIFY_TIMEOUT_S)
        except TimeoutError as error:
            self.problems.append(str(error))
            return
        first, second = map(_digests, self._both)
        if first == second:
            self._log.note("runner", "instances-verified", self.vm, **first)
        else:
            self.problems.append(f"the two instances of {self.vm} do not hold the same state")

    def _different_work(self) -> str | None:
        found = [_registers(each.machine) for each in self._both]
        if found[0] and found[0] == found[1]:
            return None
        return f"the instances of {self.vm} are not equally far: {found[0]} and {found[1]}"

    def cost(self) -> StandbyCost:
        """Until now, or until one of the two was lost."""
        took_s = (self._lost_s or time.monotonic()) - self._began_s
        return StandbyCost(
            self.vm,
            "hot",
            0.0,
            (self._sent_octets() - self._sent_before) * 8 / took_s / 1e6,
            self._first.guest.spec.memory_mb,
            *(each.machine.log.answered for each in self._both),
        )

    def close(self) -> None:
        """End everything; this is safe at any time."""
        self._over.set()
        self._first.machine.close()
        if self._second:
            self._second.guest.close()
            self._second.hypervisor.close()
        for each in self._sockets:
            each.close()


def _registers(machine: GuestMachine) -> tuple[int, ...] | None:
    """Return the number of writes and the counter of an instance."""
    found = registers.newest(os.pread(machine.memory, PAGE_SIZE, 0))
    if found is None:
        return None
    return found.writes, found.disk_writes, found.counter, found.client, found.request


def _digests(instance: _Instance) -> dict[str, str]:
    """Return digests of all memory and disk but the first page, which also counts its own
    writes.
    """
    machine, spec = instance.machine, instance.guest.spec
    files = {"memory": (machine.memory, spec.memory_pages), "disk": (machine.disk, spec.disk_pages)}
    digests = {}
    for what, (file, pages) in files.items():
        digest = xxhash.xxh3_128()
        for page in range(what == "memory", pages, _PAGES_AT_ONCE):
            count = min(_PAGES_AT_ONCE, pages - page)
            digest.update(os.pread(file, count * PAGE_SIZE, page * PAGE_SIZE))
        digests[what] = digest.hexdigest()
    return digests
