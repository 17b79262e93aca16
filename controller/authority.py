"""The NVA's decisions: events in, effects out.

Inputs are method calls (a report of an NVE, a request of the orchestrator, the passing of time),
each with the time it happened, `now_ns`.  Effects wait in an outbox until `take_effects`.  No
sockets, no clock, no threads: the application around it (`controller.app`) has those.

    directory   who is where                     controller.mapping
    book        what each NVE has to hold        controller.book
    move        the life of one move             controller.mobility
    strategy    who is told, for how long        controller.dissemination

A caller's mistake raises `Refused`, and nothing has changed.  What a peer does wrong (a forged or
malformed announcement, a report about a rule that is no longer wanted) is recorded and has no other
effect.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from ipaddress import IPv6Address

from controller.book import Book
from controller.dissemination import Dissemination
from controller.mapping import AddressInUse, Directory, Outcome
from controller.mobility import FINISHED, Event, OutOfTurn, Phase, Step, advance
from nve.messages import (
    ARP_REQUEST,
    RARP_REQUEST,
    AnswerArp,
    AnswerSolicitation,
    ArpSent,
    Effect,
    Malformed,
    Missed,
    NeighbourAdvertised,
    NeighbourSolicited,
    RarpSent,
    Record,
    Report,
    Resend,
    RuleEnded,
)
from nve.model import Binding, IPAddress, TenantSystem, Vtep
from nve.pipeline import Attachment, Redirect, RemoteEntry, Role, compile_system
from nve.rules import FIRST_VM_PORT, LAST_VM_PORT, Purpose

UNSPECIFIED = IPv6Address(0)


class Refused(Exception):
    """The request cannot be granted; the message says why and what would be possible."""


class Unknown(Refused):
    """The request names a VM, an NVE or a move that there is not."""


@dataclass(frozen=True)
class MoveRequest:
    """What an orchestrator asks for.  `port` is the VM's new port at the destination NVE."""

    vm: str
    to: str
    port: int
    in_flight: str = "tunnel"
    idle_s: int = 0
    timer_s: int = 0
    deadline_s: float = 60.0


@dataclass
class Move:
    """A move and where it stands."""

    number: int
    request: MoveRequest
    system: TenantSystem
    source: str
    requested_ns: int
    phase: Phase = Phase.PREPARING
    awaiting: dict[str, int] = field(default_factory=dict)
    waiting_cookie: int | None = None
    """Of the rule that tunnels packets in flight until the VM has arrived."""

    @property
    def destination(self) -> str:
        return self.request.to


class Authority:
    """The NVA.  `vteps` names the NVEs it serves and their underlay addresses."""

    def __init__(self, vteps: dict[str, Vtep], dissemination: Dissemination) -> None:
        self.directory = Directory()
        self.book = Book(vteps)
        self.moves: list[Move] = []
        self.counted: Counter[tuple[str, int, str]] = Counter()
        self._dissemination = dissemination
        self._systems: dict[str, TenantSystem] = {}
        self._names: dict[TenantSystem, str] = {}
        self._effects: list[Effect] = []
        self._now_ns = 0

    def take_effects(self) -> list[Effect]:
        """What has to be done now, in order; the outbox is empty afterwards."""
        effects, self._effects = self._effects, []
        return effects

    # -- NVEs ----------------------------------------------------------------------------------

    def nve_connected(self, nve: str, now_ns: int) -> None:
        """An NVE's control channel is up.  Raises Refused for one this NVA does not serve."""
        self._at(now_ns)
        if nve not in self.book.vteps:
            raise Refused(f"no NVE {nve!r} here; there are {', '.join(self.book)}")
        self._effects.append(self.book.connected(nve))
        self._record("nve-connected", nve)

    def nve_disconnected(self, nve: str, now_ns: int) -> None:
        self._at(now_ns)
        self.book.disconnected(nve)
        self._record("nve-disconnected", nve)

    def confirmed(self, nve: str, token: int, now_ns: int) -> None:
        """An NVE has carried out everything up to the Tell with this token (barrier reply)."""
        self._at(now_ns)
        self.book.confirmed(nve, token)
        for move in self._unfinished():
            self._look_for_progress(move)

    def reported(self, nve: str, report: Report, now_ns: int) -> None:
        """Something an NVE saw."""
        self._at(now_ns)
        match report:
            case RuleEnded():
                self._rule_ended(nve, report)
            case Malformed():
                self._count(nve, report.port, "malformed", why=report.why)
            case _:
                attachment = self._attachment(nve, report.port)
                if attachment is None:
                    self._count(nve, report.port, "unknown-port")
                else:
                    self._sent_by(nve, attachment, report)
        self._settle()

    def refused_by(self, nve: str, kind: int, code: int, now_ns: int) -> None:
        """An NVE refused an instruction (OpenFlow error): a defect of ours, kept in the trace."""
        self._at(now_ns)
        self._record("instruction-refused", nve, type=kind, code=code)

    def tick(self, now_ns: int) -> None:
        """Time has passed: moves that are over their deadline are rolled back."""
        self._at(now_ns)
        for move in self._unfinished():
            if now_ns - move.requested_ns > move.request.deadline_s * 1e9:
                self._advance(move, Event.TIMED_OUT)
        self._settle()

    # -- requests of the orchestrator ------------------------------------------------------------

    def associate(
        self,
        vm: str,
        system: TenantSystem,
        addresses: frozenset[IPAddress],
        nve: str,
        port: int,
        now_ns: int,
    ) -> None:
        """A VM starts behind an NVE (RFC 8394 associate).  Raises Refused."""
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
        self._disseminate(binding, frozenset({nve}))
        if newcomer:
            self._introduce(nve, system)
        self._record("vm-associated", vm, nve=nve, port=port, vni=system.vni)
        self._settle()

    def dissociate(self, vm: str, nve: str, now_ns: int) -> None:
        """A VM's port at an NVE is gone (RFC 8394 de-associate).  Raises Refused where it runs."""
        self._at(now_ns)
        system = self._require_vm(vm)
        self._require_nve(nve)
        attachment = self.book.state(nve).attachments.get(system)
        if attachment is None:
            raise Refused(f"{vm} has no port at {nve}")
        if attachment.role is not Role.DEPARTING:
            raise Refused(f"{vm} is {attachment.role.value} at {nve}; move it away first")
        if self._binding(system).nve == nve:
            raise Refused(f"{vm} has not arrived anywhere yet and may come back to {nve}; wait")
        self._detach(nve, system)
        self._record("vm-dissociated", vm, nve=nve)
        self._settle()

    def request_move(self, request: MoveRequest, now_ns: int) -> Move:
        """Prepare a move (R5.1): the destination NVE gets ready.  Raises Refused."""
        self._at(now_ns)
        system = self._require_vm(request.vm)
        self._require_nve(request.to)
        binding = self._binding(system)
        if binding.nve == request.to:
            raise Refused(f"{request.vm} is at {request.to} already; name another NVE")
        busy = next((move for move in self._unfinished() if move.system == system), None)
        if busy:
            raise Refused(
                f"{request.vm} is still being moved to {busy.destination} ({busy.phase}); "
                "wait until that move is completed"
            )
        if request.in_flight not in ("tunnel", "drop"):
            raise Refused(f"in_flight is {request.in_flight!r}, not tunnel or drop")
        if bool(request.idle_s) == bool(request.timer_s):
            raise Refused("say either idle_s or timer_s: how forwarding at the source NVE ends")
        for nve in (binding.nve, request.to):
            if not self.book.is_connected(nve):
                raise Refused(f"{nve} is not connected to the NVA")
        self._require_free_port(request.to, request.port)
        move = Move(len(self.moves) + 1, request, system, binding.nve, now_ns)
        self.moves.append(move)
        newcomer = request.to not in self.book.present(system.vni)
        self.book.attach(
            request.to,
            Attachment(system, binding.addresses, request.port, Role.PRE_ASSOCIATED),
        )
        if newcomer:
            self._introduce(request.to, system)
        self._note(move, "move-accepted", source=move.source, to=request.to)
        self._settle()
        self._await(move, [request.to])
        return move

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
        """Take back every entry with a lifetime, so that an experiment starts from none."""
        self._at(now_ns)
        for nve in self.book:
            remotes = self.book.state(nve).remotes
            for system in [item for item, entry in remotes.items() if entry.lifetime_s]:
                self.book.set_remote(nve, system, None)
        self._settle()

    def move(self, number: int) -> Move:
        """A move by its number.  Raises Refused."""
        if not 1 <= number <= len(self.moves):
            raise Unknown(f"there is no move number {number}")
        return self.moves[number - 1]

    def name(self, system: TenantSystem) -> str:
        """The VM's name in the trace."""
        return self._names.get(system, str(system))

    # -- what NVEs report ------------------------------------------------------------------------

    def _sent_by(self, nve: str, attachment: Attachment, report: Report) -> None:
        match report:
            case Missed():
                self._answer_miss(nve, attachment, report)
            case ArpSent():
                if not self._owns(attachment, report.sender_mac, report.sender_ip):
                    self._count(nve, report.port, "forged", says=str(report.sender_ip))
                elif report.gratuitous:
                    self._announced(nve, attachment.system, "garp")
                elif report.operation == ARP_REQUEST:
                    found = self._who_has(nve, attachment, report.target_ip)
                    if found:
                        self._effects.append(AnswerArp(nve, report, found.system.mac))
            case RarpSent():
                if report.target_mac != attachment.system.mac:
                    self._count(nve, report.port, "forged", says=report.target_mac)
                elif report.operation == RARP_REQUEST:
                    self._announced(nve, attachment.system, "rarp")
            case NeighbourSolicited():
                found = self._who_has(nve, attachment, report.target)
                if found:
                    self._effects.append(AnswerSolicitation(nve, report, found.system.mac))
            case NeighbourAdvertised():
                if not self._owns(attachment, report.sender_mac, report.target):
                    self._count(nve, report.port, "forged", says=str(report.target))
                else:
                    self._announced(nve, attachment.system, "na")

    def _owns(self, attachment: Attachment, mac: str, address: IPAddress) -> bool:
        """The port owns the addresses in an announcement (R9.2).  0.0.0.0 is an ARP probe."""
        own = attachment.addresses
        return mac == attachment.system.mac and (address in own or address.is_unspecified)

    def _who_has(self, nve: str, asker: Attachment, address: IPAddress) -> Binding | None:
        """The directory's answer to ARP and ND; none to a VM that checks its own address."""
        found = self.directory.find_address(asker.system.vni, address)
        if found is None:
            self._count(nve, asker.port, "nobody-has")
        return None if found and found.system == asker.system else found

    def _answer_miss(self, nve: str, asker: Attachment, miss: Missed) -> None:
        """An NVE asks where a MAC address is (R4.1.3): tell it, and send the frame on its way."""
        system = TenantSystem(asker.system.vni, miss.destination)
        binding = self.directory.find(system)
        if binding is None:
            self._count(nve, miss.port, "unknown-destination")
            return
        state = self.book.state(nve)
        if binding.nve != nve and system not in state.remotes:
            self._set_entry(nve, binding)
            self._record("entry-pulled", self.name(system), nve=nve, to=binding.nve)
            self._settle()
        self._effects.append(Resend(nve, miss.port, miss.frame))

    def _announced(self, nve: str, system: TenantSystem, form: str) -> None:
        """A VM said where it is (R4.1.2, R4.1.6): only a move can have brought it there."""
        move = next((m for m in self._unfinished() if m.system == system), None)
        self._record("announcement-received", self.name(system), nve=nve, form=form)
        if move and move.destination == nve:
            try:
                self._advance(move, Event.VM_ARRIVED)
            except OutOfTurn:
                port = self.book.state(nve).attachments[system].port
                self._count(nve, port, "early-announcement")

    def _rule_ended(self, nve: str, report: RuleEnded) -> None:
        if report.why == "told":
            self._in_flight_counted(nve, report)
            return
        rule = self.book.ended(nve, report.cookie)
        if rule is None or rule.about is None:
            return
        system, vm = rule.about, self.name(rule.about)
        if rule.purpose is Purpose.FORWARD:
            self.book.set_remote(nve, system, None)
            self._record("entry-expired", vm, nve=nve)
            for move in self._unfinished():
                self._look_for_progress(move)
            return
        self.book.set_redirect(nve, system, None)
        for move in self._unfinished():
            if move.system == system and move.source == nve:
                self._note(
                    move,
                    "in-flight-ended",
                    nve=nve,
                    why=report.why,
                    purpose=rule.purpose.value,
                    packets=report.packets,
                    bytes=report.octets,
                    lifetime_ms=report.lifetime_ms,
                )
                self._advance(move, Event.TUNNEL_ENDED)

    def _in_flight_counted(self, nve: str, report: RuleEnded) -> None:
        """The rule that waited for the VM's arrival is gone: what it carried until then."""
        for move in self.moves:
            if move.source == nve and move.waiting_cookie == report.cookie:
                self._note(
                    move,
                    "in-flight-before-arrival",
                    nve=nve,
                    packets=report.packets,
                    bytes=report.octets,
                )
                move.waiting_cookie = None

    # -- moves -----------------------------------------------------------------------------------

    def _event_of_caller(self, number: int, event: Event, now_ns: int) -> Move:
        self._at(now_ns)
        move = self.move(number)
        try:
            self._advance(move, event)
        except OutOfTurn as error:
            raise Refused(f"move {number} of {move.request.vm}: {error}") from None
        self._settle()
        return move

    def _advance(self, move: Move, event: Event) -> None:
        before = move.phase
        move.phase, step = advance(before, event)
        if move.phase is before:
            return
        match step:
            case Step.REDIRECT:
                self._redirect(move)
            case Step.REBIND:
                self._rebind(move)
            case Step.RESTORE:
                self._restore(move)
        self._note(move, f"move-{move.phase}")
        if step is not Step.NOTHING:
            self._settle()
        self._await_what_follows(move)

    def _redirect(self, move: Move) -> None:
        """R5.2: the source NVE is told the destination NVE's address."""
        to = self.book.vteps[move.destination] if move.request.in_flight == "tunnel" else None
        self._set_role(move.source, move.system, Role.DEPARTING)
        self.book.set_redirect(move.source, move.system, Redirect(to))
        in_flight = {Purpose.IN_FLIGHT, Purpose.DEPARTED}
        rules = compile_system(self.book.state(move.source), move.system)
        (waiting,) = (rule for rule in rules if rule.purpose in in_flight and rule.reports_end)
        move.waiting_cookie = waiting.cookie

    def _rebind(self, move: Move) -> None:
        """The VM is at the destination: the directory, both NVEs of the move, and others told."""
        known = self._binding(move.system)
        outcome = self.directory.rebind(move.system, move.destination, known.sequence + 1)
        assert outcome is Outcome.CHANGED, outcome
        binding = self._binding(move.system)
        self._set_role(move.destination, move.system, Role.ACTIVE)
        self.book.set_remote(move.destination, move.system, None)
        redirect = self.book.state(move.source).redirects[move.system]
        request = move.request
        ending = replace(redirect, idle_s=request.idle_s, timer_s=request.timer_s)
        self.book.set_redirect(move.source, move.system, ending)
        self._note(move, "mapping-updated", nve=move.destination, sequence=binding.sequence)
        self._disseminate(binding, frozenset({move.source, move.destination}))

    def _restore(self, move: Move) -> None:
        """As if never asked: the VM is active at the source, the destination forgets its port."""
        self._set_role(move.source, move.system, Role.ACTIVE)
        self.book.set_redirect(move.source, move.system, None)
        self._detach(move.destination, move.system)

    def _await_what_follows(self, move: Move) -> None:
        match move.phase:
            case Phase.REDIRECTING:
                self._await(move, [move.source])
            case Phase.ARRIVED:
                self._await(move, self.book)

    def _await(self, move: Move, nves: Iterable[str]) -> None:
        move.awaiting = self.book.pending(nves)
        self._look_for_progress(move)

    def _look_for_progress(self, move: Move) -> None:
        """Go on when what the phase waits for has come true."""
        waits = [n for n, t in move.awaiting.items() if not self.book.is_confirmed(n, t)]
        if waits:
            return
        if move.phase in (Phase.PREPARING, Phase.REDIRECTING):
            self._advance(move, Event.CONFIRMED)
        elif move.phase in (Phase.ARRIVED, Phase.DRAINED):
            if move.awaiting:
                self._note(move, "mapping-confirmed", nves=sorted(move.awaiting))
                move.awaiting = {}
            if not self._old_entries(move):
                self._advance(move, Event.LAST_ENTRY_GONE)

    def _old_entries(self, move: Move) -> list[str]:
        """The NVEs that would still send the VM's packets to where it no longer is."""
        here = self.book.vteps[move.destination]
        return [
            nve
            for nve in self.book
            if (entry := self.book.state(nve).remotes.get(move.system)) and entry.vtep != here
        ]

    def _unfinished(self) -> list[Move]:
        return [move for move in self.moves if move.phase not in FINISHED]

    # -- entries ---------------------------------------------------------------------------------

    def _disseminate(self, binding: Binding, involved: frozenset[str]) -> None:
        """Tell the NVEs that the strategy wants told at once."""
        vni = binding.system.vni
        present = self.book.present(vni)
        for nve in self._dissemination.told_at_once(involved, present) - {binding.nve}:
            self._set_entry(nve, binding)
        self.book.set_members(vni, self.directory.members(vni))

    def _introduce(self, nve: str, newcomer: TenantSystem) -> None:
        """The first VM of a virtual network has come to an NVE: tell it of the others there."""
        for binding in self.directory:
            if binding.system.vni != newcomer.vni or binding.nve == nve:
                continue
            if self._dissemination.told_at_once(frozenset(), frozenset({nve})):
                self._set_entry(nve, binding)

    def _set_entry(self, nve: str, binding: Binding) -> None:
        entry = RemoteEntry(self.book.vteps[binding.nve], self._dissemination.lifetime_s)
        self.book.set_remote(nve, binding.system, entry)

    def _detach(self, nve: str, system: TenantSystem) -> None:
        """Take a VM's port away.  An NVE whose last VM of the network it was forgets the others:
        it would not be told any more where they are."""
        self.book.detach(nve, system)
        if nve not in self.book.present(system.vni):
            for other in [item for item in self.book.state(nve).remotes if item.vni == system.vni]:
                self.book.set_remote(nve, other, None)

    def _set_role(self, nve: str, system: TenantSystem, role: Role) -> None:
        attachment = self.book.state(nve).attachments[system]
        self.book.attach(nve, replace(attachment, role=role))

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

    def _require_free_port(self, nve: str, port: int) -> None:
        if not FIRST_VM_PORT <= port <= LAST_VM_PORT:
            raise Refused(f"port {port} is none; VM ports are {FIRST_VM_PORT} to {LAST_VM_PORT}")
        holder = self._attachment(nve, port)
        if holder:
            raise Refused(f"port {port} of {nve} belongs to {self.name(holder.system)}")

    def _count(self, nve: str, port: int, what: str, **details: object) -> None:
        """A peer's mistake: counted for each port, recorded, without any other effect."""
        self.counted[nve, port, what] += 1
        self._record(f"refused-{what}", nve, port=port, **details)

    def _note(self, move: Move, event: str, **details: object) -> None:
        self._record(event, move.request.vm, move=move.number, **details)

    def _record(self, event: str, subject: str, **details: object) -> None:
        self._effects.append(Record(self._now_ns, event, subject, details))

    def _settle(self) -> None:
        self._effects += self.book.settle()

    def _at(self, now_ns: int) -> None:
        self._now_ns = now_ns
