"""On-boarding a VM in three messages (section 8.2 of the draft, R8.2).

    request       which resources the VM wants (cpu, memory, storage, processes), and its interface
    offer         what is available and where; it is kept for the VM for `lease_s` seconds
    confirmation  puts the offer to use: the VM is associated there (RFC 8394)

An offer that nobody confirms in time *lapses*, and its room is free again.  A confirmation names
the offer by its number, so that a late one cannot confirm another offer.  After a restart of the
NVA the time of an offer starts anew, as no confirmation could be heard meanwhile.

A repeated request gets the same offer.  A VM that is in use is adjusted or off-boarded.
"""

import enum
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Final

from controller.core.refusals import RequestRefused
from nve.model import IPAddress, RoutedNetwork, TenantSystem
from nve.resources import NO_RESOURCES, Resources

USUAL_LEASE_S: Final = 30.0


class OnboardingPhase(enum.StrEnum):
    """The state of an on-boarding."""

    OFFERED = "offered"
    IN_USE = "in-use"
    LAPSED = "lapsed"
    OFF_BOARDED = "off-boarded"


@dataclass(frozen=True)
class Interface:
    """A VM's NIC in its virtual network; see `Authority.associate`."""

    system: TenantSystem
    addresses: frozenset[IPAddress]
    mtu: int = 0
    vlan_tags: bool = False
    claimable: frozenset[IPAddress] = frozenset()
    routed: RoutedNetwork | None = None


@dataclass(frozen=True)
class OnboardingRequest:
    """A request to on-board a VM; `nve` names the server, or is None for any server with room."""

    interface: Interface
    resources: Resources
    nve: str | None = None
    lease_s: float = USUAL_LEASE_S


@dataclass(frozen=True)
class Onboarding:
    """A request, the offer that was made for it, and its present phase."""

    vm: str
    offer: int
    request: OnboardingRequest
    nve: str
    """The NVE of the server that was offered."""
    resources: Resources
    """The resources that the VM takes now."""
    lapses_ns: int
    phase: OnboardingPhase = OnboardingPhase.OFFERED
    port: int = 0
    """The port at which the VM was associated."""
    standby: str = ""
    """The NVE of the server that keeps room for the VM's standby; empty if none does."""
    standby_room: Resources = NO_RESOURCES


class Onboardings:
    """The latest on-boarding of each VM."""

    def __init__(self) -> None:
        self.of: dict[str, Onboarding] = {}
        self._changed: dict[str, None] = {}
        self._last = 0

    def restore(self, known: Iterable[Onboarding], now_ns: int) -> None:
        for each in known:
            lapses_ns = now_ns + int(each.request.lease_s * 1e9)
            self.of[each.vm] = replace(each, lapses_ns=lapses_ns)
            self._last = max(self._last, each.offer)

    def take_changed(self) -> tuple[Onboarding, ...]:
        """Return the on-boardings that have changed since the last call."""
        changed, self._changed = self._changed, {}
        return tuple(self.of[vm] for vm in changed)

    def offers(self) -> Iterator[Onboarding]:
        """Iterate over the on-boardings whose offer may still be confirmed."""
        return (each for each in self.of.values() if each.phase is OnboardingPhase.OFFERED)

    def in_use(self, vm: str) -> Onboarding | None:
        """Return the on-boarding of a VM that is in use, or None if the VM was not on-boarded."""
        known = self.of.get(vm)
        return known if known and known.phase is OnboardingPhase.IN_USE else None

    def standing(self, vm: str, request: OnboardingRequest) -> Onboarding | None:
        """Return the offer that the same request has had already, or None.

        Raises RequestRefused if another request of the VM has one.
        """
        known = self.of.get(vm)
        if known is None or known.phase is not OnboardingPhase.OFFERED:
            return None
        if known.request != request:
            raise RequestRefused(
                f"{vm} has another offer, number {known.offer}, at {known.nve}; confirm that, or "
                "wait until it lapses"
            )
        return known

    def offer(self, vm: str, request: OnboardingRequest, nve: str, now_ns: int) -> Onboarding:
        self._last += 1
        lapses_ns = now_ns + int(request.lease_s * 1e9)
        made = Onboarding(vm, self._last, request, nve, request.resources, lapses_ns)
        return self._put(made)

    def confirmable(self, vm: str, offer: int, port: int, now_ns: int) -> Onboarding:
        """Return the offer that a confirmation is about; the same one may have confirmed it
        already.

        Raises RequestRefused.
        """
        known = self.of.get(vm)
        if known is None or known.offer != offer:
            raise RequestRefused(f"{vm} has no offer number {offer}; ask for one")
        if known.phase is OnboardingPhase.IN_USE and known.port != port:
            raise RequestRefused(f"{vm} is in use already, at port {known.port} of {known.nve}")
        too_late = known.phase is OnboardingPhase.OFFERED and now_ns > known.lapses_ns
        if known.phase in (OnboardingPhase.LAPSED, OnboardingPhase.OFF_BOARDED) or too_late:
            raise RequestRefused(
                f"offer {offer} of {vm} is not open any more: it had to be confirmed within "
                f"{known.request.lease_s:g} s; ask again"
            )
        return known

    def put_to_use(self, known: Onboarding, port: int) -> Onboarding:
        return self._put(replace(known, phase=OnboardingPhase.IN_USE, port=port))

    def adjust(self, known: Onboarding, resources: Resources) -> Onboarding:
        return self._put(replace(known, resources=resources))

    def keep_room(self, known: Onboarding, nve: str, room: Resources) -> Onboarding:
        """Keep room for the standby of a VM at a server, or nowhere if `nve` is empty."""
        return self._put(replace(known, standby=nve, standby_room=room))

    def lapse(self, now_ns: int) -> list[Onboarding]:
        """Let the offers lapse whose time is over, and return them."""
        over = [each for each in self.offers() if now_ns > each.lapses_ns]
        return [self._put(replace(each, phase=OnboardingPhase.LAPSED)) for each in over]

    def off_board(self, vm: str) -> None:
        if vm in self.of:
            self._put(replace(self.of[vm], phase=OnboardingPhase.OFF_BOARDED))

    def _put(self, known: Onboarding) -> Onboarding:
        self.of[known.vm] = known
        self._changed[known.vm] = None
        return known
