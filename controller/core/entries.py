"""The entries of NVEs about VMs behind other NVEs: who gets which, and who loses it.

The strategy (`controller.core.dissemination`) says who is told at once and for how long; this
applies it to what NVEs have to hold.  Nothing is sent here: `DesiredState.settle` does that.
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
        """A binding has changed; `involved` are the NVEs that take part in the change."""
        vni = binding.system.vni
        present = self._desired.present(vni)
        for nve in self._strategy.told_at_once(involved, present) - {binding.nve}:
            self.enter(nve, binding)
        groups.spread(self._desired, self._directory, vni)

    def introduce(self, nve: str, newcomer: TenantSystem) -> None:
        """The first VM of a virtual network has come to an NVE: tell it of the others there."""
        for binding in self._directory:
            if binding.system.vni != newcomer.vni or binding.nve == nve:
                continue
            if self._strategy.told_at_once(frozenset(), frozenset({nve})):
                self.enter(nve, binding)

    def follow(self, system: TenantSystem, before: TenantSystem | None) -> None:
        """An address has gone from one VM to another (layer 3): the NVEs that had a host route to
        it need an entry for the VM that it leads to now."""
        binding = self._directory.find(system)
        assert binding is not None, system
        for nve in self._desired:
            known = self._desired.systems(nve)
            if before in known and system not in known and nve != binding.nve:
                self.enter(nve, binding)

    def hand_on(self, source: str, destination: str, system: TenantSystem) -> None:
        """What a VM's NVE knows of the others of its network, the next one gets before the VM is
        there: its first packets to them would have to go through the NVA, and later ones would
        overtake them."""
        here, there = self._desired.state(source), self._desired.state(destination)
        for other in sorted({*here.associations, *here.remotes} - {*there.remotes, system}):
            binding = self._directory.find(other)
            if other.vni == system.vni and binding and binding.nve != destination:
                self.enter(destination, binding)

    def enter(self, nve: str, binding: Binding) -> None:
        """Give one NVE one entry, with the strategy's lifetime."""
        vtep = self._desired.vteps[binding.nve]
        entry = RemoteEntry(vtep, self._strategy.lifetime_s, self._strategy.keeps_expired)
        self._desired.set_remote(nve, binding.system, entry)

    def de_associate(self, nve: str, system: TenantSystem) -> None:
        """Take a VM's port away.  An NVE whose last VM of the network it was forgets the others:
        it would not be told any more where they are."""
        self._desired.de_associate(nve, system)
        if nve not in self._desired.present(system.vni):
            remotes = self._desired.state(nve).remotes
            for other in [item for item in remotes if item.vni == system.vni]:
                self._desired.set_remote(nve, other, None)

    def forget_mortal(self) -> list[tuple[str, TenantSystem]]:
        """Take back every entry with a lifetime; returns those that are to be entered anew.

        An experiment starts with no such entries or, where NVEs keep theirs, with fresh ones.
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
        """Give entries that were taken back, as they are right now."""
        for nve, system in forgotten:
            binding = self._directory.find(system)
            if binding and binding.nve != nve:
                self.enter(nve, binding)

    def refresh(self, nve: str, but: frozenset[TenantSystem]) -> None:
        """An NVE has been out of reach, and what it held may have expired unheard: it gets the
        entries of now, for old ones would only lead it astray for another lifetime.  `but` those
        about VMs that it waits for a handover of."""
        remotes = self._desired.state(nve).remotes
        has_timeout = {system for system, entry in remotes.items() if entry.lifetime_s}
        self.enter_again((nve, system) for system in has_timeout - but)

    def leads_on(self, nve: str, system: TenantSystem) -> bool:
        """Whether an NVE's entry is old, and what it sends still reaches the VM, redirected."""
        entry, binding = self._desired.state(nve).remotes.get(system), self._directory.find(system)
        if entry is None or binding is None or not self.is_outdated(nve, binding):
            return False
        (old,) = (name for name, vtep in self._desired.vteps.items() if vtep == entry.vtep)
        redirect = self._desired.state(old).redirects.get(system)
        return redirect is not None and redirect.to is not None

    def outdated(self, binding: Binding) -> frozenset[str]:
        """The NVEs that would send a VM's packets to where it no longer is."""
        return frozenset(nve for nve in self._desired if self.is_outdated(nve, binding))

    def is_outdated(self, nve: str, binding: Binding) -> bool:
        """Whether this NVE would."""
        entry = self._desired.state(nve).remotes.get(binding.system)
        return entry is not None and entry.vtep != self._desired.vteps[binding.nve]
