"""Moves under way: the steps of `controller.mobility`, carried out on the book and the directory.

Each move waits for facts: that NVEs have confirmed what they were told, that no NVE holds an old
entry, that the rule for packets in flight has ended.  `look_for_progress` is called whenever one of
them may have come true.

A VM can have several moves that are not finished; all but the youngest have arrived.  Whether an
entry is old is asked of the directory, so that one which names the NVE that the VM has come back to
is right again, whichever move made it old.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace

from controller.book import Book
from controller.entries import Entries
from controller.handover import Handovers
from controller.mapping import Directory, Outcome
from controller.mobility import (
    AWAITED,
    BEFORE_ARRIVAL,
    FINISHED,
    Event,
    Party,
    Phase,
    Step,
    advance,
)
from controller.outbox import Outbox
from nve.messages import RuleEnded
from nve.model import Binding, TenantSystem
from nve.pipeline import Attachment, Redirect, Role, compile_system
from nve.rules import Purpose, Rule

TUNNELLING = frozenset({Phase.ARRIVED, Phase.CONVERGED})
"""After its arrival, a move's in-flight tunnel has not ended in these phases."""
_IN_FLIGHT = {"tunnel": Purpose.IN_FLIGHT, "drop": Purpose.DEPARTED}


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
    deadline_ns: int
    phase: Phase = Phase.PREPARING
    placed: bool = False
    """The destination NVE has been told of the VM's place there, and not to forget it again."""
    outdated: frozenset[str] = frozenset()
    """The NVEs that held an old entry when the VM arrived, and have held one ever since."""
    awaiting: dict[str, int] = field(default_factory=dict)
    """The NVEs that have not confirmed yet what this phase needs, and what: tokens of the book."""

    @property
    def destination(self) -> str:
        return self.request.to


@dataclass(frozen=True)
class _Owed:
    """The last counts of a rule for packets in flight, which the move's source NVE has to report.

    A VM that leaves an NVE twice has the same rule there twice: the first report is the older
    move's.
    """

    move: Move
    cookie: int
    superseded: bool = False


class Moves:
    """All moves there were, numbered from 1."""

    def __init__(
        self,
        book: Book,
        directory: Directory,
        entries: Entries,
        outbox: Outbox,
        handovers: Handovers,
        settle: Callable[[], None],
    ) -> None:
        self.all: list[Move] = []
        self._under_way: dict[int, Move] = {}
        """Those that something is left of, by their number."""
        self._left: list[Move] = []
        self._taken: dict[int, tuple[Phase, bool, frozenset[str]]] = {}
        """Of `take_changed`: those that nothing is left of since, and what it has told."""
        self._youngest: dict[TenantSystem, Move] = {}
        self._owed: list[_Owed] = []
        self._book = book
        self._directory = directory
        self._entries = entries
        self._outbox = outbox
        self._handovers = handovers
        self._settle = settle

    def restore(self, moves: Iterable[Move]) -> None:
        """Take over what a process before this one had under way (`AFTER_RESTART`).

        The book holds what it did then, and no NVE has confirmed anything.
        """
        now_ns = self._outbox.now_ns
        for move in sorted(moves, key=lambda item: item.number):
            self.all.append(move)
            self._youngest[move.system] = move
            self._under_way[move.number] = move
            self._leave_if_finished(move)
            move.deadline_ns = now_ns + int(move.request.deadline_s * 1e9)
        for move in list(self._under_way.values()):
            standing = self._in_flight_rules(move.source, move.system)
            last = self._leaving(move.source, move.system)[-1:] == [move]
            if last and standing:
                self._owed.append(_Owed(move, standing[0].cookie))
            elif move.phase in TUNNELLING:
                self._tunnel_ended(move, "superseded")
            self._await(move)

    def take_changed(self) -> tuple[Move, ...]:
        """The moves that are not as they were when this was asked last; copies of them."""
        changed = []
        for move in [*self._under_way.values(), *self._left]:
            as_it_is = (move.phase, move.placed, move.outdated)
            if self._taken.get(move.number) != as_it_is:
                self._taken[move.number] = as_it_is
                changed.append(replace(move, awaiting={}))
        for move in self._left:
            self._taken.pop(move.number, None)
        self._left.clear()
        return tuple(changed)

    def unfinished(self) -> Iterator[Move]:
        """The moves under way, while they may be finishing."""
        return iter([move for move in self._under_way.values() if move.phase not in FINISHED])

    def of(self, system: TenantSystem) -> Move | None:
        """The youngest move of a VM, if it is not finished."""
        move = self._youngest.get(system)
        return move if move and move.phase not in FINISHED else None

    def may_change_paths(self, system: TenantSystem) -> bool:
        """Not while the VM is on its way: its arrival changes them."""
        move = self.of(system)
        return move is None or move.phase not in BEFORE_ARRIVAL

    def begin(self, request: MoveRequest, binding: Binding) -> Move:
        """Get the destination NVE ready (R5.1).  The request has been found possible.

        Not before the source NVE holds what the VM's arrival there has changed: what it still
        redirected to the destination would be taken for packets of this move.
        """
        now_ns = self._outbox.now_ns
        deadline_ns = now_ns + int(request.deadline_s * 1e9)
        number = len(self.all) + 1
        move = Move(number, request, binding.system, binding.nve, now_ns, deadline_ns)
        self._forget_places(move)
        self.all.append(move)
        self._under_way[number] = self._youngest[binding.system] = move
        self._note(move, "move-accepted", source=move.source, to=request.to)
        self._await(move)
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
        if step is not Step.NOTHING:
            self._await(move)
        self._leave_if_finished(move)

    def look_for_progress(self) -> None:
        """Go on with every move whose phase has what it waits for."""
        for move in list(self._under_way.values()):
            self._look(move)

    def in_flight_ended(self, nve: str, rule: Rule, report: RuleEnded) -> None:
        """A source NVE's rule for packets in flight has ended by itself (R5.5)."""
        assert rule.about is not None, rule
        self._book.set_redirect(nve, rule.about, None)
        for move in self._tunnelling(nve, rule.about)[-1:]:
            self._tunnel_ended(move, report.why, report)

    def in_flight_counted(self, nve: str, report: RuleEnded) -> None:
        """A rule for packets in flight that nobody wants any more is gone: what it carried."""
        for owed in self._owed:
            if owed.move.source == nve and owed.cookie == report.cookie:
                self._owed.remove(owed)
                if owed.superseded:
                    self._tunnel_ended(owed.move, "superseded", report)
                else:
                    counted = {"packets": report.packets, "bytes": report.octets}
                    self._note(owed.move, "in-flight-before-arrival", nve=nve, **counted)
                return

    def lost(self, nve: str) -> None:
        """The connection to an NVE is lost, and with it the counts of rules that are gone."""
        for owed in [each for each in self._owed if each.move.source == nve]:
            if owed.superseded:
                self._tunnel_ended(owed.move, "superseded")
            if owed.move.phase not in {*BEFORE_ARRIVAL, *TUNNELLING}:
                self._owed.remove(owed)

    def give_up(self, nve: str) -> None:
        """Wait no longer for an NVE that is out of reach, where the VM has arrived."""
        for move in self.unfinished():
            tunnelling = move.source == nve and move.phase in TUNNELLING
            waited_for = tunnelling or nve in move.awaiting or nve in move.outdated
            if move.phase in BEFORE_ARRIVAL or not waited_for:
                continue
            self._note(move, "nve-given-up", nve=nve)
            move.awaiting.pop(nve, None)
            move.outdated -= {nve}
            if tunnelling:
                self._book.set_redirect(nve, move.system, None)
                self._tunnel_ended(move, "given-up")
            self._look(move)

    # -- steps -----------------------------------------------------------------------------------

    def _place(self, move: Move) -> None:
        """The destination NVE gets the VM's port and its side of the tunnel (R5.1)."""
        to, system = move.destination, move.system
        newcomer = to not in self._book.present(system.vni)
        addresses, source = self._binding(move).addresses, self._book.vteps[move.source]
        role, port = Role.PRE_ASSOCIATED, move.request.port
        lane = self._handovers.enabled
        self._book.attach(to, Attachment(system, addresses, port, role, source, lane))
        move.placed = True
        if newcomer:
            self._entries.introduce(to, system)
        self._settle()
        self._await(move)

    def _redirect(self, move: Move) -> None:
        """R5.2: the source NVE is told the destination NVE's address."""
        to = self._book.vteps[move.destination] if move.request.in_flight == "tunnel" else None
        self._set_role(move.source, move.system, Role.DEPARTING)
        self._book.set_redirect(move.source, move.system, Redirect(to))
        (waiting,) = self._in_flight_rules(move.source, move.system)
        self._owed.append(_Owed(move, waiting.cookie))

    def _rebind(self, move: Move) -> None:
        """The VM is at the destination: the directory, both NVEs of the move, and others told."""
        known, paths = self._binding(move), self._handovers.paths(move.system)
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
        move.outdated = self._entries.outdated(binding)
        self._supersede(move.destination, move.system)
        self._handovers.arrived(move.system, paths)

    def _supersede(self, nve: str, system: TenantSystem) -> None:
        """The VM has come back: nothing that reaches this NVE has to be sent on any more."""
        standing = [rule for rule in self._in_flight_rules(nve, system) if _ends(rule)]
        self._book.set_redirect(nve, system, None)
        for rule in standing:
            move = self._tunnelling(nve, system)[-1]
            if self._book.is_connected(nve):
                self._owed.append(_Owed(move, rule.cookie, superseded=True))
            else:
                self._tunnel_ended(move, "superseded")

    def _restore(self, move: Move) -> None:
        """As if never asked: the VM is active at the source.

        The destination keeps its place until the source has confirmed: what is still redirected
        there could go round in a circle, where an older redirect leads away from there.
        """
        self._set_role(move.source, move.system, Role.ACTIVE)
        self._book.set_redirect(move.source, move.system, None)

    def _displace(self, move: Move) -> None:
        self._entries.detach(move.destination, move.system)
        move.placed = False
        self._settle()

    # -- waiting ---------------------------------------------------------------------------------

    def _await(self, move: Move) -> None:
        """Wait for the confirmations that the move's phase needs."""
        party = AWAITED.get(move.phase)
        if move.phase is Phase.PREPARING and not move.placed:
            party = Party.SOURCE
        nves: dict[Party | None, Iterable[str]] = {
            Party.SOURCE: [move.source],
            Party.DESTINATION: [move.destination],
            Party.EVERYBODY: self._book,
        }
        move.awaiting = self._book.pending(nves.get(party, ()))
        self._look(move)

    def _look(self, move: Move) -> None:
        """Go on when what the phase waits for has come true."""
        if move.phase in (Phase.ARRIVED, Phase.DRAINED):
            self._look_for_old_entries(move)
        confirmed = self._book.is_confirmed
        if not all(confirmed(nve, token) for nve, token in move.awaiting.items()):
            return
        match move.phase:
            case Phase.PREPARING if self._handovers.under_way(move.system):
                return  # packets still on an old path, and others that must not overtake them
            case Phase.PREPARING if not move.placed:
                self._place(move)
            case Phase.PREPARING | Phase.REDIRECTING:
                self.take(move, Event.CONFIRMED)
            case Phase.ARRIVED | Phase.DRAINED:
                if move.awaiting:
                    self._note(move, "mapping-confirmed", nves=sorted(move.awaiting))
                    move.awaiting = {}
                if not move.outdated:
                    self.take(move, Event.LAST_ENTRY_GONE)
            case Phase.ROLLED_BACK if move.placed:
                self._displace(move)
                self._leave_if_finished(move)

    def _look_for_old_entries(self, move: Move) -> None:
        """An old entry that was replaced or taken back is gone once the NVE has confirmed that."""
        gone = move.outdated - self._entries.outdated(self._binding(move))
        move.outdated -= gone
        move.awaiting |= self._book.pending(gone)

    def _tunnelling(self, nve: str, system: TenantSystem) -> list[Move]:
        """The moves of a VM whose in-flight tunnel begins at an NVE.

        The rules there are the last one's.  The counts of the others are owed.
        """
        return [move for move in self._leaving(nve, system) if move.phase in TUNNELLING]

    def _leaving(self, nve: str, system: TenantSystem) -> list[Move]:
        return [
            move
            for move in self._under_way.values()
            if move.system == system and move.source == nve
        ]

    def _tunnel_ended(self, move: Move, why: str, report: RuleEnded | None = None) -> None:
        """Without a report nobody has counted what it has carried since the arrival."""
        counted = report or RuleEnded(0, why, packets=0, octets=0, lifetime_ms=0.0)
        self._note(
            move,
            "in-flight-ended",
            nve=move.source,
            why=why,
            purpose=_IN_FLIGHT[move.request.in_flight].value,
            packets=counted.packets,
            bytes=counted.octets,
            lifetime_ms=counted.lifetime_ms,
        )
        self.take(move, Event.TUNNEL_ENDED)

    def _forget_places(self, newer: Move) -> None:
        """What moves of the VM that were rolled back have left at the newer one's destination."""
        for move in list(self._under_way.values()):
            same = (move.system, move.destination) == (newer.system, newer.destination)
            if same and move.phase is Phase.ROLLED_BACK:
                move.placed = False
                self._leave_if_finished(move)

    def _leave_if_finished(self, move: Move) -> None:
        given_up = move.phase is Phase.ROLLED_BACK and move.placed
        if move.phase in FINISHED and not given_up and self._under_way.pop(move.number, None):
            self._left.append(move)

    # -- small things ----------------------------------------------------------------------------

    def _in_flight_rules(self, nve: str, system: TenantSystem) -> list[Rule]:
        rules = compile_system(self._book.state(nve), system)
        return [rule for rule in rules if rule.purpose in _IN_FLIGHT.values() and rule.reports_end]

    def _set_role(self, nve: str, system: TenantSystem, role: Role) -> None:
        attachment = self._book.state(nve).attachments[system]
        self._book.attach(nve, replace(attachment, role=role))

    def _binding(self, move: Move) -> Binding:
        binding = self._directory.find(move.system)
        assert binding is not None, f"{move.system} moves but is not in the directory"
        return binding

    def _note(self, move: Move, event: str, **details: object) -> None:
        self._outbox.record(event, move.request.vm, move=move.number, **details)


def _ends(rule: Rule) -> bool:
    return bool(rule.idle_s or rule.hard_s)
