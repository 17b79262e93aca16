"""The NVA's decisions: events in, effects out.

Inputs are method calls (a report of an NVE, a request of the orchestrator, the passing of time),
each with the time it happened, `now_ns`.  Effects wait in an outbox until `take_effects`.  No
sockets, no clock, no threads: the application around it (`controller.nva`) has those.

    directory   who is where                              controller.mapping
    book        what each NVE has to hold                 controller.book
    entries     which NVE knows of which VM, how long     controller.entries, .dissemination
    moves       the moves under way                       controller.moves, .mobility
    judge       what VMs say with ARP, RARP and ND        controller.claims

A caller's mistake raises `Refused`, and nothing has changed.  What a peer does wrong (a forged or
malformed announcement, a report about a rule that is no longer wanted) is recorded and has no other
effect.
"""

from collections import Counter

from controller import path_mtu
from controller.book import Book, TunnelMtus
from controller.claims import Announced, Asked, Improper, Said, judge
from controller.dissemination import Dissemination
from controller.drops import Reason
from controller.durable import Change, Durable
from controller.entries import Entries
from controller.handover import Handovers
from controller.mapping import AddressInUse, Directory
from controller.mobility import BEFORE_ARRIVAL, GIVE_UP_S, Event, OutOfTurn
from controller.move import Move, MoveRequest
from controller.moves import Moves
from controller.outbox import Outbox
from controller.steps import IN_FLIGHT
from controller.tally import Tally
from nve.limits import USUAL, Limits
from nve.messages import (
    AnswerArp,
    AnswerRarp,
    AnswerSolicitation,
    ArpSent,
    Effect,
    Emit,
    Malformed,
    Missed,
    NeighbourSolicited,
    RarpSent,
    Report,
    RuleEnded,
    Signalled,
    TooBig,
)
from nve.model import Binding, IPAddress, TenantSystem, Vtep
from nve.rules import FIRST_VM_PORT, LAST_VM_PORT, Output, Purpose, Tunnel
from nve.state import Attachment, Role

LATE_MISS_S = 1.0
"""How long after an entry was given misses for it may still come in."""


class Refused(Exception):
    """The request cannot be granted; the message says why and what would be possible."""


class Unknown(Refused):
    """The request names a VM, an NVE or a move that there is not."""


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
    ) -> None:
        self.directory = Directory()
        self.book = Book(vteps, limits, tunnel_mtus)
        self._outbox = Outbox()
        self.tally = Tally(self._outbox)
        self._entries = Entries(self.book, self.directory, dissemination)
        self._handovers = Handovers(
            self.book, self.directory, self._entries, self._outbox, enabled=end_markers
        )
        self._moves = Moves(
            self.book,
            self.directory,
            self._entries,
            self._outbox,
            self._handovers,
            self._settle,
        )
        self._systems: dict[str, TenantSystem] = {}
        self.durable = Durable(
            self._systems, self.directory, self.book, self._moves, self._handovers
        )
        self._names: dict[TenantSystem, str] = {}
        self._away_since_ns: dict[str, int] = {}
        self._entered_ns: dict[tuple[str, TenantSystem], int] = {}
        """When an NVE was last given an entry that it had asked for."""

    def take_effects(self) -> list[Effect]:
        """What has to be done now, in order; the outbox is empty afterwards."""
        return self._outbox.take()

    @property
    def counted(self) -> Counter[tuple[str, int | None, str]]:
        """What peers did wrong, by NVE, port, and what it was."""
        return self.tally.refused

    @property
    def moves(self) -> list[Move]:
        """All moves there were, in the order of their numbers."""
        return self._moves.all

    def restore(self, whole: Change, now_ns: int) -> None:
        """Go on where a process before this one was killed.  Raises ValueError where that was the
        NVA of another data centre."""
        self._at(now_ns)
        self.durable.restore(whole)
        self._names |= {system: vm for vm, system in self._systems.items()}
        under_way = [move.number for move in self._moves.unfinished()]
        self._outbox.record("nva-restarted", "nva", moves=under_way)
        self._settle()

    # -- NVEs ----------------------------------------------------------------------------------

    def nve_connected(self, nve: str, now_ns: int) -> None:
        """An NVE's control channel is up.  Raises Refused for one this NVA does not serve."""
        self._at(now_ns)
        if nve not in self.book.vteps:
            raise Refused(f"no NVE {nve!r} here; there are {', '.join(self.book)}")
        self._away_since_ns.pop(nve, None)
        self._entries.refresh(nve)
        reconcile = self.book.connected(nve)
        self.tally.drops.watch(nve, reconcile.rules)
        self._outbox.put(reconcile)
        self._handovers.connected(nve)
        self._handovers.give_orders()
        self._outbox.record("nve-connected", nve)

    def nve_disconnected(self, nve: str, now_ns: int) -> None:
        self._at(now_ns)
        self.book.disconnected(nve)
        self._moves.lost(nve)
        self._outbox.record("nve-disconnected", nve)

    def confirmed(self, nve: str, token: int, now_ns: int) -> None:
        """An NVE has carried out everything up to the Tell with this token (barrier reply)."""
        self._at(now_ns)
        self._moves.confirmed(nve, self.book.confirmed(nve, token))

    def reported(self, nve: str, report: Report, now_ns: int) -> None:
        """Something an NVE saw."""
        self._at(now_ns)
        if not isinstance(report, RuleEnded):
            self.tally.heard[nve, report.port] += 1
        match report:
            case RuleEnded():
                self._rule_ended(nve, report)
            case Malformed():
                self.tally.refuse(nve, report.port, "malformed", why=report.why)
            case TooBig():
                self._too_big(nve, report)
            case Signalled():
                self._handovers.signalled(nve, report.signal)
                self._moves.look_for_progress()
            case _:
                attachment = self._attachment(nve, report.port)
                if attachment is None:
                    self.tally.refuse(nve, report.port, "unknown-port")
                elif isinstance(report, Missed):
                    self._answer_miss(nve, attachment, report)
                else:
                    self._sent_by(nve, attachment, report)
        self._settle()

    def refused_on_control(self, nve: str, what: str, now_ns: int) -> None:
        """Something on the control network was not what it should be: in the name of an NVE or from
        where it is, or of nobody known ("?")."""
        self._at(now_ns)
        self.tally.refuse(nve, None, what)

    def refused_by(self, nve: str, kind: int, code: int, now_ns: int) -> None:
        """An NVE refused an instruction (OpenFlow error): a defect of ours, kept in the trace."""
        self._at(now_ns)
        self._outbox.record("instruction-refused", nve, type=kind, code=code)

    def tick(self, now_ns: int) -> None:
        """Time has passed: moves that are over their deadline are rolled back, and NVEs that are
        out of reach for too long are given up."""
        self._at(now_ns)
        for move in self._moves.unfinished():
            if now_ns > move.deadline_ns:
                self._moves.take(move, Event.TIMED_OUT)
        for nve in self.book:
            if not self.book.is_connected(nve):
                since_ns = self._away_since_ns.setdefault(nve, now_ns)
                if now_ns - since_ns > GIVE_UP_S * 1e9:
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
    ) -> None:
        """A VM starts behind an NVE (RFC 8394 associate).  Raises Refused.

        It sends packets up to its `mtu`; 0 is what fits through every tunnel.
        """
        self._at(now_ns)
        self._require_nve(nve)
        self._require_free_port(nve, port)
        if self._systems.get(vm, system) != system or self._names.get(system, vm) != vm:
            raise Refused(f"{vm} and {system} do not belong together; names and MACs are unique")
        if vm in self._systems:
            raise Refused(f"{vm} is associated already; to bring it elsewhere, ask for a move")
        try:
            binding = self.directory.register(system, addresses, nve)
        except AddressInUse as error:
            raise Refused(f"{vm} cannot be associated: {error}") from None
        newcomer = nve not in self.book.present(system.vni)
        self._systems[vm], self._names[system] = system, vm
        self.book.attach(nve, Attachment(system, addresses, port, Role.ACTIVE))
        self.book.raise_vm_mtu(system.vni, mtu)
        self._entries.disseminate(binding, frozenset({nve}))
        if newcomer:
            self._entries.introduce(nve, system)
        self._outbox.record("vm-associated", vm, nve=nve, port=port, vni=system.vni)
        self._settle()

    def dissociate(self, vm: str, nve: str, now_ns: int) -> None:
        """A VM's port at an NVE is gone (RFC 8394 de-associate).  Raises Refused where it runs."""
        self._at(now_ns)
        system = self._require_vm(vm)
        self._require_nve(nve)
        attachment = self.book.state(nve).attachments.get(system)
        if attachment is None:
            raise Refused(f"{vm} has no port at {nve}")
        if attachment.role is Role.PRE_ASSOCIATED:
            raise Refused(f"{vm} has a place at {nve} for a move; cancel that if it is not to come")
        if attachment.role is Role.ACTIVE:
            raise Refused(f"{vm} is active at {nve}; move it away first")
        if self._binding(system).nve == nve:
            raise Refused(f"{vm} has not arrived anywhere yet and may come back to {nve}; wait")
        self._entries.detach(nve, system)
        self._outbox.record("vm-dissociated", vm, nve=nve)
        self._settle()

    def request_move(self, request: MoveRequest, now_ns: int) -> Move:
        """Prepare a move (R5.1): the destination NVE gets ready.  Raises Refused."""
        self._at(now_ns)
        binding = self._binding(self._require_vm(request.vm))
        self._require_nve(request.to)
        if binding.nve == request.to:
            raise Refused(f"{request.vm} is at {request.to} already; name another NVE")
        busy = self._moves.of(binding.system)
        if busy and busy.phase in BEFORE_ARRIVAL:
            raise Refused(
                f"{request.vm} is still being moved to {busy.destination} ({busy.phase}); "
                "wait until it has arrived, or cancel that move"
            )
        if request.in_flight not in ("tunnel", "drop"):
            raise Refused(f"in_flight is {request.in_flight!r}, not tunnel or drop")
        if bool(request.idle_s) == bool(request.timer_s):
            raise Refused("say either idle_s or timer_s: how forwarding at the source NVE ends")
        for nve in (binding.nve, request.to):
            if not self.book.is_connected(nve):
                raise Refused(f"{nve} is not connected to the NVA")
        self._require_free_port(request.to, request.port, for_=binding.system)
        return self._moves.begin(request, binding)

    def depart(self, number: int, now_ns: int) -> Move:
        """The VM is about to stop at the source: treat packets for it as in flight (R4.1.4)."""
        return self._event_of_caller(number, Event.DEPARTURE_ASKED, now_ns)

    def activate(self, number: int, now_ns: int) -> Move:
        """The VM runs at the destination (RFC 8394 activate)."""
        return self._event_of_caller(number, Event.VM_ARRIVED, now_ns)

    def cancel(self, number: int, now_ns: int) -> Move:
        """Give a move up; possible until the VM has arrived."""
        return self._event_of_caller(number, Event.CANCELLED, now_ns)

    def forget_entries(self, now_ns: int) -> None:
        """Take back every entry with a lifetime, so that an experiment starts from none; where NVEs
        keep expired ones, from fresh ones."""
        self._at(now_ns)
        kept = self._entries.forget_mortal()
        self._settle()
        self._entries.enter_again(kept)
        self._settle()

    def move(self, number: int) -> Move:
        """A move by its number.  Raises Refused."""
        if not 1 <= number <= len(self.moves):
            raise Unknown(f"there is no move number {number}")
        return self.moves[number - 1]

    def owed_by(self, nve: str, system: TenantSystem) -> frozenset[int]:
        """The cookies of rules for a VM's packets in flight whose last counts an NVE owes."""
        return self._moves.owed_by(nve, system)

    def name(self, system: TenantSystem) -> str:
        """The VM's name in the trace."""
        return self._names.get(system, str(system))

    def name_at(self, reason: Reason) -> str | None:
        """The VM that something was dropped or refused from: whose port it is, or was."""
        here = None if reason.port is None else self._attachment(reason.nve, reason.port)
        system = here.system if here else self.tally.drops.system(reason)
        return self.name(system) if system else None

    def _event_of_caller(self, number: int, event: Event, now_ns: int) -> Move:
        self._at(now_ns)
        move = self.move(number)
        try:
            self._moves.take(move, event)
        except OutOfTurn as error:
            raise Refused(f"move {number} of {move.request.vm}: {error}") from None
        return move

    # -- what NVEs report ------------------------------------------------------------------------

    def _sent_by(self, nve: str, attachment: Attachment, report: Said) -> None:
        match judge(report, attachment, self.directory):
            case Improper(what, says):
                self.tally.refuse(nve, report.port, what, says=says)
            case Announced(form, asks_for):
                self._announced(nve, attachment, form)
                if isinstance(report, RarpSent) and asks_for:
                    self._outbox.put(AnswerRarp(nve, report, asks_for))
                    name = self.name(attachment.system)
                    self._outbox.record("rarp-answered", name, nve=nve, address=str(asks_for))
            case Asked(binding):
                self._answer(nve, report, binding)

    def _answer(self, nve: str, question: Said, binding: Binding) -> None:
        """ARP and neighbour discovery are answered from the directory."""
        match question:
            case ArpSent():
                self._outbox.put(AnswerArp(nve, question, binding.system.mac))
            case NeighbourSolicited():
                self._outbox.put(AnswerSolicitation(nve, question, binding.system.mac))

    def _answer_miss(self, nve: str, asker: Attachment, miss: Missed) -> None:
        """An NVE asks where a MAC address is (R4.1.3): tell it, and send the frame on its way."""
        system = TenantSystem(asker.system.vni, miss.destination)
        binding = self.directory.find(system)
        if binding is None:
            self.tally.refuse(nve, miss.port, "unknown-destination")
            return
        state = self.book.state(nve)
        entry = state.remotes.get(system)
        if binding.nve != nve and (entry is None or entry.vtep != self.book.vteps[binding.nve]):
            self._entries.enter(nve, binding)
            self._outbox.record("entry-pulled", self.name(system), nve=nve, to=binding.nve)
            self._settle()
            self._entered_ns[nve, system] = self._outbox.now_ns
        elif binding.nve != nve and self._should_have_arrived(nve, system):
            self.book.tell_again(nve, system)
            self._entered_ns[nve, system] = self._outbox.now_ns
            self._outbox.record("entry-told-again", self.name(system), nve=nve)
            self._settle()
        way = self._way(nve, binding)
        if way and (big := path_mtu.too_big(asker.system, miss, state.tunnel_mtu(way))):
            self._too_big(nve, big)
        elif way:
            self._outbox.put(Emit(nve, way, miss.frame))

    def _should_have_arrived(self, nve: str, system: TenantSystem) -> bool:
        """Whether a miss says that an entry is gone, and was not on its way when that was told.

        A confirmation does not say so: packets that missed before may be reported behind it.
        """
        entered_ns = self._entered_ns.get((nve, system))
        late = entered_ns is not None and self._outbox.now_ns - entered_ns < LATE_MISS_S * 1e9
        return not late and not self.book.pending([nve])

    def _way(self, nve: str, binding: Binding) -> Output | Tunnel | None:
        """How a frame for a VM leaves an NVE; None where packets in flight are dropped."""
        system, state = binding.system, self.book.state(nve)
        if binding.nve != nve:
            return Tunnel(system.vni, self.book.vteps[binding.nve])
        redirect = state.redirects.get(system)
        if redirect is None:
            return Output(state.attachments[system].port)
        return Tunnel(system.vni, redirect.to) if redirect.to else None

    def _too_big(self, nve: str, report: TooBig) -> None:
        """A packet exceeds a tunnel's MTU: its sender is told."""
        mtu, answer = path_mtu.decide(nve, report, self.book, self.directory)
        if answer:
            self._outbox.put(answer)
        self.tally.refused[nve, report.port, "too-big"] += 1
        self._outbox.record(
            "packet-too-big",
            self.name(TenantSystem(report.vni, report.sender)),
            nve=nve,
            port=report.port,
            to=self.name(TenantSystem(report.vni, report.destination)),
            octets=report.octets,
            mtu=mtu,
            answered=answer is not None,
        )

    def _announced(self, nve: str, attachment: Attachment, form: str) -> None:
        """A VM said where it is (R4.1.2, R4.1.6): only a move can have brought it there."""
        move = self._moves.of(attachment.system)
        name = self.name(attachment.system)
        if self.tally.announce(nve, attachment.port) or move:
            self._outbox.record("announcement-received", name, nve=nve, form=form)
        if move and move.destination == nve:
            try:
                self._moves.take(move, Event.VM_ARRIVED)
            except OutOfTurn:
                self.tally.refuse(nve, attachment.port, "early-announcement")

    def _rule_ended(self, nve: str, report: RuleEnded) -> None:
        if self.tally.drops.rule_ended(nve, report.cookie, report.packets):
            return
        if report.why == "told":
            self._rule_removed(nve, report)
            return
        rule = self.book.ended(nve, report.cookie)
        if rule is None or rule.about is None:
            self._moves.in_flight_counted(nve, report)
        elif rule.purpose is Purpose.FORWARD:
            self._entry_expired(nve, rule.about, report.packets)
            self._moves.look_for_progress()
        else:
            self._moves.in_flight_ended(nve, rule, report)

    def _rule_removed(self, nve: str, report: RuleEnded) -> None:
        """By us, or by somebody who had no business there: then it is told again."""
        rule = self.book.told(nve, report.cookie)
        in_flight = rule is not None and rule.purpose in IN_FLIGHT.values()
        if rule and in_flight and self._moves.in_flight_taken_away(nve, rule, report):
            self.book.taken_away(nve, rule)
        else:
            self._moves.in_flight_counted(nve, report)

    def _entry_expired(self, nve: str, system: TenantSystem, packets: int) -> None:
        """Forgotten, unless it is kept and was used: then its NVE asks by telling us of it."""
        entry, binding = self.book.state(nve).remotes.get(system), self.directory.find(system)
        self._outbox.record("entry-expired", self.name(system), nve=nve)
        if entry is None or binding is None or not (entry.kept and packets):
            self.book.set_remote(nve, system, None)
        elif entry.vtep == self.book.vteps[binding.nve]:
            self._entries.enter(nve, binding)
        else:
            self._handovers.expired(system, nve)

    # -- small things ----------------------------------------------------------------------------

    def _binding(self, system: TenantSystem) -> Binding:
        binding = self.directory.find(system)
        assert binding is not None, f"{system} is associated but not in the directory"
        return binding

    def _attachment(self, nve: str, port: int) -> Attachment | None:
        attachments = self.book.state(nve).attachments.values()
        return next((item for item in attachments if item.port == port), None)

    def _require_vm(self, vm: str) -> TenantSystem:
        if vm not in self._systems:
            raise Unknown(f"no VM {vm!r} here; there are {', '.join(self._systems) or 'none'}")
        return self._systems[vm]

    def _require_nve(self, nve: str) -> None:
        if nve not in self.book.vteps:
            raise Unknown(f"no NVE {nve!r} here; there are {', '.join(self.book)}")

    def _require_free_port(self, nve: str, port: int, for_: TenantSystem | None = None) -> None:
        """A VM that comes back may have the port that it has left."""
        if not FIRST_VM_PORT <= port <= LAST_VM_PORT:
            raise Refused(f"port {port} is none; VM ports are {FIRST_VM_PORT} to {LAST_VM_PORT}")
        holder = self._attachment(nve, port)
        if holder and holder.system != for_:
            raise Refused(f"port {port} of {nve} belongs to {self.name(holder.system)}")

    def _settle(self) -> None:
        self._handovers.look(self._moves.may_change_paths)
        tells = self.book.settle()
        for tell in tells:
            self.tally.drops.watch(tell.nve, tell.change.added)
        self._outbox.put(*tells)
        self._handovers.give_orders()

    def _at(self, now_ns: int) -> None:
        self._outbox.now_ns = now_ns
