"""The entries of NVEs about VMs behind other NVEs: which NVE gets an entry, and which loses it.

The strategy (`controller.core.dissemination`) says which NVEs are told at once and how long entries
live; this module applies that to the desired state.  It sends nothing: `DesiredState.settle` does.
"""

from collections.abc import Iterable

from controller.core import groups
from controller.core.desired_state import DesiredState
from controller.core.directory import Directory
from controller.core.dissemination import Dissemination
from nve.model import Binding, TenantSystem
from nve.pipeline.state import RemoteEntry


class Entries:
    """Keeps the NVEs' entries in step with the directory, as far as the strategy wants it."""

    def __init__(
        self, desired: DesiredState, directory: Directory, strategy: Dissemination
    ) -> None:
        self._desired = desired
        self._directory = directory
        self._strategy = strategy

    def disseminate(self, binding: Binding, involved: frozenset[str]) -> None:
        """Tell NVEs of a changed binding; `involved` are the NVEs that take part in the change."""
        vni = binding.system.vni
        present = self._desired.present(vni)
        for nve in self._strategy.told_at_once(involved, present) - {binding.nve}:
            self.enter(nve, binding)
        groups.spread(self._desired, self._directory, vni)

    def introduce(self, nve: str, newcomer: TenantSystem) -> None:
        """Tell an NVE that has got its first VM of a virtual network of the network's other VMs."""
        for binding in self._directory:
            if binding.system.vni != newcomer.vni or binding.nve == nve:
                continue
            if self._strategy.told_at_once(frozenset(), frozenset({nve})):
                self.enter(nve, binding)

    def follow(self, system: TenantSystem, before: TenantSystem | None) -> None:
        """Give NVEs an entry for the VM that has taken a host address over from another (layer 3).

        They are the NVEs that had a host route to the address.
        """
        binding = self._directory.find(system)
        assert binding is not None, system
        for nve in self._desired:
            known = self._desired.systems(nve)
            if before in known and system not in known and nve != binding.nve:
                self.enter(nve, binding)

    def hand_on(self, source: str, destination: str, system: TenantSystem) -> None:
        """Copy the entries of a VM's source NVE to its destination NVE before the VM arrives.

        Otherwise the VM's first packets to the others would go through the NVA, and later ones
        would overtake them.
        """
        here, there = self._desired.state(source), self._desired.state(destination)
        for other in sorted({*here.associations, *here.remotes} - {*there.remotes, system}):
            binding = self._directory.find(other)
            if other.vni == system.vni and binding and binding.nve != destination:
                self.enter(destination, binding)

    def enter(self, nve: str, binding: Binding) -> None:
        """Give one NVE an entry for one binding, with the strategy's lifetime; an NVE that has an
        instance of the VM needs none."""
        if nve in binding.nves:
            self._desired.set_remote(nve, binding.system, None)
            return
        vteps = self._desired.vteps
        entry = RemoteEntry(
            vteps[binding.nve],
            self._strategy.lifetime_s,
            self._strategy.keeps_expired,
            vteps[binding.second] if binding.second else None,
        )
        self._desired.set_remote(nve, binding.system, entry)

    def de_associate(self, nve: str, system: TenantSystem) -> None:
        """Take a VM's port away.

        An NVE that has lost its last VM of the network also loses its entries for the network's
        other VMs, as it would no longer be told where those are.
        """
        self._desired.de_associate(nve, system)
        if nve not in self._desired.present(system.vni):
            remotes = self._desired.state(nve).remotes
            for other in [item for item in remotes if item.vni == system.vni]:
                self._desired.set_remote(nve, other, None)

    def forget_mortal(self) -> list[tuple[str, TenantSystem]]:
        """Take back every entry with a lifetime; return those that are to be entered anew.

        An experiment starts with no such entries or, if NVEs keep expired entries in use, with
        fresh ones.
        """
        forgotten = [
            (nve, system)
            for nve in self._desired
            for system, entry in self._desired.state(nve).remotes.items()
            if entry.lifetime_s
        ]
        for nve, system in forgotten:
            self._desired.set_remote(nve, system, None)
        return forgotten if self._strategy.keeps_expired else []

    def enter_again(self, forgotten: Iterable[tuple[str, TenantSystem]]) -> None:
        """Enter entries that were taken back, with the present bindings."""
        for nve, system in forgotten:
            binding = self._directory.find(system)
            if binding and binding.nve != nve:
                self.enter(nve, binding)

    def refresh(self, nve: str, but: frozenset[TenantSystem]) -> None:
        """Give an NVE that was out of reach current entries in place of those with a lifetime.

        Its old ones may have expired unnoticed, and would mislead it for another lifetime.  `but`
        names the VMs for whose handover the NVE waits; their entries stay.
        """
        remotes = self._desired.state(nve).remotes
        has_timeout = {system for system, entry in remotes.items() if entry.lifetime_s}
        self.enter_again((nve, system) for system in has_timeout - but)

    def leads_on(self, nve: str, system: TenantSystem) -> bool:
        """Return whether an NVE's entry is outdated but what it sends still reaches the VM by a
        redirect.
        """
        entry, binding = self._desired.state(nve).remotes.get(system), self._directory.find(system)
        if entry is None or binding is None or not self.is_outdated(nve, binding):
            return False
        (old,) = (name for name, vtep in self._desired.vteps.items() if vtep == entry.vtep)
        redirect = self._desired.state(old).redirects.get(system)
        return redirect is not None and redirect.to is not None

    def outdated(self, binding: Binding) -> frozenset[str]:
        """Return the NVEs whose entry would send a VM's packets to an NVE that it has left."""
        return frozenset(nve for nve in self._desired if self.is_outdated(nve, binding))

    def is_outdated(self, nve: str, binding: Binding) -> bool:
        """Return whether this NVE's entry names an NVE that the VM has left."""
        entry = self._desired.state(nve).remotes.get(binding.system)
        return entry is not None and entry.vtep != self._desired.vteps[binding.nve]
