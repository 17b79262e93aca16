"""The NVA's central directory: (VNI, MAC, IPv4/IPv6) -> NVE (R4.1.2, R4.1.6).

Each binding carries a sequence number that only grows.  A message about a binding that is older
than the one in the directory is its sender's mistake, not an error of ours: it is answered with
`Outcome.STALE`, and nothing changes.  Lookups are by MAC, and by IP address inside one virtual
network; the same addresses in two virtual networks never meet (R4.1.8).
"""

import enum
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import replace

from nve.model import Binding, IPAddress, TenantSystem, Vni


class RebindOutcome(enum.Enum):
    """How the directory has treated an update."""

    CHANGED = "changed"
    CONFIRMED = "confirmed"
    STALE = "stale"


class AddressInUse(ValueError):
    """Another tenant system of the same virtual network holds the address."""


class Directory:
    """Maps tenant systems to NVEs.  A tenant system has one binding; an address belongs to one of
    them.
    """

    def __init__(self) -> None:
        self._bindings: dict[TenantSystem, Binding] = {}
        self._owners: dict[tuple[Vni, IPAddress], TenantSystem] = {}
        self._members: defaultdict[Vni, Counter[str]] = defaultdict(Counter)
        """How many tenant systems of a virtual network are bound to each NVE."""
        self._changed: set[TenantSystem] = set()
        self._last_number = 0

    def __iter__(self) -> Iterator[Binding]:
        return iter(self._bindings.values())

    def register(self, system: TenantSystem, addresses: frozenset[IPAddress], nve: str) -> Binding:
        """Enter a tenant system, or replace its entry and addresses.  Raises AddressInUse."""
        self.require_free(system, addresses)
        known = self._bindings.get(system)
        for address in known.addresses if known else ():
            del self._owners[(system.vni, address)]
        sequence = known.sequence + 1 if known else 1
        number = known.number if known else self._last_number + 1
        return self.restore(Binding(system, addresses, nve, sequence, number, home=nve))

    def require_free(self, system: TenantSystem, addresses: frozenset[IPAddress]) -> None:
        """Raise AddressInUse if one of the addresses belongs to another tenant system."""
        for address in addresses:
            owner = self._owners.get((system.vni, address), system)
            if owner != system:
                raise AddressInUse(f"{address} in VNI {system.vni} belongs to {owner.mac}")

    def restore(self, binding: Binding) -> Binding:
        """Enter a binding as it is, sequence number included."""
        for address in binding.addresses:
            self._owners[(binding.system.vni, address)] = binding.system
        return self._put(binding)

    def take_changed(self) -> tuple[Binding, ...]:
        """Return the bindings that have changed since the last call."""
        changed = tuple(self._bindings[system] for system in self._changed)
        self._changed.clear()
        return changed

    def rebind(self, system: TenantSystem, nve: str, sequence: int) -> RebindOutcome:
        """Record that update number `sequence` places the tenant system behind `nve`.

        Raises KeyError for a tenant system that was never registered.
        """
        known = self._bindings[system]
        if sequence < known.sequence or (sequence == known.sequence and nve != known.nve):
            return RebindOutcome.STALE
        if nve == known.nve:
            return RebindOutcome.CONFIRMED
        self._put(replace(known, nve=nve, sequence=sequence, moved=True))
        return RebindOutcome.CHANGED

    def pair(self, system: TenantSystem, second: str) -> Binding:
        """The tenant system has a second instance, behind `second`.  Raises KeyError for one that
        is not registered."""
        known = self._bindings[system]
        return self._put(replace(known, second=second, sequence=known.sequence + 1))

    def part(self, system: TenantSystem, *, without: str) -> Binding:
        """Of two instances, one is left: not that behind `without`."""
        known = self._bindings[system]
        (left,) = (nve for nve in known.nves if nve != without)
        return self._put(
            replace(
                known,
                nve=left,
                second=None,
                sequence=known.sequence + 1,
                moved=known.moved or left != known.nve,
            )
        )

    def claim(self, system: TenantSystem, address: IPAddress) -> TenantSystem | None:
        """Give an address of the network to a tenant system, whether or not another one has it.

        Returns the tenant system that had it, which may be the same.  Raises KeyError for a tenant
        system that is not registered.
        """
        known, key = self._bindings[system], (system.vni, address)
        before = self._owners.get(key)
        if before == system:
            return before
        if before:
            theirs = self._bindings[before]
            self._put(replace(theirs, addresses=theirs.addresses - {address}))
        self._put(replace(known, addresses=known.addresses | {address}))
        self._owners[key] = system
        return before

    def remove(self, system: TenantSystem) -> None:
        """Forget a tenant system and its addresses.  Raises KeyError if it is not registered."""
        gone = self._bindings.pop(system)
        for address in gone.addresses:
            del self._owners[(system.vni, address)]
        self._members[system.vni][gone.nve] -= 1
        self._changed.discard(system)

    def find(self, system: TenantSystem) -> Binding | None:
        """Return the binding of a tenant system, or None."""
        return self._bindings.get(system)

    def find_address(self, vni: Vni, address: IPAddress) -> Binding | None:
        """Return the binding of the tenant system that holds an IP address in a virtual network, or
        None.
        """
        owner = self._owners.get((vni, address))
        return self._bindings[owner] if owner else None

    def members(self, vni: Vni) -> frozenset[str]:
        """Return the NVEs that tenant systems of a virtual network are bound to."""
        return frozenset(nve for nve, count in self._members[vni].items() if count)

    def _put(self, binding: Binding) -> Binding:
        system = binding.system
        if known := self._bindings.get(system):
            self._members[system.vni][known.nve] -= 1
        self._members[system.vni][binding.nve] += 1
        self._bindings[system] = binding
        self._last_number = max(self._last_number, binding.number)
        self._changed.add(system)
        return binding
