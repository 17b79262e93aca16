"""VMs with two instances that both serve: a hot standby (R7.4).

    add     a second instance starts at another NVE: both are active, and every other NVE spreads
            the VM's flows over the two
    fence   one of them ends or must not be heard any more: nothing that comes from its port is
            taken, nothing is delivered to it, and everything goes to the other one

Only one instance is ever fenced, so an instance whose other one is fenced may go on alone, and
never both.  That counts once the fenced one's NVE has confirmed it, or its server is known to be
dead: then the NVE is told so before it forwards anything again.
"""

from dataclasses import replace

from controller.core.desired_state import DesiredState
from controller.core.directory import Directory
from controller.core.entries import Entries
from controller.core.refusals import RequestRefused
from nve.model import Binding
from nve.pipeline.state import AssociationRole


class Pairs:
    """What pairs do to the directory and the desired state.  Nothing is sent here."""

    def __init__(self, desired: DesiredState, directory: Directory, entries: Entries) -> None:
        self._desired = desired
        self._directory = directory
        self._entries = entries

    def add(self, first: Binding, nve: str, port: int) -> None:
        """A second instance of a VM starts.  The request has been found possible."""
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
        """One instance answers nobody any more.  Returns the NVE of the one that is left; None
        where the same was asked before.  Raises RequestRefused."""
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
        """Whoever has an entry gets another, also where others would wait to be asked."""
        system = binding.system
        for nve in self._desired:
            if system in self._desired.state(nve).remotes:
                self._entries.enter(nve, binding)
        self._entries.disseminate(binding, frozenset(binding.nves))
