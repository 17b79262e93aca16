"""The draft's overlay: an NVA tells NVEs where VMs are (draft-ietf-nvo3-vmm-03).

It asks the NVA by `experiments.overlays.nvo3.move_requests`, and counts what still reaches a VM's
former place by `.stray_packets`.
"""

from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any, Self

from controller.core.move_fsm import Phase
from experiments.overlays import (
    AwaitLastPackets,
    Capabilities,
    Fault,
    Ground,
    Instances,
    Overlay,
    OverlayMove,
    VmAdmission,
)
from experiments.overlays.nvo3 import NVA_DIES, tables
from experiments.overlays.nvo3.commands import Commands
from experiments.overlays.nvo3.move_requests import MoveRequests, path_of, raise_if_rolled_back
from experiments.overlays.nvo3.nva import (
    ANSWER_TIMEOUT_S,
    NvaAway,
    NvaError,
    NvaProcess,
    NvaRequest,
)
from experiments.overlays.nvo3.settings import Settings
from experiments.overlays.nvo3.stray_packets import StrayPackets
from experiments.overlays.nvo3.trace_feed import TraceFeed
from nve.hypervisor.plug import nve_interface
from nve.linux.wait import HasDescriptor, all_readable, readable
from nve.model import Rank, VmSpec
from nve.ovs import bridge
from nve.ovs.agent import Agent, Following
from nve.ovs.bridge import OvsInstance
from nve.ovs.buffers import Inlet
from topologies import locators

ANNOUNCEMENT_TIMEOUT_S = 0.2
FOLLOWING_S = 0.1
"""How long a source NVE may take to follow a redirect that it has confirmed, in seconds."""
AWAY_S = 30.0
"""For an NVA that is to be told where an address is."""


@dataclass
class _Leaving:
    """A VM that is leaving its place."""

    network_nves: Sequence[str]
    """The other NVEs with VMs of its network, to which it sends."""
    inlet: Inlet | None
    """By which the source NVE's switch takes in what it sends."""
    redirected: NvaRequest | None = None
    """Where the NVA answers that the source NVE redirects, unless it has done so."""
    marked: bool = False
    """Whether a marker was sent behind its last packets."""


class Nvo3:
    """See `experiments.overlays.Overlay`."""

    def __init__(self, ground: Ground, settings: Settings) -> None:
        self._data_centre = ground.data_centre
        self._progress = ground.progress
        self._settings = settings
        self.nva = NvaProcess(ground.data_centre, settings)
        self._requests = MoveRequests(self.nva)
        self._strays = StrayPackets(ground.data_centre, self.nva)
        self._log = ground.log
        self._feed = TraceFeed(self.nva.trace_file, ground.log)
        self._agents = {
            nve: Agent(self._switch(nve), ground.reorder_buffer)
            for nve in ground.data_centre.nves
            if settings.end_marker
        }
        awaits = settings.end_marker and settings.await_last_packets
        self.can = Capabilities(
            hold=settings.bounds,
            last_packets=AwaitLastPackets(self._mark_last, self._await_last) if awaits else None,
            processes=self._processes,
            differences=partial(tables.differences, self._data_centre, self.nva),
            refused=self.refused,
            catch_up=self._feed.catch_up,
            facts=self._facts,
            admission=VmAdmission(
                *(self._offer, self.nva.adjust, self._off_board),
                *(self.nva.keep_room, self.nva.give_room_up),
                lambda: self.nva.get("capacity"),
            ),
            instances=Instances(self.nva.add_instance, self.nva.fence_instance),
            faults={NVA_DIES: Fault(self.nva.kill, self.nva.restart)},
            host_route=self._host_route,
            commands=Commands(ground.data_centre, self.nva).by_name,
        )
        self._offers: dict[str, int] = {}
        """Made for VMs that are about to start."""
        self._leaving: dict[int, _Leaving] = {}
        """The moves between redirect and release, by their numbers."""

    @classmethod
    def of(cls, overlay: Overlay) -> Self:
        """Return an overlay that is known to be this one, with that type."""
        assert isinstance(overlay, cls), overlay
        return overlay

    def _switch(self, nve: str) -> OvsInstance:
        return OvsInstance.of(self._data_centre.nves[nve].edge)

    def start(self) -> None:
        self._progress(f"starting the NVA ({self._settings.framework})")
        self._feed.start()
        encapsulations = {
            vm.spec.routed.encapsulation for vm in self._data_centre.vms.values() if vm.spec.routed
        }
        if "vxlan-l3" in encapsulations:
            for nve in self._data_centre.nves:
                self._switch(nve).add_packet_port()
        if prefixes := self._data_centre.sir_prefixes:
            for nve, server in locators.servers(self._data_centre.fabric).items():
                self._switch(nve).add_underlay_port(server, *prefixes)
        self.nva.start()
        for agent in self._agents.values():
            agent.start()

    def associate(self, vm: VmSpec, nve: str, port: int) -> None:
        """Associate a VM; one that takes something of its server is on-boarded in three messages
        (R8.2).
        """
        if vm.name not in self._offers and not vm.resources:
            self.nva.associate(vm, nve, port)
            return
        offer = self._offers.pop(vm.name, None) or self.nva.offer(vm, nve)["offer"]
        self.nva.confirm(vm.name, offer, port)

    def _offer(self, vm: VmSpec, nve: str | None) -> str:
        offered = self.nva.offer(vm, nve)
        self._offers[vm.name] = offered["offer"]
        return str(offered["nves"][0])

    def _off_board(self, vm: str) -> None:
        self.nva.delete(f"vms/{vm}")
        for nve in self._data_centre.nves:
            for lane in (False, True):
                self._switch(nve).remove_port(nve_interface(vm, lane=lane))

    def begin(self) -> None:
        """Take entries with a lifetime back, so that their ages are the same in every run."""
        for nve in self._data_centre.nves:
            self._switch(nve).enlarge_buffers()
        self.nva.post("forget")

    def _facts(self) -> dict[str, Any]:
        return {"framework": self.nva.framework(), "open_vswitch": bridge.version()}

    def prepare(self, move: OverlayMove, patience_s: float) -> None:
        """Request the move.  Raises MoveRefused if the NVA does not accept it."""
        self._strays.begins(move)
        settings = self._settings
        ending = {"idle": "idle_s", "timer": "timer_s"}[settings.stop]
        body = {
            "vm": move.vm.name,
            "source": move.source,
            "to": move.destination,
            "memory_mb": move.state.memory_mb,
            "disk_mb": move.state.storage_mb,
            "port": move.port,
            "in_flight": settings.in_flight,
            ending: getattr(settings, ending),
            "deadline_s": move.deadline_s,
            "mode": move.mode,
            "source_runs": move.source_runs,
        }
        self._requests.prepare(move, body, patience_s)

    def redirect(self, move: OverlayMove, patience_s: float) -> None:
        if move.mode != "hot":  # nothing is in flight, and nothing has to keep its order
            self._ask_for_redirect(move, patience_s)
            return
        switch = self._switch(move.source)
        # The switch would count as in flight what it has forwarded and not yet counted.
        switch.follow_rules_now()
        if not self._agents:
            self._ask_for_redirect(move, patience_s)
            switch.follow_rules_now(thoroughly=True)
            return
        system = move.vm.tenant_system
        inlet = switch.inlet(nve_interface(move.vm.name)) if self.can.last_packets else None
        self._agents[move.destination].expect_last(system, move.number)
        with ExitStack() as failed, self._agents[move.source].following(system) as following:
            if inlet:
                failed.callback(inlet.close)
            leaving = self._requests.insist(
                patience_s, partial(self._follow, move, following, inlet)
            )
            # What a flow that was left brings to a VM that has gone is lost.  The agent sees to it,
            # but its order may not have come.
            if not leaving.redirected and not readable(following, FOLLOWING_S):
                switch.follow_rules_now(thoroughly=True)
            self._leaving[move.number] = leaving
            failed.pop_all()

    def _ask_for_redirect(self, move: OverlayMove, patience_s: float) -> None:
        heard, until = Phase.REDIRECTING, Phase.REDIRECTED
        self._requests.tell(move, "redirect", heard, until, patience_s)

    def _follow(
        self,
        move: OverlayMove,
        following: Following,
        inlet: Inlet | None,
        left_s: float,
        *,
        again: bool,
    ) -> _Leaving:
        """Have the NVA redirect; return when the source NVE does, or else when the NVA says so.

        The source's agent is on the same server as the VM, and knows first.
        """
        if again and self._requests.has_heard(move, Phase.REDIRECTING):
            line = self._requests.line(move, Phase.REDIRECTED, left_s)
            return _Leaving(line["network_nves"], inlet)
        asked = self.nva.begin_post(
            f"{path_of(move)}/redirect",
            answered_within_s=ANSWER_TIMEOUT_S,
            until=Phase.REDIRECTED,
            timeout_s=left_s,
        )
        either: list[HasDescriptor] = [following, asked]
        if following in all_readable(either, ANSWER_TIMEOUT_S):
            return _Leaving(following.network_nves, inlet, asked)
        line = asked.answer()
        raise_if_rolled_back(move, line)
        return _Leaving(line["network_nves"], inlet)

    def _mark_last(self, move: OverlayMove) -> None:
        agent, leaving = self._agents[move.source], self._leaving[move.number]
        system, number = move.vm.tenant_system, move.number
        with suppress(OSError):  # its switch has died
            agent.mark_last(system, number, move.destination, leaving.inlet)
            leaving.marked = True

    def _await_last(self, move: OverlayMove) -> list[str]:
        leaving, agent = self._leaving[move.number], self._agents[move.destination]
        if not leaving.marked:
            return list(leaving.network_nves)
        missing = agent.await_last(
            move.vm.tenant_system, leaving.network_nves, self._settings.end_marker_s
        )
        if not missing:
            self._note("last-packets-passed", move, nves=leaving.network_nves)
        return missing

    def activate(self, move: OverlayMove, patience_s: float, *, announced: bool) -> None:
        """Wait until the mapping follows the VM's announcement (R4.1.2, R4.1.6).

        If the announcement is not made, or is lost, the activation by the destination is enough.
        """
        self._hear_redirected(move, patience_s)
        if announced:
            with suppress(NvaError):  # not heard in time
                self._requests.reached(move, Phase.ACTIVATED, ANNOUNCEMENT_TIMEOUT_S)
        self._requests.tell(move, "activate", Phase.ACTIVATED, Phase.ACTIVATED, patience_s)
        self._strays.arrived(move)

    def converge(self, move: OverlayMove, timeout_s: float) -> None:
        reached = self._requests.reached_patiently(move, Phase.CONVERGED, timeout_s)
        if reached == Phase.DRAINED:  # the tunnel has ended, an old entry is still there
            self._requests.reached_patiently(move, Phase.COMPLETED, timeout_s)
        self._strays.converged(move)

    def complete(self, move: OverlayMove, timeout_s: float) -> None:
        """Wait until the move is completed, and take down what was counted since it converged."""
        self._requests.reached_patiently(move, Phase.COMPLETED, timeout_s)
        if (packets := self._strays.completed(move)) is not None:
            counted = {"packets_via_source_after_convergence": packets}
            self._note("source-nve-counted", move, nve=move.source, **counted)

    def de_associate(self, move: OverlayMove, patience_s: float) -> None:
        """Take the VM's place at the source away.

        If the NVA refuses, the place is gone or serves another move; the trace says so.
        """

        def ask(_left_s: float, *, again: bool) -> None:
            try:
                self.nva.delete(f"associations/{move.source}/{move.vm.name}")
            except NvaAway:
                raise
            except NvaError as refusal:
                self._note("de-association-refused", move, why=str(refusal))

        self._requests.insist(patience_s, ask)

    def roll_back(self, move: OverlayMove, patience_s: float) -> None:
        self._requests.roll_back(move, patience_s)
        with suppress(NvaError):
            self._hear_redirected(move, 0)

    def _hear_redirected(self, move: OverlayMove, patience_s: float) -> None:
        """Take the NVA's answer to the redirect, which nobody has waited for."""
        leaving = self._leaving.pop(move.number, None)
        if leaving and leaving.inlet:
            leaving.inlet.close()
        if leaving and leaving.redirected:
            try:
                leaving.redirected.answer()
            except NvaError:  # it has died, or it takes long
                self._requests.reached_patiently(move, Phase.REDIRECTED, patience_s)

    def _processes(self) -> dict[int, Rank]:
        found = {}
        with suppress(NvaError):
            found[self.nva.pid] = Rank.CONTROL
        for nve in self._data_centre.nves:
            with suppress(RuntimeError):  # one that is dead
                found[self._switch(nve).switch_pid] = Rank.PATH
        return found

    def where(self) -> dict[str, str]:
        known = {line["vm"]: line["nve"] for line in self.nva.get("mapping")}
        return {vm: known.get(vm, "no NVE") for vm in self._data_centre.vms}

    def differences(self) -> list[str]:
        """Return the differences of all NVEs."""
        return list(chain.from_iterable(tables.differences(self._data_centre, self.nva)))

    def refused(self) -> list[dict[str, Any]]:
        """Return what NVEs dropped and the NVA refused, by NVE and by VM or tunnel source."""
        for nve in self._data_centre.nves:
            with suppress(RuntimeError):  # one that is dead counts no more
                self._switch(nve).have_counted()
        rows: list[dict[str, Any]] = self.nva.get("refused")
        return rows

    def stop(self) -> None:
        for agent in self._agents.values():
            agent.stop()
        self.nva.stop()
        self._feed.close()

    def _host_route(self, vm: str, address: str) -> None:
        """Ask for a host route, repeatedly while the NVA is away.  Raises NvaError."""
        self._requests.insist(AWAY_S, lambda left_s, again: self.nva.route(vm, address))

    def _note(self, event: str, move: OverlayMove, **details: object) -> None:
        self._log.note("runner", event, move.vm.name, move=move.number, **details)
