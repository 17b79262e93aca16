"""Moves under way: the steps of `controller.mobility`, carried out on the book and the directory.

Each move waits for facts: that NVEs have confirmed what they were told, that no NVE holds an old
entry, that the rule for packets in flight has ended.  `look_for_progress` is called whenever one of
them may have come true.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from controller.book import Book
from controller.entries import Entries
from controller.mapping import Directory, Outcome
from controller.mobility import FINISHED, Event, Phase, Step, advance
from controller.outbox import Outbox
from nve.messages import RuleEnded
from nve.model import Binding, TenantSystem
from nve.pipeline import Attachment, Redirect, Role, compile_system
from nve.rules import Purpose, Rule


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
    """The NVEs that have not confirmed yet what this phase needs, and what: tokens of the book."""
    waiting_cookie: int | None = None
    """Of the rule that tunnels packets in flight until the VM has arrived."""

    @property
    def destination(self) -> str:
        return self.request.to


class Moves:
    """All moves there were, numbered from 1."""

    def __init__(self, book: Book, directory: Directory, entries: Entries, outbox: Outbox) -> None:
        self.all: list[Move] = []
        self._book = book
        self._directory = directory
        self._entries = entries
        self._outbox = outbox

    def unfinished(self) -> Iterator[Move]:
        """The moves under way, while they may be finishing."""
        return iter([move for move in self.all if move.phase not in FINISHED])

    def of(self, system: TenantSystem) -> Move | None:
        """The move of a VM that is under way; there is at most one."""
        return next((move for move in self.unfinished() if move.system == system), None)

    def begin(self, request: MoveRequest, binding: Binding) -> Move:
        """Get the destination NVE ready (R5.1).  The request has been found possible."""
        number = len(self.all) + 1
        move = Move(number, request, binding.system, binding.nve, self._outbox.now_ns)
        self.all.append(move)
        newcomer = request.to not in self._book.present(move.system.vni)
        place = Attachment(move.system, binding.addresses, request.port, Role.PRE_ASSOCIATED)
        self._book.attach(request.to, place)
        if newcomer:
            self._entries.introduce(request.to, move.system)
        self._note(move, "move-accepted", source=move.source, to=request.to)
        self._settle()
        self._await(move, [request.to])
        return move

    def take(self, move: Move, event: Event) -> None:
        """Let an event happen to a move.  Raises OutOfTurn, and then nothing has changed."""
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
        if event is Event.LAST_ENTRY_GONE:
            self._note(move, f"move-{Phase.CONVERGED}")
        if move.phase is not Phase.CONVERGED:
            self._note(move, f"move-{move.phase}")
        self._settle()
        match move.phase:
            case Phase.REDIRECTING:
                self._await(move, [move.source])
            case Phase.ARRIVED:
                self._await(move, self._book)

    def look_for_progress(self) -> None:
        """Go on with every move whose phase has what it waits for."""
        for move in self.unfinished():
            self._look(move)

    def in_flight_ended(self, nve: str, rule: Rule, report: RuleEnded) -> None:
        """A source NVE's rule for packets in flight has ended by itself (R5.5)."""
        assert rule.about is not None, rule
        self._book.set_redirect(nve, rule.about, None)
        for move in self.unfinished():
            if move.system == rule.about and move.source == nve:
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
                self.take(move, Event.TUNNEL_ENDED)

    def in_flight_counted(self, nve: str, report: RuleEnded) -> None:
        """The rule that waited for the VM's arrival is gone: what it carried until then."""
        for move in self.all:
            if move.source == nve and move.waiting_cookie == report.cookie:
                counted = {"packets": report.packets, "bytes": report.octets}
                self._note(move, "in-flight-before-arrival", nve=nve, **counted)
                move.waiting_cookie = None

    # -- steps -----------------------------------------------------------------------------------

    def _redirect(self, move: Move) -> None:
        """R5.2: the source NVE is told the destination NVE's address."""
        to = self._book.vteps[move.destination] if move.request.in_flight == "tunnel" else None
        self._set_role(move.source, move.system, Role.DEPARTING)
        self._book.set_redirect(move.source, move.system, Redirect(to))
        in_flight = {Purpose.IN_FLIGHT, Purpose.DEPARTED}
        rules = compile_system(self._book.state(move.source), move.system)
        (waiting,) = (rule for rule in rules if rule.purpose in in_flight and rule.reports_end)
        move.waiting_cookie = waiting.cookie

    def _rebind(self, move: Move) -> None:
        """The VM is at the destination: the directory, both NVEs of the move, and others told."""
        known = self._binding(move)
        outcome = self._directory.rebind(move.system, move.destination, known.sequence + 1)
        assert outcome is Outcome.CHANGED, outcome
        binding = self._binding(move)
        self._set_role(move.destination, move.system, Role.ACTIVE)
        self._book.set_remote(move.destination, move.system, None)
        redirect = self._book.state(move.source).redirects[move.system]
        request = move.request
        ending = replace(redirect, idle_s=request.idle_s, timer_s=request.timer_s)
        self._book.set_redirect(move.source, move.system, ending)
        self._note(move, "mapping-updated", nve=move.destination, sequence=binding.sequence)
        self._entries.disseminate(binding, frozenset({move.source, move.destination}))

    def _restore(self, move: Move) -> None:
        """As if never asked: the VM is active at the source, the destination forgets its port."""
        self._set_role(move.source, move.system, Role.ACTIVE)
        self._book.set_redirect(move.source, move.system, None)
        self._entries.detach(move.destination, move.system)

    def _await(self, move: Move, nves: Iterable[str]) -> None:
        move.awaiting = self._book.pending(nves)
        self._look(move)

    def _look(self, move: Move) -> None:
        """Go on when what the phase waits for has come true."""
        confirmed = self._book.is_confirmed
        if not all(confirmed(nve, token) for nve, token in move.awaiting.items()):
            return
        if move.phase in (Phase.PREPARING, Phase.REDIRECTING):
            self.take(move, Event.CONFIRMED)
        elif move.phase in (Phase.ARRIVED, Phase.DRAINED):
            if move.awaiting:
                self._note(move, "mapping-confirmed", nves=sorted(move.awaiting))
                move.awaiting = {}
            if not self._entries.outdated(self._binding(move)):
                self.take(move, Event.LAST_ENTRY_GONE)

    def _set_role(self, nve: str, system: TenantSystem, role: Role) -> None:
        attachment = self._book.state(nve).attachments[system]
        self._book.attach(nve, replace(attachment, role=role))

    def _binding(self, move: Move) -> Binding:
        binding = self._directory.find(move.system)
        assert binding is not None, f"{move.system} moves but is not in the directory"
        return binding

    def _note(self, move: Move, event: str, **details: object) -> None:
        self._outbox.record(event, move.request.vm, move=move.number, **details)

    def _settle(self) -> None:
        self._outbox.put(*self._book.settle())
