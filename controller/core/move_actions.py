"""What a move does to the desired state and the directory (`controller.core.move_fsm.MoveAction`).

    place      the destination NVE gets the VM's port and its side of the tunnel (R5.1)
    redirect   the source NVE is told the destination NVE's address (R5.2), or, if the VM is
               suspended, that the VM is no longer there (R7.1)
    activate   the VM is at the destination: the directory, both NVEs and others are told
    roll_back  the move is given up: the VM is active at the source
    displace   the VM's place at the destination is taken away as well

Nothing is sent or waited for here: `controller.core.moves` does that.
"""

from dataclasses import replace

from controller.core import groups
from controller.core.desired_state import DesiredState
from controller.core.directory import Directory, RebindOutcome
from controller.core.entries import Entries
from controller.core.handover import Handovers
from controller.core.move import Move
from nve.model import Binding, TenantSystem
from nve.pipeline.compiler import compile_system
from nve.pipeline.rules import Purpose, Rule
from nve.pipeline.state import Association, AssociationRole, Redirect

IN_FLIGHT = {"tunnel": Purpose.IN_FLIGHT, "drop": Purpose.DEPARTED}
"""The purpose of the source NVE's rules for packets in flight."""


class MoveActions:
    """Carries out the actions of all moves."""

    def __init__(
        self, desired: DesiredState, directory: Directory, entries: Entries, handovers: Handovers
    ) -> None:
        self._desired = desired
        self._directory = directory
        self._entries = entries
        self._handovers = handovers

    def place(self, move: Move) -> None:
        """Give the destination NVE the VM's port and its side of the tunnel (R5.1)."""
        to, system = move.destination, move.system
        newcomer = to not in self._desired.present(system.vni)
        binding, source = self.binding(move), self._desired.vteps[move.source]
        there = self._desired.state(move.source).associations[system]
        association = Association(
            system,
            there.addresses,
            move.request.port,
            AssociationRole.PRE_ASSOCIATED,
            source,
            lane=self._handovers.enabled,
            copy_vni=None if there.routed else binding.copy_vni,
            vlan_tags=there.vlan_tags,
            claimable=there.claimable,
            routed=there.routed,
        )
        self._desired.associate(to, association)
        move.placed = True
        if newcomer:
            self._entries.introduce(to, system)
        if self._handovers.enabled:  # packets from the VM have to stay in order, too
            self._entries.hand_on(move.source, to, system)

    def redirect(self, move: Move) -> Rule:
        """Tell the source NVE the destination's address (R5.2) or that the VM is no longer there
        (R7.1).

        Returns the rule for packets in flight, which stays until the VM has arrived and longer.
        """
        request = move.request
        to = self._desired.vteps[move.destination] if request.treatment == "tunnel" else None
        role = AssociationRole.SUSPENDED if request.suspends else AssociationRole.REDIRECTED
        self._set_role(move.source, move.system, role)
        left = self._desired.state(move.source).associations[move.system]
        redirect = Redirect(to, flooded=left.flooded, copy_vni=left.copy_vni)
        self._desired.set_redirect(move.source, move.system, redirect)
        groups.spread(self._desired, self._directory, move.system.vni)
        if not request.suspends:
            self._handovers.redirected(move.system, move.source)
        (waiting,) = self.in_flight_rules(move.source, move.system)
        return waiting

    def activate(self, move: Move) -> list[Rule]:
        """Tell the directory, both NVEs of the move and others that the VM is at the destination.

        Returns the rules at the destination that this supersedes: they sent the VM's packets in
        flight elsewhere.
        """
        known, paths = self.binding(move), self._handovers.paths(move.system)
        if move.request.suspends:
            paths = {}  # nothing reaches the VM by an old path, so nothing can be overtaken
        outcome = self._directory.rebind(move.system, move.destination, known.sequence + 1)
        assert outcome is RebindOutcome.CHANGED, outcome
        binding = self.binding(move)
        self._set_role(move.destination, move.system, AssociationRole.ACTIVE)
        self._desired.set_remote(move.destination, move.system, None)
        redirect = self._desired.state(move.source).redirects[move.system]
        request = move.request
        ending = replace(redirect, idle_s=request.idle_s, timer_s=request.timer_s)
        self._desired.set_redirect(move.source, move.system, ending)
        self._entries.disseminate(binding, frozenset({move.source, move.destination}))
        move.outdated = self._entries.outdated(binding)
        superseded = self.in_flight_rules(move.destination, move.system)
        self._desired.set_redirect(move.destination, move.system, None)
        self._handovers.arrived(move.system, paths)
        return [rule for rule in superseded if rule.has_timeout]

    def roll_back(self, move: Move) -> None:
        """Undo the move: the VM is active at the source, as if no move had been requested.

        The destination keeps the VM's place until the source has confirmed.  Otherwise packets
        still redirected there could loop, if an older redirect leads away from the destination.
        """
        self._set_role(move.source, move.system, AssociationRole.ACTIVE)
        self._desired.set_redirect(move.source, move.system, None)
        groups.spread(self._desired, self._directory, move.system.vni)

    def displace(self, move: Move) -> None:
        """Take the VM's place at the destination away; nothing is sent there any more."""
        self._entries.de_associate(move.destination, move.system)
        move.placed = False

    def in_flight_rules(self, nve: str, system: TenantSystem) -> list[Rule]:
        """Return the rules of an NVE that report the packets in flight."""
        rules = compile_system(self._desired.state(nve), system)
        return [rule for rule in rules if rule.purpose in IN_FLIGHT.values() and rule.reports_end]

    def binding(self, move: Move) -> Binding:
        """Return the present binding of the move's VM."""
        binding = self._directory.find(move.system)
        assert binding is not None, f"{move.system} moves but is not in the directory"
        return binding

    def _set_role(self, nve: str, system: TenantSystem, role: AssociationRole) -> None:
        association = self._desired.state(nve).associations[system]
        self._desired.associate(nve, replace(association, role=role))
