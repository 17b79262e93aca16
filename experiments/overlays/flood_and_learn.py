"""Flood and learn: VXLAN as RFC 7348 has it, without a control plane that knows where VMs are.

Every NVE is a Linux bridge with VXLAN devices (`nve.linux_bridge`) that floods to all other NVEs
and learns from what it hears.  No control plane can be told of a move, so most operations of an
overlay do nothing here:

    prepare, redirect      nobody is told, and nothing is forwarded to the VM that has left
    activate               the VM's own announcement is all there is; if it is not made, or is
                           lost, NVEs go on sending to the old place
    complete               the source's hypervisor takes the VM's port away, `linger_ms` after the
                           VM was resumed; then the source NVE forgets the VM, the others do not

A silent VM is cut off until its correspondents' own neighbour caches question it (RFC 4861 section
7.3, and the same for ARP in Linux) and ask everybody, tens of seconds later, or until the entry has
not been heard for `ageing_s`, whichever is first.

The trace has what the kernels report: `entry-learned` and `entry-forgotten` of each NVE, and
`move-converged` when all of them have stopped sending to the old place.  Nothing waits for that.
"""

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from pydantic import Field

from experiments.measure.trace import TraceEvent
from experiments.overlays import (
    Capabilities,
    Ground,
    OverlayMove,
    OverlaySettings,
    ShellCommand,
    ShellTable,
)
from nve.linux_bridge.fdb import FdbChange, Learned, Way
from nve.model import TenantSystem, VmSpec

if TYPE_CHECKING:
    from nve.edge import EdgeFactory
    from nve.linux_bridge.bridge import LinuxBridge

SAYS = "VXLAN without a control plane: Linux bridges flood to all NVEs and learn."


class Settings(OverlaySettings):
    """The times for which bridges remember."""

    ageing_s: int = Field(300, ge=1, le=86_400)
    """How long an NVE keeps an address that it does not hear, in seconds (Linux's default)."""
    linger_ms: float = Field(500, ge=0, le=60_000)
    """The time from the VM's resume until the source's hypervisor takes its port there away."""


def edges(settings: Settings, _datapath: str) -> "EdgeFactory":
    """Return the factory of the kernel's bridges, which have one datapath."""
    from nve.linux_bridge import bridge

    return bridge.edges(settings.ageing_s)


def lacking(_settings: Settings) -> list[str]:
    """Return a sentence if the kernel has no VXLAN."""
    from nve.linux.capabilities import vxlan_available

    if vxlan_available():
        return []
    return ["overlay.kind: this kernel has no VXLAN, which flood-and-learn needs; modprobe vxlan"]


def build(ground: Ground, settings: Settings) -> "FloodAndLearn":
    """Build the overlay on a data centre with such edges."""
    return FloodAndLearn(ground, settings)


class FloodAndLearn:
    """See `experiments.overlays.Overlay`."""

    def __init__(self, ground: Ground, settings: Settings) -> None:
        from nve.linux_bridge.bridge import LinuxBridge
        from nve.linux_bridge.watch import FdbWatch

        self._settings = settings
        nves = ground.data_centre.nves
        self._edges = {name: LinuxBridge.of(nve.edge) for name, nve in nves.items()}
        self._places = {nve.vtep: name for name, nve in nves.items()}
        self._vms = {vm.spec.tenant_system: vm.spec for vm in ground.data_centre.vms.values()}
        self._learned = {name: Learned() for name in nves}
        self._watch = FdbWatch(self._edges.values(), self._changed)
        self._lock = threading.Lock()
        self._log = ground.log
        self._unconverged: dict[TenantSystem, OverlayMove] = {}
        """The latest move of each VM, while an NVE may still send to the old place."""
        self._activated_s: dict[int, float] = {}

    @property
    def can(self) -> Capabilities:
        return Capabilities(
            differences=self._differences,
            commands={"fdb": ShellCommand("where each NVE sends what is for a VM", self._fdb)},
        )

    def start(self) -> None:
        """Make every NVE serve every virtual network; they have no VMs yet."""
        for edge in self._edges.values():
            for vni in sorted({system.vni for system in self._vms}):
                edge.serve(vni)
        self._watch.start()

    def associate(self, vm: VmSpec, nve: str, port: int) -> None:
        """Do nothing: NVEs learn a VM's place from its first frame."""

    def begin(self) -> None:
        """Keep what NVEs have learned: otherwise they would flood to a silent VM, and no move would
        cut it off.
        """

    def prepare(self, move: OverlayMove, patience_s: float) -> None:
        """Do nothing: nobody has to be told."""

    def redirect(self, move: OverlayMove, patience_s: float) -> None:
        """Watch which NVEs send to the source from now on; nobody can be told of the redirect."""
        with self._lock:
            self._unconverged[move.vm.tenant_system] = move

    def activate(self, move: OverlayMove, patience_s: float, *, announced: bool) -> None:
        """Record that the VM's port is another; NVEs learn it from the VM, or not at all."""
        self._activated_s[move.number] = time.monotonic()
        self._note("move-activated", move.vm, move=move.number)
        with self._lock:
            self._look(time.time_ns(), move.vm.tenant_system)  # perhaps no NVE knew the old place

    def converge(self, move: OverlayMove, timeout_s: float) -> None:
        """Do nothing: there is no moment to wait for."""

    def complete(self, move: OverlayMove, timeout_s: float) -> None:
        """Wait until `linger_ms` after the activation: then the source does not need the VM's port
        any more.
        """
        since_s = time.monotonic() - self._activated_s.pop(move.number)
        time.sleep(max(0.0, self._settings.linger_ms / 1000 - since_s))
        self._note("move-completed", move.vm, move=move.number)

    def de_associate(self, move: OverlayMove, patience_s: float) -> None:
        self._edges[move.source].forget(move.vm.name)

    def roll_back(self, move: OverlayMove, patience_s: float) -> None:
        """Stop watching the move: the VM is where all NVEs believe it to be."""
        with self._lock:
            self._unconverged.pop(move.vm.tenant_system, None)

    def where(self) -> Mapping[str, str]:
        """Return nothing, as no list is kept."""
        return {}

    def stop(self) -> None:
        self._watch.stop()

    # -- what the kernels say ----------------------------------------------------------------------

    def _changed(self, t_ns: int, edge: "LinuxBridge", change: FdbChange) -> None:
        learned, vm = self._learned[edge.name], self._vms.get(change.system)
        with self._lock:
            before = learned.way(change.system)
            learned.apply(change, is_plug=edge.is_plug(change.interface))
            after = learned.way(change.system)
            if vm is None or before == after:
                return
            if after is None:
                self._note("entry-forgotten", vm, t_ns, nve=edge.name)
            else:
                at = self._place(edge.name, after)
                self._note("entry-learned", vm, t_ns, nve=edge.name, at=at)
            self._look(t_ns, change.system)

    def _look(self, t_ns: int, system: TenantSystem) -> None:
        """Record it if the move of a VM has converged just now."""
        move = self._unconverged.get(system)
        if move and move.source not in self._believed(system).values():
            self._note("move-converged", move.vm, t_ns, move=move.number)
            del self._unconverged[system]

    def _believed(self, system: TenantSystem) -> dict[str, str | None]:
        """Return where each NVE sends a VM's packets; None if it floods them."""
        return {
            nve: self._place(nve, learned.way(system)) for nve, learned in self._learned.items()
        }

    def _place(self, nve: str, way: Way | None) -> str | None:
        return nve if isinstance(way, str) else self._places[way] if way else None

    def _note(self, event: str, vm: VmSpec, t_ns: int | None = None, **details: object) -> None:
        source = str(details.get("nve", "runner"))
        self._log.append(TraceEvent(t_ns or time.time_ns(), source, event, vm.name, details))

    def _differences(self) -> Iterator[Sequence[str]]:
        return (edge.differences() for edge in self._edges.values() if edge.alive)

    def _fdb(self, _rest: str) -> ShellTable:
        with self._lock:
            rows = [
                (
                    vm.name,
                    vm.vni,
                    *(place or "everywhere" for place in self._believed(system).values()),
                )
                for system, vm in self._vms.items()
            ]
        return ShellTable(("VM", "VNI", *self._learned), rows)
