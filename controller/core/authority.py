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
    moves       the moves under way                       controller.core.moves, .move_fsm,
                                                          .move_admission
    lifecycle   VMs that come, stay and go                controller.core.vm_lifecycle,
                                                          .onboarding, .admission
    reports     what NVEs see, and VMs say                controller.core.reports,
                                                          .address_validation

A caller's mistake raises `RequestRefused` and changes nothing.  A peer's mistake (a forged or
malformed announcement, a report about a rule that is no longer wanted) is recorded and has no other
effect.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from controller.core.admission import Admission
from controller.core.desired_state import DesiredState, TunnelMtus
from controller.core.directory import Directory
from controller.core.dissemination import Dissemination
from controller.core.drops import Reason
from controller.core.entries import Entries
from controller.core.handover import Handovers
from controller.core.known import Known
from controller.core.move import Move, MoveRequest
from controller.core.move_admission import MoveAdmission
from controller.core.move_fsm import GIVE_UP_S, MoveEvent, OutOfTurn
from controller.core.moves import Moves
from controller.core.onboarding import Interface, Onboarding, OnboardingRequest, Onboardings
from controller.core.outbox import Outbox
from controller.core.refusals import RequestRefused, Unknown
from controller.core.reports import Reports
from controller.core.snapshot import Durable, SnapshotChange
from controller.core.violation_counters import ViolationCounters
from controller.core.vm_lifecycle import VmLifecycle
from nve.messages import Effect, Report
from nve.model import IPAddress, RoutedNetwork, TenantSystem, Vtep
from nve.pipeline.limits import USUAL, Limits
from nve.pipeline.state import AssociationRole, UnderlayPlace
from nve.resources import Capacity, Resources


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
        self._onboardings = Onboardings()
        self.admission = Admission(capacities or {}, self.directory, self._moves, self._onboardings)
        self._move_admission = MoveAdmission(self.known, self._moves, self.admission)
        self._lifecycle = VmLifecycle(
            self.known,
            self.directory,
            self.desired,
            self._entries,
            self._moves,
            self._handovers,
            self._onboardings,
            self.admission,
            self._outbox,
        )
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

    # -- requests of the orchestrator: VMs -------------------------------------------------------

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
            self._lifecycle.associate(vm, interface, nve, port)

    def de_associate(self, vm: str, nve: str, now_ns: int) -> None:
        """Take away a VM's port at an NVE (RFC 8394 de-associate).

        Raises RequestRefused if the VM runs there.
        """
        with self._deciding(now_ns):
            self._lifecycle.de_associate(vm, nve)

    def offer(self, vm: str, request: OnboardingRequest, now_ns: int) -> Onboarding:
        """Offer a place and resources to a VM that is to be on-boarded (R8.2).  Raises
        RequestRefused.

        A repeated request returns the same offer, with the time that it has left.
        """
        with self._deciding(now_ns):
            return self._lifecycle.offer(vm, request, now_ns)

    def confirm_offer(self, vm: str, offer: int, port: int, now_ns: int) -> Onboarding:
        """Put an offer to use: the VM starts at the offered server (RFC 8394 associate).

        Repeating a confirmation does no harm.  Raises RequestRefused.
        """
        with self._deciding(now_ns):
            return self._lifecycle.confirm_offer(vm, offer, port, now_ns)

    def adjust(self, vm: str, resources: Resources, now_ns: int) -> Onboarding:
        """Change the resources of a VM that stays where it is.  Raises RequestRefused."""
        with self._deciding(now_ns):
            return self._lifecycle.adjust(vm, resources)

    def keep_room_for_standby(self, vm: str, nve: str, room: Resources, now_ns: int) -> Onboarding:
        """Keep room on a server for the standby of a VM, which is mirrored there (R7.2, R7.3).

        Asked for again, it is the same.  Raises RequestRefused.
        """
        with self._deciding(now_ns):
            return self._lifecycle.keep_room_for_standby(vm, nve, room)

    def give_up_standby(self, vm: str, now_ns: int) -> Onboarding:
        """Give back the room that is kept for the standby of a VM, if any is.

        Raises RequestRefused.
        """
        with self._deciding(now_ns):
            return self._lifecycle.give_up_standby(vm)

    def off_board(self, vm: str, now_ns: int) -> None:
        """Off-board a VM that has ended: take back its ports, its entries and its room.

        Raises RequestRefused while it is being moved.
        """
        with self._deciding(now_ns):
            self._lifecycle.off_board(vm)

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
            self._lifecycle.add_instance(vm, nve, port)

    def fence_instance(self, vm: str, nve: str, now_ns: int) -> str:
        """One of a VM's two instances answers nobody any more; the other one is left.  Returns the
        NVE of that.  Raises RequestRefused.

        Asked for again, it is the same.  Nobody may go on alone before the NVE has confirmed, or
        while it might still forward: see `controller.core.pairs`.
        """
        with self._deciding(now_ns):
            return self._lifecycle.fence_instance(vm, nve)

    # -- requests of the orchestrator: moves -----------------------------------------------------

    def request_move(self, key: str, request: MoveRequest, now_ns: int) -> Move:
        """Prepare a move: the destination NVE gets ready (R5.1).  Raises RequestRefused.

        `key` is the caller's name for the move.  Repeating a request returns the same move,
        whatever its phase; a different request under the same key is refused.
        """
        with self._deciding(now_ns):
            if key in self._moves.all:
                return self._repeated(self._moves.all[key], request)
            binding = self._move_admission.admitted(request)
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
