"""The NVA's decisions: events in, effects out.

Inputs are method calls (a report of an NVE, a request of the orchestrator, the passing of time),
each with the time at which it happened, `now_ns`.  Effects wait in an outbox until `take_effects`.
There are no sockets, clocks or threads here: the application around it (`controller.nva`) has
those.

Every input is handled the same way (`_deciding`): first it changes the parts below, which send
nothing themselves; then one loop works out the consequences until nothing changes any more.

    known       which VMs and NVEs there are              controller.core.known
    directory   which NVE each VM is behind               controller.core.directory
    desired     what each NVE has to hold                 controller.core.desired_state
    entries     which NVE knows of which VM, how long     controller.core.entries, .dissemination
    moves       the moves under way                       controller.core.moves, .move_fsm
    reports     what NVEs see, and VMs say                controller.core.reports,
                                                          .address_validation

A caller's mistake raises `RequestRefused` and changes nothing.  A peer's mistake (a forged or
malformed announcement, a report about a rule that is no longer wanted) is recorded and has no other
effect.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict

from controller.core import groups
from controller.core.admission import Admission
from controller.core.desired_state import DesiredState, TunnelMtus
from controller.core.directory import Directory
from controller.core.dissemination import Dissemination
from controller.core.drops import Reason
from controller.core.entries import Entries
from controller.core.handover import Handovers
from controller.core.known import Known
from controller.core.move import Move, MoveRequest
from controller.core.move_fsm import (
    BEFORE_ACTIVATION,
    GIVE_UP_S,
    MoveEvent,
    OutOfTurn,
)
from controller.core.moves import Moves
from controller.core.onboarding import Interface, Onboarding, OnboardingRequest, Onboardings
from controller.core.outbox import Outbox
from controller.core.pairs import Pairs
from controller.core.refusals import RequestRefused, Unknown
from controller.core.reports import Reports
from controller.core.snapshot import Durable, SnapshotChange
from controller.core.violation_counters import ViolationCounters
from nve.messages import (
    Effect,
    Report,
)
from nve.model import IPAddress, RoutedNetwork, TenantSystem, Vtep
from nve.pipeline.limits import USUAL, Limits
from nve.pipeline.state import Association, AssociationRole, UnderlayPlace
from nve.resources import NO_RESOURCES, Capacity, Resources


class Authority:
    """The NVA.  `vteps` names the NVEs it serves and their underlay addresses."""

    def __init__(
        self,
        vteps: dict[str, Vtep],
        dissemination: Dissemination,
        limits: Limits = USUAL,
        tunnel_mtus: TunnelMtus | None = None,
        *,
        end_markers: bool = False,
        underlay: Mapping[str, UnderlayPlace] | None = None,
        capacities: Mapping[str, Capacity] | None = None,
    ) -> None:
        """`capacities` says what the NVEs' servers have; a server not named is never full."""
        self.directory = Directory()
        self.desired = DesiredState(vteps, limits, tunnel_mtus, underlay)
        self.known = Known(self.desired, self.directory)
        self._outbox = Outbox()
        self.violations = ViolationCounters(self._outbox)
        self._entries = Entries(self.desired, self.directory, dissemination)
        self._handovers = Handovers(
            self.desired,
            self.directory,
            self._entries,
            self._outbox,
            enabled=end_markers,
            name=self.known.name,
        )
        self._moves = Moves(
            self.desired,
            self.directory,
            self._entries,
            self._outbox,
            self._handovers,
        )
        self._reports = Reports(
            self.desired,
            self.directory,
            self._entries,
            self._handovers,
            self._moves,
            self._outbox,
            self.violations,
            self.known.name,
        )
        self._pairs = Pairs(self.desired, self.directory, self._entries)
        self._onboardings = Onboardings()
        self.admission = Admission(capacities or {}, self.directory, self._moves, self._onboardings)
        self.durable = Durable(
            self.known,
            self.directory,
            self.desired,
            self._moves,
            self._handovers,
            self._onboardings,
        )
        self._away_since_ns: dict[str, int] = {}

    def take_effects(self) -> list[Effect]:
        """Return what has to be done now, in order, and empty the outbox."""
        return self._outbox.take()

    @property
    def counted(self) -> Counter[tuple[str, int | None, str]]:
        """The number of mistakes of peers, by NVE, port and kind."""
        return self.violations.refused

    @property
    def moves(self) -> list[Move]:
        """All moves, finished ones included, in the order in which they were requested."""
        return list(self._moves.all.values())

    @property
    def onboardings(self) -> list[Onboarding]:
        """The latest on-boarding of each VM that was on-boarded."""
        return list(self._onboardings.of.values())

    def restore(self, whole: SnapshotChange, now_ns: int) -> None:
        """Continue from the state of an earlier NVA process that was killed.

        Raises ValueError if that process was the NVA of another data centre.
        """
        with self._deciding(now_ns):
            self.durable.restore(whole, now_ns)
            under_way = [move.key for move in self._moves.unfinished()]
            self._outbox.record("nva-restarted", "nva", moves=under_way)

    # -- NVEs ----------------------------------------------------------------------------------

    def nve_connected(self, nve: str, now_ns: int) -> None:
        """Record that an NVE's control channel is up.  Raises RequestRefused if this NVA does not
        serve it.
        """
        with self._deciding(now_ns):
            if nve not in self.desired.vteps:
                raise RequestRefused(f"no NVE {nve!r} here; there are {', '.join(self.desired)}")
            self._away_since_ns.pop(nve, None)
            self._entries.refresh(nve, self._handovers.missed(nve))
            self._moves.connected(nve)
            reconcile = self.desired.connected(nve)
            self.violations.drops.watch(nve, reconcile.rules)
            self._outbox.put(reconcile)
            self._handovers.connected(nve)
            self._outbox.record("nve-connected", nve)
            for system, association in self.desired.state(nve).associations.items():
                if association.role is AssociationRole.SUSPENDED:
                    self._outbox.record("vm-fenced", self.known.name(system), nve=nve)

    def nve_disconnected(self, nve: str, now_ns: int) -> None:
        with self._deciding(now_ns):
            self.desired.disconnected(nve)
            self._moves.lost(nve)
            self._outbox.record("nve-disconnected", nve)

    def confirmed(self, nve: str, token: int, now_ns: int) -> None:
        """Record that an NVE has carried out everything up to the Tell with this token (barrier
        reply).
        """
        with self._deciding(now_ns):
            self._moves.confirmed(nve, self.desired.confirmed(nve, token))

    def reported(self, nve: str, report: Report, now_ns: int) -> None:
        """Handle a report of something that an NVE saw."""
        with self._deciding(now_ns):
            self._reports.take(nve, report)

    def refused_on_control(self, nve: str, what: str, now_ns: int) -> None:
        """Count a message on the control network that was refused, by the NVE whose name or place
        it used; `nve` is "?" if the sender is unknown.
        """
        with self._deciding(now_ns):
            self.violations.refuse(nve, None, what)

    def refused_by(self, nve: str, kind: int, code: int, now_ns: int) -> None:
        """Record that an NVE refused an instruction with an OpenFlow error: this is a defect of the
        NVA.
        """
        with self._deciding(now_ns):
            self._outbox.record("instruction-refused", nve, type=kind, code=code)

    def tick(self, now_ns: int) -> None:
        """Handle the passing of time.

        Roll back moves that are past their deadline, give up NVEs that have been out of reach for
        too long, and let offers lapse.
        """
        with self._deciding(now_ns):
            for offer in self._onboardings.lapse(now_ns):
                self._outbox.record("offer-lapsed", offer.vm, nve=offer.nve, offer=offer.offer)
            for move in self._moves.unfinished():
                if now_ns > move.deadline_ns:
                    self._moves.take(move, MoveEvent.TIMED_OUT)
            for nve in self.desired:
                if not self.desired.is_connected(nve):
                    since_ns = self._away_since_ns.setdefault(nve, now_ns)
                    if now_ns - since_ns > GIVE_UP_S * 1e9:
                        self._handovers.give_up(nve)
                        self._moves.give_up(nve)

    # -- requests of the orchestrator ------------------------------------------------------------

    def associate(
        self,
        vm: str,
        system: TenantSystem,
        addresses: frozenset[IPAddress],
        nve: str,
        port: int,
        now_ns: int,
        *,
        mtu: int = 0,
        vlan_tags: bool = False,
        claimable: frozenset[IPAddress] = frozenset(),
        routed: RoutedNetwork | None = None,
    ) -> None:
        """Associate a VM that starts behind an NVE (RFC 8394 associate).  Raises RequestRefused.

        The VM sends packets of up to `mtu` octets; 0 stands for what fits through every tunnel.
        With `vlan_tags`, the VMs of its network may send frames with VLAN tags.  The VM may take
        over `claimable` addresses from other VMs, but has none of them to begin with.  `routed`
        makes its network one of layer 3, and has to be the same for all VMs of the network.
        """
        interface = Interface(system, addresses, mtu, vlan_tags, claimable, routed)
        with self._deciding(now_ns):
            self._associate(vm, interface, nve, port)

    def _associate(self, vm: str, interface: Interface, nve: str, port: int) -> None:
        self.known.require_nve(nve)
        self.known.require_free_port(nve, port)
        self.known.require_new(vm, interface)
        system, addresses = interface.system, interface.addresses
        binding = self.directory.register(system, addresses, nve)
        newcomer = nve not in self.desired.present(system.vni)
        self.known.add({vm: system})
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
        self.desired.associate(nve, association)
        self.desired.set_hosts(system, binding.addresses)
        self.desired.raise_vm_mtu(system.vni, interface.mtu)
        self._entries.disseminate(binding, frozenset({nve}))
        if newcomer:
            self._entries.introduce(nve, system)
        self._outbox.record("vm-associated", vm, nve=nve, port=port, vni=system.vni)

    def de_associate(self, vm: str, nve: str, now_ns: int) -> None:
        """Take away a VM's port at an NVE (RFC 8394 de-associate).

        Raises RequestRefused if the VM runs there.
        """
        with self._deciding(now_ns):
            system = self.known.vm(vm)
            self.known.require_nve(nve)
            association = self.desired.state(nve).associations.get(system)
            if association is None:
                raise RequestRefused(f"{vm} has no port at {nve}")
            if association.role is AssociationRole.PRE_ASSOCIATED:
                raise RequestRefused(
                    f"{vm} has a place at {nve} for a move; roll that move back if it is not to "
                    "be carried out"
                )
            if association.role is AssociationRole.ACTIVE:
                raise RequestRefused(f"{vm} is active at {nve}; move it away first")
            if self.known.binding(system).nve == nve:
                raise RequestRefused(f"{vm} may still come back to {nve}; wait")
            self._entries.de_associate(nve, system)
            self._outbox.record("vm-de-associated", vm, nve=nve)

    def offer(self, vm: str, request: OnboardingRequest, now_ns: int) -> Onboarding:
        """Offer a place and resources to a VM that is to be on-boarded (R8.2).  Raises
        RequestRefused.

        A repeated request returns the same offer, with the time that it has left.
        """
        with self._deciding(now_ns):
            self._onboardings.lapse(now_ns)
            if standing := self._onboardings.standing(vm, request):
                return standing
            self.known.require_new(vm, request.interface)
            if request.nve is not None:
                self.known.require_nve(request.nve)
                self.known.require_connected(request.nve)
            reachable = [nve for nve in self.desired if self.desired.is_connected(nve)]
            nve = self.admission.place_for(vm, request, reachable)
            made = self._onboardings.offer(vm, request, nve, now_ns)
            wanted = asdict(request.resources)
            self._outbox.record("vm-offered", vm, nve=nve, offer=made.offer, **wanted)
            return made

    def confirm_offer(self, vm: str, offer: int, port: int, now_ns: int) -> Onboarding:
        """Put an offer to use: the VM starts at the offered server (RFC 8394 associate).

        Repeating a confirmation does no harm.  Raises RequestRefused.
        """
        with self._deciding(now_ns):
            known = self._onboardings.confirmable(vm, offer, port, now_ns)
            if self._onboardings.in_use(vm):
                return known
            self._associate(vm, known.request.interface, known.nve, port)
            self._outbox.record("vm-on-boarded", vm, nve=known.nve, offer=offer)
            return self._onboardings.put_to_use(known, port)

    def adjust(self, vm: str, resources: Resources, now_ns: int) -> Onboarding:
        """Change the resources of a VM that stays where it is.  Raises RequestRefused."""
        with self._deciding(now_ns):
            system = self.known.vm(vm)
            known = self._onboardings.in_use(vm)
            if known is None:
                raise RequestRefused(f"{vm} was not on-boarded: it has no resources to adjust")
            if self._moves.ends(system):
                raise RequestRefused(f"{vm} is being moved; wait until its move is complete")
            for nve in self.known.binding(system).nves:
                self.admission.require_room(vm, nve, resources)
            self._outbox.record("vm-adjusted", vm, **asdict(resources))
            return self._onboardings.adjust(known, resources)

    def keep_room_for_standby(self, vm: str, nve: str, room: Resources, now_ns: int) -> Onboarding:
        """Keep room on a server for the standby of a VM, which is mirrored there (R7.2, R7.3).

        Asked for again, it is the same.  Raises RequestRefused.
        """
        with self._deciding(now_ns):
            system = self.known.vm(vm)
            self.known.require_nve(nve)
            known = self._onboardings.in_use(vm)
            if known is None:
                raise RequestRefused(f"{vm} was not on-boarded: no room is kept for its standby")
            if (known.standby, known.standby_room) == (nve, room):
                return known
            if known.standby:
                raise RequestRefused(
                    f"{vm} has a standby at {known.standby} already; give that up first"
                )
            if self.known.binding(system).nve == nve:
                raise RequestRefused(f"{vm} is at {nve} itself; name another NVE")
            if shortage := self.admission.free(nve, but=vm).shortage(room):
                raise RequestRefused(
                    f"{nve} has no room for the standby of {vm}: {shortage}; make room there, or "
                    "name another NVE"
                )
            self._outbox.record("standby-placed", vm, nve=nve, **asdict(room))
            return self._onboardings.keep_room(known, nve, room)

    def give_up_standby(self, vm: str, now_ns: int) -> Onboarding:
        """Give back the room that is kept for the standby of a VM, if any is.

        Raises RequestRefused.
        """
        with self._deciding(now_ns):
            self.known.vm(vm)
            known = self._onboardings.in_use(vm)
            if known is None:
                raise RequestRefused(f"{vm} was not on-boarded: no room is kept for its standby")
            if not known.standby:
                return known
            self._outbox.record("standby-given-up", vm, nve=known.standby)
            return self._onboardings.keep_room(known, "", NO_RESOURCES)

    def off_board(self, vm: str, now_ns: int) -> None:
        """Off-board a VM that has ended: take back its ports, its entries and its room.

        Raises RequestRefused while it is being moved.
        """
        with self._deciding(now_ns):
            system = self.known.vm(vm)
            if self._moves.ends(system) or self._handovers.under_way(system):
                raise RequestRefused(f"{vm} is being moved; wait until its move is complete")
            nve = self.known.binding(system).nve
            for each in self.desired:
                if system in self.desired.systems(each):
                    self.desired.set_redirect(each, system, None)
                    self.desired.set_remote(each, system, None)
                    self.desired.set_marker(each, system, None)
                    self._entries.de_associate(each, system)
            self.directory.remove(system)
            self.desired.set_hosts(system, frozenset())
            groups.spread(self.desired, self.directory, system.vni)
            self.known.remove(vm)
            self._onboardings.off_board(vm)
            self._outbox.record("vm-off-boarded", vm, nve=nve)

    def route(self, vm: str, address: IPAddress, now_ns: int) -> str | None:
        """Route a host address to another VM of the network, for which it is `claimable`.

        Returns the name of the VM that the route led to before.  Raises RequestRefused.
        """
        with self._deciding(now_ns):
            system = self.known.vm(vm)
            binding = self.known.binding(system)
            if not self.desired.is_routed(system.vni):
                raise RequestRefused(
                    f"{vm} is in a network of layer 2, which has no host routes; there a VM takes "
                    "an address over by announcing it"
                )
            if address not in self.desired.state(binding.nve).associations[system].addresses:
                raise RequestRefused(f"{vm} may not have {address}; associate it with that")
            before = self._reports.route(system, address)
            return self.known.name(before) if before else None

    def add_instance(self, vm: str, nve: str, port: int, now_ns: int) -> None:
        """A second instance of a VM starts behind another NVE (hot standby, R7.4).  Raises
        RequestRefused.

        Asked for again, it is the same.
        """
        with self._deciding(now_ns):
            system = self.known.vm(vm)
            self.known.require_nve(nve)
            binding = self.known.binding(system)
            there = self.desired.state(nve).associations.get(system)
            if binding.second == nve and there and there.port == port:
                return
            if len(binding.nves) > 1:
                raise RequestRefused(f"{vm} has instances at {' and '.join(binding.nves)} already")
            if binding.nve == nve:
                raise RequestRefused(f"{vm} is at {nve} itself; name another NVE")
            if self.desired.is_routed(system.vni):
                raise RequestRefused(
                    f"{vm} is in a network of layer 3; flows are spread over two instances at "
                    "layer 2 only"
                )
            if self._moves.ends(system) or self._handovers.under_way(system):
                raise RequestRefused(f"{vm} is being moved; wait until its move is complete")
            if there:
                raise RequestRefused(f"{vm} still has a port at {nve}; de-associate that first")
            self.known.require_connected(nve)
            self.known.require_free_port(nve, port)
            if known := self._onboardings.in_use(vm):
                self.admission.require_room(vm, nve, known.resources)
            self._pairs.add(binding, nve, port)
            self._outbox.record("instance-added", vm, nve=nve, port=port)

    def fence_instance(self, vm: str, nve: str, now_ns: int) -> str:
        """One of a VM's two instances answers nobody any more; the other one is left.  Returns the
        NVE of that.  Raises RequestRefused.

        Asked for again, it is the same.  Nobody may go on alone before the NVE has confirmed, or
        while it might still forward: see `controller.core.pairs`.
        """
        with self._deciding(now_ns):
            system = self.known.vm(vm)
            self.known.require_nve(nve)
            if left := self._pairs.fence(vm, self.known.binding(system), nve):
                self._outbox.record("instance-fenced", vm, nve=nve, left=left)
            return self.known.binding(system).nve

    def request_move(self, key: str, request: MoveRequest, now_ns: int) -> Move:
        """Prepare a move: the destination NVE gets ready (R5.1).  Raises RequestRefused.

        `key` is the caller's name for the move.  Repeating a request returns the same move,
        whatever its phase; a different request under the same key is refused.
        """
        with self._deciding(now_ns):
            if key in self._moves.all:
                return self._repeated(self._moves.all[key], request)
            binding = self.known.binding(self.known.vm(request.vm))
            self.known.require_nve(request.to)
            if request.source not in (None, binding.nve):
                raise RequestRefused(
                    f"{request.vm} is at {binding.nve}, not at {request.source}; ask for a move "
                    "from there"
                )
            if binding.nve == request.to:
                raise RequestRefused(f"{request.vm} is at {request.to} already; name another NVE")
            if binding.second:
                raise RequestRefused(
                    f"{request.vm} has instances at {' and '.join(binding.nves)}, which answer as "
                    "one; a VM with a hot standby is not moved"
                )
            busy = self._moves.of(binding.system)
            if busy and busy.phase in BEFORE_ACTIVATION:
                raise RequestRefused(
                    f"{request.vm} is still being moved to {busy.destination} ({busy.phase}); "
                    "wait until it has arrived, or roll that move back"
                )
            if bool(request.idle_s) == bool(request.timer_s):
                raise RequestRefused(
                    "say either idle_s or timer_s: when forwarding at the source NVE ends"
                )
            needed = [binding.nve, request.to] if request.needs_source else [request.to]
            for nve in needed:
                self.known.require_connected(nve)
            self.known.require_no_way_round(request.to, binding.system)
            self.known.require_free_port(request.to, request.port, for_=binding.system)
            self.admission.require_room_for_move(request)
            return self._moves.begin(key, request, binding)

    def redirect(self, key: str, now_ns: int) -> Move:
        """Treat packets for a VM that is about to stop at the source as in flight (R4.1.4)."""
        return self._event_of_caller(key, MoveEvent.REDIRECT_ASKED, now_ns)

    def network_nves(self, move: Move) -> list[str]:
        """Return the connected NVEs to which the VM's packets from its source may go, in order."""
        return self._handovers.network_nves(move.system, move.source)

    def activate(self, key: str, now_ns: int) -> Move:
        """Record that the VM runs at the destination (RFC 8394 activate)."""
        return self._event_of_caller(key, MoveEvent.ACTIVATED, now_ns)

    def roll_back(self, key: str, now_ns: int) -> Move:
        """Give a move up, which is possible until the VM has arrived."""
        return self._event_of_caller(key, MoveEvent.ROLL_BACK_ASKED, now_ns)

    def forget_entries(self, now_ns: int) -> None:
        """Take back every entry with a lifetime, so that an experiment starts without any.

        If NVEs keep expired entries in use, they get fresh ones instead.
        """
        with self._deciding(now_ns):
            kept = self._entries.forget_mortal()
            self._tell()  # so that those that are given again are fresh
            self._entries.enter_again(kept)

    def move(self, key: str) -> Move:
        """Return the move with this key.  Raises Unknown."""
        if key not in self._moves.all:
            raise Unknown(f"there is no move {key!r}")
        return self._moves.all[key]

    def owed_by(self, nve: str, system: TenantSystem) -> frozenset[int]:
        """Return the cookies of the in-flight rules of a VM whose last counts an NVE has yet to
        report.
        """
        return self._moves.owed_by(nve, system)

    def name_at(self, reason: Reason) -> str | None:
        """Return the VM whose port is, or was, the one that something was dropped or refused at."""
        here = None if reason.port is None else self.desired.attachment_at(reason.nve, reason.port)
        system = here.system if here else self.violations.drops.system(reason)
        return self.known.name(system) if system else None

    def _event_of_caller(self, key: str, event: MoveEvent, now_ns: int) -> Move:
        with self._deciding(now_ns):
            move = self.move(key)
            try:
                self._moves.take(move, event)
            except OutOfTurn as error:
                raise RequestRefused(f"move {key} of {move.request.vm}: {error}") from None
            return move

    def _repeated(self, move: Move, request: MoveRequest) -> Move:
        if move.request != request:
            raise RequestRefused(
                f"move {move.key} is another one: of {move.request.vm} to {move.destination}; "
                "take another key"
            )
        return move

    # -- deciding --------------------------------------------------------------------------------

    @contextmanager
    def _deciding(self, now_ns: int) -> Iterator[None]:
        """Handle one input: the caller changes the state inside, then all consequences are worked
        out.
        """
        self._outbox.now_ns = now_ns
        yield
        self._settle()

    def _settle(self) -> None:
        """Repeat until nothing changes any more, which is soon: no move takes a step twice."""
        self._tell()
        while self._moves.go_on():
            self._tell()

    def _tell(self) -> None:
        """Tell the NVEs what they have to hold by now, and release the effects that wait for
        that.
        """
        self._handovers.look(self._moves.may_change_paths)
        tells = self.desired.settle()
        for tell in tells:
            self.violations.drops.watch(tell.nve, tell.change.added)
        self._outbox.put(*tells)
        self._outbox.release()
