"""VMs with two instances that both serve: a hot standby (R7.4).

    add     a second instance starts at another NVE: both are active, and every other NVE spreads
            the VM's flows over the two
    fence   one of them has ended or must not be heard any more: nothing is accepted from its port
            or delivered to it, and everything goes to the other one

Only one instance is ever fenced, so that an instance whose partner is fenced may continue alone,
but never both.  A fence counts once the fenced instance's NVE has confirmed it, or its server is
known to be dead: then the NVE is told before it forwards anything again.
"""

from dataclasses import replace

from controller.core.desired_state import DesiredState
from controller.core.directory import Directory
from controller.core.entries import Entries
from controller.core.refusals import RequestRefused
from nve.model import Binding
from nve.pipeline.state import AssociationRole


class Pairs:
    """Changes the directory and the desired state for pairs.  Nothing is sent here."""

    def __init__(self, desired: DesiredState, directory: Directory, entries: Entries) -> None:
        self._desired = desired
        self._directory = directory
        self._entries = entries

    def add(self, first: Binding, nve: str, port: int) -> None:
        """Add a second instance of a VM; the request has been found possible."""
        system = first.system
        newcomer = nve not in self._desired.present(system.vni)
        there = self._desired.state(first.nve).associations[system]
        binding = self._directory.pair(system, nve)
        second = replace(there, port=port, flooded=False, copy_vni=None, second=True)
        self._desired.associate(nve, second)
        self._entries.enter(nve, binding)
        self._tell(binding)
        if newcomer:
            self._entries.introduce(nve, system)

    def fence(self, vm: str, pair: Binding, nve: str) -> str | None:
        """Fence one instance, so that it answers nobody any more.

        Returns the NVE of the other instance, or None if the same was requested before.  Raises
        RequestRefused.
        """
        system = pair.system
        here = self._desired.state(nve).associations.get(system)
        if pair.second is None:
            if here and here.role is AssociationRole.SUSPENDED and pair.nve != nve:
                return None
            raise RequestRefused(
                f"{vm} has one instance, at {pair.nve}, and that stays; a pair has another"
            )
        if nve not in pair.nves:
            raise RequestRefused(f"{vm} has instances at {' and '.join(pair.nves)}, not at {nve}")
        assert here is not None, pair
        binding = self._directory.part(system, without=nve)
        self._desired.associate(nve, replace(here, role=AssociationRole.SUSPENDED, second=False))
        left = self._desired.state(binding.nve).associations[system]
        if left.second:
            self._desired.associate(
                binding.nve, replace(left, second=False, copy_vni=binding.copy_vni)
            )
        self._tell(binding)
        self._entries.enter(nve, binding)
        return binding.nve

    def _tell(self, binding: Binding) -> None:
        """Update every NVE that has an entry, also those that would otherwise have to ask."""
        system = binding.system
        for nve in self._desired:
            if system in self._desired.state(nve).remotes:
                self._entries.enter(nve, binding)
        self._entries.disseminate(binding, frozenset(binding.nves))
