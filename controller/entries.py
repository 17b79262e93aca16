"""The entries of NVEs about VMs behind other NVEs: who gets which, and who loses it.

The strategy (`controller.dissemination`) says who is told at once and for how long; this applies it
to the book.  Nothing is sent here: `Book.settle` does that.
"""

from controller.book import Book
from controller.dissemination import Dissemination
from controller.mapping import Directory
from nve.model import Binding, TenantSystem
from nve.pipeline import RemoteEntry


class Entries:
    """Keeps the NVEs' entries in step with the directory, as far as the strategy wants it."""

    def __init__(self, book: Book, directory: Directory, strategy: Dissemination) -> None:
        self._book = book
        self._directory = directory
        self._strategy = strategy

    def disseminate(self, binding: Binding, involved: frozenset[str]) -> None:
        """A binding has changed; `involved` are the NVEs that take part in the change."""
        vni = binding.system.vni
        present = self._book.present(vni)
        for nve in self._strategy.told_at_once(involved, present) - {binding.nve}:
            self.enter(nve, binding)
        self._book.set_members(vni, self._directory.members(vni))

    def introduce(self, nve: str, newcomer: TenantSystem) -> None:
        """The first VM of a virtual network has come to an NVE: tell it of the others there."""
        for binding in self._directory:
            if binding.system.vni != newcomer.vni or binding.nve == nve:
                continue
            if self._strategy.told_at_once(frozenset(), frozenset({nve})):
                self.enter(nve, binding)

    def enter(self, nve: str, binding: Binding) -> None:
        """Give one NVE one entry, with the strategy's lifetime."""
        entry = RemoteEntry(self._book.vteps[binding.nve], self._strategy.lifetime_s)
        self._book.set_remote(nve, binding.system, entry)

    def detach(self, nve: str, system: TenantSystem) -> None:
        """Take a VM's port away.  An NVE whose last VM of the network it was forgets the others:
        it would not be told any more where they are."""
        self._book.detach(nve, system)
        if nve not in self._book.present(system.vni):
            remotes = self._book.state(nve).remotes
            for other in [item for item in remotes if item.vni == system.vni]:
                self._book.set_remote(nve, other, None)

    def forget_mortal(self) -> None:
        """Take back every entry with a lifetime, so that an experiment starts from none."""
        for nve in self._book:
            remotes = self._book.state(nve).remotes
            for system in [item for item, entry in remotes.items() if entry.lifetime_s]:
                self._book.set_remote(nve, system, None)

    def outdated(self, binding: Binding) -> list[str]:
        """The NVEs that would send a VM's packets to where it no longer is."""
        here = self._book.vteps[binding.nve]
        return [
            nve
            for nve in self._book
            if (entry := self._book.state(nve).remotes.get(binding.system)) and entry.vtep != here
        ]
