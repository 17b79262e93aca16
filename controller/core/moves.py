"""The moves under way, taken from one phase to the next (`controller.core.move_fsm`).

Each move waits for facts: that NVEs have confirmed what they were told, that no NVE holds an old
entry, that the rule for packets in flight has ended.  A move is *awake* if one of its facts may
have come true.  `go_on` lets each awake move take the step that it can; the loop around it
(`Authority._settle`) handles the changes of the desired state, and the moves that these wake. Most
moves wait for something else and NVEs confirm often, so that looking at every move each time would
be wasteful.

A VM can have several unfinished moves; in all but the youngest the VM has arrived.  The directory
decides whether an entry is old, so that an entry which names the NVE that the VM has come back to
is right again, whichever move had made it old.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import replace

from controller.core.desired_state import DesiredState
from controller.core.directory import Directory
from controller.core.entries import Entries
from controller.core.handover import Handovers
from controller.core.move import Move, MoveRequest
from controller.core.move_actions import IN_FLIGHT, MoveActions
from controller.core.move_fsm import (
    AWAITED,
    BEFORE_ACTIVATION,
    FINISHED,
    MoveAction,
    MoveEvent,
    Party,
    Phase,
    advance,
)
from controller.core.outbox import Outbox
from controller.core.pending_counters import TUNNELLING, PendingCounters
from nve.messages import RuleEnded
from nve.model import Binding, TenantSystem
from nve.pipeline.rules import Rule
from nve.pipeline.state import Redirect


class Moves:
    """All moves, by their keys."""

    def __init__(
        self,
        desired: DesiredState,
        directory: Directory,
        entries: Entries,
        outbox: Outbox,
        handovers: Handovers,
    ) -> None:
        self.all: dict[str, Move] = {}
        """In the order in which they were asked for."""
        self._under_way: dict[str, Move] = {}
        """Those that something is left of."""
        self._by_system: defaultdict[TenantSystem, dict[str, Move]] = defaultdict(dict)
        """The same."""
        self._changing: dict[str, Move] = {}
        self._taken: dict[str, tuple[Phase, bool, frozenset[str]]] = {}
        """Of `take_changed`: those under way when it was asked last or since, and what it told."""
        self._youngest: dict[TenantSystem, Move] = {}
        self._awake: dict[str, Move] = {}
        self._entered: dict[str, Move] = {}
        """Those whose phase is new, and needs confirmations of what the NVEs are told next."""
        self._pending = PendingCounters()
        self._desired = desired
        self._actions = MoveActions(desired, directory, entries, handovers)
        self._entries = entries
        self._outbox = outbox
        self._handovers = handovers

    def restore(self, moves: Iterable[Move]) -> None:
        """Take over the moves that an earlier process had under way (`AFTER_RESTART`).

        The desired state is what it was then, and no NVE has confirmed anything.
        """
        now_ns = self._outbox.now_ns
        for move in moves:
            self._enter(move)
            self._leave_if_finished(move)
            move.deadline_ns = now_ns + int(move.request.deadline_s * 1e9)
        for move in list(self._under_way.values()):
            standing = self._actions.in_flight_rules(move.source, move.system)
            last = self._leaving(move.source, move.system)[-1:] == [move]
            if last and standing:
                self._pending.add(move, standing[0])
            elif move.phase in TUNNELLING:
                self._tunnel_ended(move, "superseded")
            self._enter_phase(move)

    def take_changed(self) -> tuple[Move, ...]:
        """Return copies of the moves that have changed since the last call."""
        changed = []
        for key, move in list(self._changing.items()):
            as_it_is = (move.phase, move.placed, move.outdated)
            if self._taken.get(key) != as_it_is:
                self._taken[key] = as_it_is
                changed.append(replace(move, awaiting={}))
            if key not in self._under_way:
                del self._changing[key], self._taken[key]
        return tuple(changed)

    def unfinished(self) -> Iterator[Move]:
        """Iterate over the unfinished moves; moves may finish meanwhile."""
        return iter([move for move in self._under_way.values() if move.phase not in FINISHED])

    def of(self, system: TenantSystem) -> Move | None:
        """Return the youngest move of a VM, or None if that is finished."""
        move = self._youngest.get(system)
        return move if move and move.phase not in FINISHED else None

    def ends(self, system: TenantSystem) -> set[str]:
        """Return the source and destination NVEs of a VM's unfinished moves."""
        under_way = self._by_system.get(system, {}).values()
        unfinished = [move for move in under_way if move.phase not in FINISHED]
        return {nve for move in unfinished for nve in (move.source, move.destination)}

    def owed_by(self, nve: str, system: TenantSystem) -> frozenset[int]:
        """Return the cookies of the in-flight rules of a VM whose last counts an NVE has yet to
        report.
        """
        return self._pending.cookies(nve, system)

    def may_change_paths(self, system: TenantSystem) -> bool:
        """Return whether paths to a VM may change now.

        They may not while it is on its way: its arrival changes them.
        """
        move = self.of(system)
        return move is None or move.phase not in BEFORE_ACTIVATION

    def begin(self, key: str, request: MoveRequest, binding: Binding) -> Move:
        """Begin a move that has been found possible: get the destination NVE ready (R5.1).

        This waits until the source NVE holds what the VM's arrival there has changed: packets that
        it still redirected to the destination would be taken for packets of this move.
        """
        now_ns = self._outbox.now_ns
        deadline_ns = now_ns + int(request.deadline_s * 1e9)
        move = Move(key, request, binding.system, binding.nve, now_ns, deadline_ns)
        self._forget_places(move)
        self._enter(move)
        self._note(move, "move-accepted", source=move.source, to=request.to)
        self._enter_phase(move)
        return move

    def take(self, move: Move, event: MoveEvent) -> None:
        """Apply an event to a move.  Raises OutOfTurn, and then nothing has changed."""
        before = move.phase
        move.phase, action = advance(before, event)
        if move.phase is before:
            return
        if before is Phase.REDIRECTING and move.phase is Phase.ACTIVATED:
            self._note(move, f"move-{Phase.REDIRECTED}")  # the arrival implies it
        match action:
            case MoveAction.REDIRECT:
                self._pending.add(move, self._actions.redirect(move))
            case MoveAction.ACTIVATE:
                superseded = self._actions.activate(move)
                sequence = self._actions.binding(move).sequence
                self._note(move, "mapping-updated", nve=move.destination, sequence=sequence)
                self._supersede(move, superseded)
            case MoveAction.ROLL_BACK:
                self._actions.roll_back(move)
        if event is MoveEvent.LAST_ENTRY_GONE:
            redirect = self._desired.state(move.source).redirects.get(move.system)
            if redirect and redirect.over:
                self._desired.set_redirect(move.source, move.system, None)
            self._note(move, f"move-{Phase.CONVERGED}")
        if move.phase is not Phase.CONVERGED:
            self._note(move, f"move-{move.phase}")
        if action is not MoveAction.NOTHING:
            self._enter_phase(move)
        self._leave_if_finished(move)
        self.wake(move.system)  # an entry that was old for an earlier move may be right again

    def wake(self, system: TenantSystem) -> None:
        """Mark the moves of a VM as awake: what they wait for may have come true."""
        self._awake |= self._by_system[system]

    def confirmed(self, nve: str, tokens: range) -> None:
        """Wake the moves that wait for one of the tokens which an NVE has confirmed."""
        for move in self._under_way.values():
            if move.awaiting.get(nve, 0) in tokens or nve in move.outdated:
                self._awake[move.key] = move

    def go_on(self) -> bool:
        """Let each awake move take the step it can, once the NVEs have been told everything.

        Returns whether any has taken one.  This ends, as each step leads forward in the life of its
        move.
        """
        entered, self._entered = self._entered, {}
        for move in entered.values():
            move.awaiting = self._desired.pending(self._awaited(move))
        awake, self._awake = self._awake, {}
        steps = [self._step(move) for move in awake.values() if move.key in self._under_way]
        return any(steps)

    def in_flight_ended(self, nve: str, rule: Rule, report: RuleEnded) -> None:
        """Handle the time-out of a source NVE's rule for packets in flight (R5.5).

        Silence is not the end while an NVE still has an old entry: a correspondent that sends
        rarely would use it (R4.1.4).  Then the rule is told again; a second rule of lower priority
        handles packets meanwhile.  A timer is the experimenter's choice and does end it: what still
        comes is dropped and counted until no NVE has an old entry.  An NVE that has been out of
        reach for so long that the move does not wait for it (`give_up`) delays nothing.
        """
        assert rule.about is not None, rule
        ended = self._tunnelling(nve, rule.about)[-1:]
        redirect = self._desired.state(nve).redirects[rule.about]
        outdated = any(move.outdated for move in ended)
        if report.why == "idle" and outdated:
            self._desired.set_redirect(nve, rule.about, redirect)
            for move in ended:
                self._note(move, "in-flight-kept", nve=nve, **_carried(report))
            return
        late = Redirect(None, copy_vni=redirect.copy_vni, over=True) if outdated else None
        self._desired.set_redirect(nve, rule.about, late)
        for move in ended:
            self._tunnel_ended(move, report.why, report)

    def in_flight_counted(self, nve: str, report: RuleEnded) -> None:
        """Record the last count of a rule for packets in flight that is no longer wanted."""
        pending = self._pending.settle(nve, report.cookie)
        if pending and pending.superseded:
            self._tunnel_ended(pending.move, "superseded", report)
        elif pending:
            counted = {"packets": report.packets, "bytes": report.octets}
            self._note(pending.move, "in-flight-before-arrival", nve=nve, **counted)

    def in_flight_taken_away(self, nve: str, rule: Rule, report: RuleEnded) -> bool:
        """Return whether somebody else has removed a rule for packets in flight.

        The number of reports owed stays the same: the rule that waits until another ends the move
        will report once.
        """
        if self._pending.count(nve, rule.cookie) > (not rule.has_timeout):
            return False
        assert rule.about is not None, rule
        for move in self._leaving(nve, rule.about)[-1:]:
            counted = {"packets": report.packets, "bytes": report.octets}
            self._note(move, "in-flight-taken-away", nve=nve, **counted)
        return True

    def lost(self, nve: str) -> None:
        """Handle the loss of the connection to an NVE, and of the counts of rules that are gone."""
        self._forgive(nve)
        for move in self._under_way.values():
            if self._is_lost(move, nve):
                move.awaiting.pop(nve, None)
                self._awake[move.key] = move

    def connected(self, nve: str) -> None:
        """Handle the return of an NVE: rules that it should no longer hold go without a count."""
        self._forgive(nve)

    def give_up(self, nve: str) -> None:
        """Stop waiting for an NVE that is out of reach, in moves whose VM has arrived."""
        for move in self.unfinished():
            tunnelling = move.source == nve and move.phase in TUNNELLING
            waited_for = tunnelling or nve in move.awaiting or nve in move.outdated
            if move.phase in BEFORE_ACTIVATION or not waited_for:
                continue
            self._note(move, "nve-given-up", nve=nve)
            move.awaiting.pop(nve, None)
            move.outdated -= {nve}
            if tunnelling:
                self._desired.set_redirect(nve, move.system, None)
                self._tunnel_ended(move, "given-up")
            self._awake[move.key] = move

    def _forgive(self, nve: str) -> None:
        systems = self._desired.state(nve).redirects
        rules = [rule for each in systems for rule in self._actions.in_flight_rules(nve, each)]
        standing = {rule.cookie for rule in rules if not rule.has_timeout}
        for move in self._pending.drop_lost(nve, standing):
            self._tunnel_ended(move, "superseded")

    def _supersede(self, newer: Move, rules: Iterable[Rule]) -> None:
        """End the tunnels that led away from the NVE to which the VM has come back.

        For an NVE in reach, that is recorded only when its last count has come.
        """
        nve = newer.destination
        for rule in rules:
            older = self._tunnelling(nve, newer.system)[-1]
            if self._desired.is_connected(nve):
                self._pending.add(older, rule, superseded=True)
            else:
                self._tunnel_ended(older, "superseded")

    # -- waiting ---------------------------------------------------------------------------------

    def _enter_phase(self, move: Move) -> None:
        self._entered[move.key] = self._awake[move.key] = move

    def _awaited(self, move: Move) -> Iterable[str]:
        """Return the NVEs whose confirmation the move's phase needs."""
        party = AWAITED.get(move.phase)
        if move.phase is Phase.PREPARING and not move.placed:
            party = Party.SOURCE
        nves: dict[Party | None, Iterable[str]] = {
            Party.SOURCE: [move.source],
            Party.DESTINATION: [move.destination],
            Party.EVERYBODY: self._desired,
        }
        return [nve for nve in nves.get(party, ()) if not self._is_lost(move, nve)]

    def _is_lost(self, move: Move, nve: str) -> bool:
        """Return whether the NVE is the unreachable source of a take-over, which goes on without
        it.

        When the source is back, it is told what it has to hold before anything else.
        """
        needed = move.request.needs_source and move.phase in BEFORE_ACTIVATION
        taken_over = move.request.mode == "take-over" and nve == move.source and not needed
        return taken_over and not self._desired.is_connected(nve)

    def _step(self, move: Move) -> bool:
        """Go on if what the phase waits for has come true; return whether it has."""
        if move.phase in TUNNELLING and self._is_lost(move, move.source):
            self._desired.set_redirect(move.source, move.system, None)
            self._tunnel_ended(move, "given-up")
            return True
        if move.phase in (Phase.ACTIVATED, Phase.DRAINED):
            self._look_for_old_entries(move)
        confirmed = self._desired.is_confirmed
        if not all(confirmed(nve, token) for nve, token in move.awaiting.items()):
            return False
        match move.phase:
            case Phase.PREPARING if self._handovers.under_way(move.system):
                # Packets are still on an old path, and others must not overtake them.
                self._awake[move.key] = move
                return False
            case Phase.PREPARING if not move.placed:
                self._actions.place(move)
                self._enter_phase(move)
            case Phase.PREPARING | Phase.REDIRECTING:
                self.take(move, MoveEvent.CONFIRMED)
            case Phase.ACTIVATED | Phase.DRAINED:
                if move.awaiting:
                    self._note(move, "mapping-confirmed", nves=sorted(move.awaiting))
                    move.awaiting = {}
                if move.outdated:
                    return False
                self.take(move, MoveEvent.LAST_ENTRY_GONE)
            case Phase.ROLLED_BACK if move.placed:
                self._actions.displace(move)
                self._leave_if_finished(move)
            case _:
                return False
        return True

    def _look_for_old_entries(self, move: Move) -> None:
        """Drop the NVEs from `outdated` whose old entry was replaced or taken back, and await their
        confirmation.
        """
        binding = self._actions.binding(move)
        gone = {nve for nve in move.outdated if not self._entries.is_outdated(nve, binding)}
        move.outdated -= gone
        move.awaiting |= self._desired.pending(gone)

    def _tunnelling(self, nve: str, system: TenantSystem) -> list[Move]:
        """Return the moves of a VM whose in-flight tunnel begins at an NVE.

        The rules there belong to the last one; the NVE has yet to report the counts of the others.
        """
        return [move for move in self._leaving(nve, system) if move.phase in TUNNELLING]

    def _leaving(self, nve: str, system: TenantSystem) -> list[Move]:
        return [move for move in self._by_system[system].values() if move.source == nve]

    def _tunnel_ended(self, move: Move, why: str, report: RuleEnded | None = None) -> None:
        """Record the end of a move's in-flight tunnel.

        Without a report, what it has carried since the arrival was not counted.
        """
        counted = report or RuleEnded(0, why, packets=0, octets=0, lifetime_ms=0.0)
        self._note(
            move,
            "in-flight-ended",
            nve=move.source,
            why=why,
            purpose=IN_FLIGHT[move.request.treatment].value,
            **_carried(counted),
        )
        self.take(move, MoveEvent.TUNNEL_ENDED)

    def _forget_places(self, newer: Move) -> None:
        """Forget the places that rolled back moves of the VM have left at the newer move's
        destination.
        """
        for move in list(self._by_system[newer.system].values()):
            if move.destination == newer.destination and move.phase is Phase.ROLLED_BACK:
                move.placed = False
                self._leave_if_finished(move)

    def _enter(self, move: Move) -> None:
        self.all[move.key] = self._under_way[move.key] = self._changing[move.key] = move
        self._youngest[move.system] = self._by_system[move.system][move.key] = move

    def _leave_if_finished(self, move: Move) -> None:
        given_up = move.phase is Phase.ROLLED_BACK and move.placed
        if move.phase in FINISHED and not given_up and move.key in self._under_way:
            del self._under_way[move.key], self._by_system[move.system][move.key]

    # -- small things ----------------------------------------------------------------------------

    def _note(self, move: Move, event: str, **details: object) -> None:
        self._outbox.record(event, move.request.vm, move=move.key, **details)


def _carried(report: RuleEnded) -> dict[str, float]:
    """Return what a rule for packets in flight has carried, and how long it existed."""
    return {
        "packets": report.packets,
        "bytes": report.octets,
        "lifetime_ms": report.lifetime_ms,
    }
