"""A VM's life at the NVA, as the orchestrator asks for it (RFC 8394, section 8.2 of the draft).

    associate         the VM starts behind an NVE, without on-boarding
    offer, confirm    it is on-boarded on a server with room   controller.core.onboarding,
                                                               .admission
    adjust            its resources change
    standby           room is kept for its mirror (R7.2, R7.3)
    instance          a second one serves with it (R7.4)       controller.core.pairs
    de-associate      it loses a port that it has left
    off-board         it ends

Moves are not here: see `controller.core.moves`.  `controller.core.authority` works out the
consequences, and tells the NVEs.

A request that is impossible raises `RequestRefused` and changes nothing.
"""

from dataclasses import asdict

from controller.core import groups
from controller.core.admission import Admission
from controller.core.desired_state import DesiredState
from controller.core.directory import Directory
from controller.core.entries import Entries
from controller.core.handover import Handovers
from controller.core.known import Known
from controller.core.moves import Moves
from controller.core.onboarding import Interface, Onboarding, OnboardingRequest, Onboardings
from controller.core.outbox import Outbox
from controller.core.pairs import Pairs
from controller.core.refusals import RequestRefused
from nve.model import TenantSystem
from nve.pipeline.state import Association, AssociationRole
from nve.resources import NO_RESOURCES, Resources


class VmLifecycle:
    """Changes what the NVA knows of a VM that comes, stays or goes.  Nothing is sent here."""

    def __init__(
        self,
        known: Known,
        directory: Directory,
        desired: DesiredState,
        entries: Entries,
        moves: Moves,
        handovers: Handovers,
        onboardings: Onboardings,
        admission: Admission,
        outbox: Outbox,
    ) -> None:
        self._known = known
        self._directory = directory
        self._desired = desired
        self._entries = entries
        self._moves = moves
        self._handovers = handovers
        self._onboardings = onboardings
        self._admission = admission
        self._outbox = outbox
        self._pairs = Pairs(desired, directory, entries)

    # -- ports -----------------------------------------------------------------------------------

    def associate(self, vm: str, interface: Interface, nve: str, port: int) -> None:
        """Associate a VM that starts behind an NVE."""
        self._known.require_nve(nve)
        self._known.require_free_port(nve, port)
        self._known.require_new(vm, interface)
        system, addresses = interface.system, interface.addresses
        binding = self._directory.register(system, addresses, nve)
        newcomer = nve not in self._desired.present(system.vni)
        self._known.add({vm: system})
        association = Association(
            system,
            addresses | interface.claimable,
            port,
            AssociationRole.ACTIVE,
            flooded=interface.routed is None,
            copy_vni=None if interface.routed else binding.copy_vni,
            vlan_tags=interface.vlan_tags,
            claimable=interface.claimable,
            routed=interface.routed,
        )
        self._desired.associate(nve, association)
        self._desired.set_hosts(system, binding.addresses)
        self._desired.raise_vm_mtu(system.vni, interface.mtu)
        self._entries.disseminate(binding, frozenset({nve}))
        if newcomer:
            self._entries.introduce(nve, system)
        self._outbox.record("vm-associated", vm, nve=nve, port=port, vni=system.vni)

    def de_associate(self, vm: str, nve: str) -> None:
        """Take away a VM's port at an NVE where it does not run."""
        system = self._known.vm(vm)
        self._known.require_nve(nve)
        association = self._desired.state(nve).associations.get(system)
        if association is None:
            raise RequestRefused(f"{vm} has no port at {nve}")
        if association.role is AssociationRole.PRE_ASSOCIATED:
            raise RequestRefused(
                f"{vm} has a place at {nve} for a move; roll that move back if it is not to "
                "be carried out"
            )
        if association.role is AssociationRole.ACTIVE:
            raise RequestRefused(f"{vm} is active at {nve}; move it away first")
        if self._known.binding(system).nve == nve:
            raise RequestRefused(f"{vm} may still come back to {nve}; wait")
        self._entries.de_associate(nve, system)
        self._outbox.record("vm-de-associated", vm, nve=nve)

    # -- on-boarding -----------------------------------------------------------------------------

    def offer(self, vm: str, request: OnboardingRequest, now_ns: int) -> Onboarding:
        """Offer a place and resources to a VM that is to be on-boarded."""
        self._onboardings.lapse(now_ns)
        if standing := self._onboardings.standing(vm, request):
            return standing
        self._known.require_new(vm, request.interface)
        if request.nve is not None:
            self._known.require_nve(request.nve)
            self._known.require_connected(request.nve)
        reachable = [nve for nve in self._desired if self._desired.is_connected(nve)]
        nve = self._admission.place_for(vm, request, reachable)
        made = self._onboardings.offer(vm, request, nve, now_ns)
        wanted = asdict(request.resources)
        self._outbox.record("vm-offered", vm, nve=nve, offer=made.offer, **wanted)
        return made

    def confirm_offer(self, vm: str, offer: int, port: int, now_ns: int) -> Onboarding:
        """Put an offer to use: the VM starts at the offered server."""
        known = self._onboardings.confirmable(vm, offer, port, now_ns)
        if self._onboardings.in_use(vm):
            return known
        self.associate(vm, known.request.interface, known.nve, port)
        self._outbox.record("vm-on-boarded", vm, nve=known.nve, offer=offer)
        return self._onboardings.put_to_use(known, port)

    def adjust(self, vm: str, resources: Resources) -> Onboarding:
        """Change the resources of a VM that stays where it is."""
        system = self._known.vm(vm)
        known = self._onboardings.in_use(vm)
        if known is None:
            raise RequestRefused(f"{vm} was not on-boarded: it has no resources to adjust")
        if self._moves.ends(system):
            raise RequestRefused(f"{vm} is being moved; wait until its move is complete")
        for nve in self._known.binding(system).nves:
            self._admission.require_room(vm, nve, resources)
        self._outbox.record("vm-adjusted", vm, **asdict(resources))
        return self._onboardings.adjust(known, resources)

    def off_board(self, vm: str) -> None:
        """Off-board a VM that has ended: take back its ports, its entries and its room."""
        system = self._known.vm(vm)
        self._require_no_move(vm, system)
        nve = self._known.binding(system).nve
        for each in self._desired:
            if system in self._desired.systems(each):
                self._desired.set_redirect(each, system, None)
                self._desired.set_remote(each, system, None)
                self._desired.set_marker(each, system, None)
                self._entries.de_associate(each, system)
        self._directory.remove(system)
        self._desired.set_hosts(system, frozenset())
        groups.spread(self._desired, self._directory, system.vni)
        self._known.remove(vm)
        self._onboardings.off_board(vm)
        self._outbox.record("vm-off-boarded", vm, nve=nve)

    # -- standbys --------------------------------------------------------------------------------

    def keep_room_for_standby(self, vm: str, nve: str, room: Resources) -> Onboarding:
        """Keep room on a server for the standby of a VM, which is mirrored there."""
        system = self._known.vm(vm)
        self._known.require_nve(nve)
        known = self._onboardings.in_use(vm)
        if known is None:
            raise RequestRefused(f"{vm} was not on-boarded: no room is kept for its standby")
        if (known.standby, known.standby_room) == (nve, room):
            return known
        if known.standby:
            raise RequestRefused(
                f"{vm} has a standby at {known.standby} already; give that up first"
            )
        if self._known.binding(system).nve == nve:
            raise RequestRefused(f"{vm} is at {nve} itself; name another NVE")
        if shortage := self._admission.free(nve, but=vm).shortage(room):
            raise RequestRefused(
                f"{nve} has no room for the standby of {vm}: {shortage}; make room there, or "
                "name another NVE"
            )
        self._outbox.record("standby-placed", vm, nve=nve, **asdict(room))
        return self._onboardings.keep_room(known, nve, room)

    def give_up_standby(self, vm: str) -> Onboarding:
        """Give back the room that is kept for the standby of a VM, if any is."""
        self._known.vm(vm)
        known = self._onboardings.in_use(vm)
        if known is None:
            raise RequestRefused(f"{vm} was not on-boarded: no room is kept for its standby")
        if not known.standby:
            return known
        self._outbox.record("standby-given-up", vm, nve=known.standby)
        return self._onboardings.keep_room(known, "", NO_RESOURCES)

    def add_instance(self, vm: str, nve: str, port: int) -> None:
        """A second instance of a VM starts behind another NVE."""
        system = self._known.vm(vm)
        self._known.require_nve(nve)
        binding = self._known.binding(system)
        there = self._desired.state(nve).associations.get(system)
        if binding.second == nve and there and there.port == port:
            return
        if len(binding.nves) > 1:
            raise RequestRefused(f"{vm} has instances at {' and '.join(binding.nves)} already")
        if binding.nve == nve:
            raise RequestRefused(f"{vm} is at {nve} itself; name another NVE")
        if self._desired.is_routed(system.vni):
            raise RequestRefused(
                f"{vm} is in a network of layer 3; flows are spread over two instances at "
                "layer 2 only"
            )
        self._require_no_move(vm, system)
        if there:
            raise RequestRefused(f"{vm} still has a port at {nve}; de-associate that first")
        self._known.require_connected(nve)
        self._known.require_free_port(nve, port)
        if known := self._onboardings.in_use(vm):
            self._admission.require_room(vm, nve, known.resources)
        self._pairs.add(binding, nve, port)
        self._outbox.record("instance-added", vm, nve=nve, port=port)

    def fence_instance(self, vm: str, nve: str) -> str:
        """One of a VM's two instances answers nobody any more; returns the NVE of the other one."""
        system = self._known.vm(vm)
        self._known.require_nve(nve)
        if left := self._pairs.fence(vm, self._known.binding(system), nve):
            self._outbox.record("instance-fenced", vm, nve=nve, left=left)
        return self._known.binding(system).nve

    def _require_no_move(self, vm: str, system: TenantSystem) -> None:
        """Refuse while the VM is being moved, or its last packets are on their way."""
        if self._moves.ends(system) or self._handovers.under_way(system):
            raise RequestRefused(f"{vm} is being moved; wait until its move is complete")
