"""How the NVA handles the reports of NVEs.

    ARP, ND, RARP      a VM asks or announces itself        controller.core.address_validation
    a miss             an NVE asks where a VM is (pull): it is told, and the frame is forwarded
    no route           the same at layer 3, where the NVE asks by address
    TTL over           the sender is told                   controller.core.gateway
    too big            a packet exceeds a tunnel's MTU      controller.core.path_mtu
    a router's error   it is passed on to the sender        controller.core.router_errors
    the end of a rule  an entry has expired, nothing is in flight any more, or somebody else has
                       removed it
    a signal           of an NVE's agent                    controller.core.handover

A report is a peer's message: one that is forged, malformed or about something unknown is counted
(`controller.core.violation_counters`) and has no other effect.
"""

from collections.abc import Callable

from controller.core import gateway, path_mtu, router_errors
from controller.core.address_validation import AddressAsked, Announced, Improper, Said, judge
from controller.core.desired_state import DesiredState
from controller.core.directory import Directory
from controller.core.entries import Entries
from controller.core.handover import Handovers
from controller.core.move_actions import IN_FLIGHT
from controller.core.move_fsm import MoveEvent, OutOfTurn
from controller.core.moves import Moves
from controller.core.outbox import Outbox
from controller.core.violation_counters import ViolationCounters
from nve.messages import (
    AnswerArp,
    AnswerRarp,
    AnswerSolicitation,
    ArpSent,
    Emit,
    Expired,
    Malformed,
    Missed,
    NeighbourSolicited,
    RarpSent,
    Report,
    RouterError,
    RuleEnded,
    Signalled,
    TooBig,
    Unrouted,
)
from nve.model import NVE_MAC, Binding, IPAddress, TenantSystem
from nve.pipeline.rules import Output, Purpose, Way
from nve.pipeline.state import Association, RemoteEntry
from nve.wire import announcement, frames
from nve.wire.end_marker import TO_NVA

LATE_MISS_S = 1.0
"""How long after an entry was given its NVE may still report misses for it, in seconds."""


class Reports:
    """Handles the reports of all NVEs, one at a time."""

    def __init__(
        self,
        desired: DesiredState,
        directory: Directory,
        entries: Entries,
        handovers: Handovers,
        moves: Moves,
        outbox: Outbox,
        violations: ViolationCounters,
        name: Callable[[TenantSystem], str],
    ) -> None:
        """`name` returns the name that a VM has in the trace."""
        self._desired = desired
        self._directory = directory
        self._entries = entries
        self._handovers = handovers
        self._moves = moves
        self._outbox = outbox
        self._violations = violations
        self._name = name
        self._entered_ns: dict[tuple[str, TenantSystem], int] = {}
        """When an NVE was last given an entry that it had asked for."""

    def take(self, nve: str, report: Report) -> None:
        """Handle one report of an NVE."""
        if not isinstance(report, RuleEnded):
            self._violations.heard[nve, report.port] += 1
        match report:
            case RuleEnded():
                self._rule_ended(nve, report)
            case Malformed():
                self._violations.refuse(nve, report.port, "malformed", why=report.why)
            case TooBig():
                self._too_big(nve, report)
            case RouterError():
                self._router_error(nve, report)
            case Signalled():
                self._signalled(nve, report)
            case _:
                association = self._desired.attachment_at(nve, report.port)
                if association is None:
                    self._violations.refuse(nve, report.port, "unknown-port")
                elif isinstance(report, Missed):
                    self._answer_miss(nve, association, report)
                elif isinstance(report, Unrouted):
                    self._answer_unrouted(nve, association, report)
                elif isinstance(report, Expired):
                    self._expired(nve, association, report)
                else:
                    self._sent_by(nve, association, report)

    def _signalled(self, nve: str, report: Signalled) -> None:
        if report.signal.kind not in TO_NVA:
            self._violations.refuse(
                nve, report.port, "malformed", why="a signal that is not for the NVA"
            )
        else:
            self._handovers.signalled(nve, report.signal)

    def _sent_by(self, nve: str, association: Association, report: Said) -> None:
        if association.routed:
            if answer := gateway.answer(nve, association, report):
                self._outbox.put(answer)
            else:
                self._violations.refuse(nve, report.port, "not-for-the-gateway")
            return
        match judge(report, association, self._directory):
            case Improper(what, says):
                self._violations.refuse(nve, report.port, what, says=says)
            case Announced(form, asks_for, address):
                self._announced(nve, association, form)
                if address and address in association.claimable:
                    self._claimed(nve, association, address)
                if isinstance(report, RarpSent) and asks_for:
                    self._outbox.put(AnswerRarp(nve, report, asks_for))
                    name = self._name(association.system)
                    self._outbox.record("rarp-answered", name, nve=nve, address=str(asks_for))
            case AddressAsked(binding):
                self._answer(nve, report, binding)

    def _answer(self, nve: str, question: Said, binding: Binding) -> None:
        """Answer an ARP request or neighbour solicitation from the directory."""
        match question:
            case ArpSent():
                self._outbox.put(AnswerArp(nve, question, binding.system.mac))
            case NeighbourSolicited():
                self._outbox.put(AnswerSolicitation(nve, question, binding.system.mac))

    def _answer_unrouted(self, nve: str, asker: Association, packet: Unrouted) -> None:
        """Tell an NVE which VM has an address, or answer a VM that pings its gateway."""
        if packet.destination in gateway.ADDRESSES:
            if reply := gateway.echo_reply(packet.frame, asker.system.mac):
                self._outbox.put_behind(Emit(nve, Output(packet.port), reply))
            return
        binding = self._directory.find_address(asker.system.vni, packet.destination)
        if binding is None or packet.destination.is_link_local:
            self._violations.refuse(nve, packet.port, "unknown-destination")
            return
        frame = frames.routed(packet.frame, NVE_MAC, binding.system.mac)
        self._answer_miss(nve, asker, Missed(packet.port, binding.system.mac, frame))

    def _expired(self, nve: str, sender: Association, packet: Expired) -> None:
        if answer := gateway.time_exceeded(packet.frame, sender.system.mac):
            self._outbox.put_behind(Emit(nve, Output(packet.port), answer))
        self._violations.refused[nve, packet.port, "ttl-exceeded"] += 1

    def route(self, system: TenantSystem, address: IPAddress) -> TenantSystem | None:
        """Route a host address to a VM from now on; return the VM that it led to before."""
        before = self._directory.claim(system, address)
        if before == system:
            return before
        changed = [system, *([before] if before else [])]
        for each in changed:
            binding = self._directory.find(each)
            assert binding is not None, each
            self._desired.set_hosts(each, binding.addresses)
        self._entries.follow(system, before)
        binding = self._directory.find(system)
        assert binding is not None, system
        had = self._name(before) if before else None
        details = {"address": str(address), "before": had}
        self._outbox.record("host-route-moved", self._name(system), nve=binding.nve, **details)
        return before

    def _answer_miss(self, nve: str, asker: Association, miss: Missed) -> None:
        """Tell an NVE that asks where a MAC address is (R4.1.3), and forward the frame."""
        system = TenantSystem(asker.system.vni, miss.destination)
        binding = self._directory.find(system)
        if binding is None:
            self._violations.refuse(nve, miss.port, "unknown-destination")
            return
        state = self._desired.state(nve)
        entry = state.remotes.get(system)
        if binding.nve != nve and (entry is None or entry.vtep != self._desired.vteps[binding.nve]):
            self._entries.enter(nve, binding)
            self._outbox.record("entry-pulled", self._name(system), nve=nve, to=binding.nve)
            self._entered_ns[nve, system] = self._outbox.now_ns
        elif binding.nve != nve and self._should_have_arrived(nve, system):
            self._desired.tell_again(nve, system)
            if entry and self._has_expired(nve, system, entry):
                self._outbox.record("entry-pulled", self._name(system), nve=nve, to=binding.nve)
            else:
                self._outbox.record("entry-told-again", self._name(system), nve=nve)
            self._entered_ns[nve, system] = self._outbox.now_ns
        way = self._way(nve, binding)
        if way and (big := path_mtu.too_big(asker.system, miss, state.tunnel_mtu(way))):
            self._too_big(nve, big)
        elif way:
            self._outbox.put_behind(Emit(nve, way, miss.frame))

    def _should_have_arrived(self, nve: str, system: TenantSystem) -> bool:
        """Return whether a miss shows that the NVE lacks an entry which it has confirmed.

        A confirmation alone does not show it: packets that missed earlier may be reported after it.
        """
        entered_ns = self._entered_ns.get((nve, system))
        late = entered_ns is not None and self._outbox.now_ns - entered_ns < LATE_MISS_S * 1e9
        return not late and not self._desired.pending([nve])

    def _has_expired(self, nve: str, system: TenantSystem, entry: RemoteEntry) -> bool:
        """Return whether the lifetime of an NVE's entry is over.

        A switch may report a miss before it reports the expiry.  The lifetime of an entry that the
        NVE has not asked for began at an unknown time: such an entry counts as expired.
        """
        if not entry.lifetime_s:
            return False
        entered_ns = self._entered_ns.get((nve, system))
        return entered_ns is None or self._outbox.now_ns - entered_ns >= entry.lifetime_s * 1e9

    def _way(self, nve: str, binding: Binding) -> Way | None:
        """Return how a frame for a VM leaves an NVE, or None if packets in flight are dropped."""
        system, state = binding.system, self._desired.state(nve)
        if nve not in binding.nves:
            return state.way(system.vni, self._desired.vteps[binding.nve])
        redirect = state.redirects.get(system)
        if redirect is None:
            return Output(state.associations[system].port)
        return state.way(system.vni, redirect.to) if redirect.to else None

    def _too_big(self, nve: str, report: TooBig) -> None:
        """Tell the sender of a packet that exceeds a tunnel's MTU."""
        report = path_mtu.of_its_sender(report, self._directory)
        mtu, answer = path_mtu.decide(nve, report, self._desired, self._directory)
        if answer:
            self._outbox.put(answer)
        self._violations.refused[nve, report.port, "too-big"] += 1
        self._outbox.record(
            "packet-too-big",
            self._name(TenantSystem(report.vni, report.sender)),
            nve=nve,
            port=report.port,
            to=self._name(TenantSystem(report.vni, report.destination)),
            octets=report.octets,
            mtu=mtu,
            answered=answer is not None,
        )

    def _router_error(self, nve: str, report: RouterError) -> None:
        """Pass an error of a router of the underlay on to the VM that it is for."""
        said = report.error
        match router_errors.judge(said, self._desired, self._directory):
            case str(why):
                self._violations.refuse(nve, report.port, "forged-error", why=why)
            case translated:
                self._outbox.put_behind(*router_errors.emits(translated, self._desired))
                self._outbox.record(
                    "router-error",
                    self._name(translated.vm),
                    nve=nve,
                    router=str(said.source),
                    kind=said.name,
                    to=self._name(translated.destination),
                    mtu=said.mtu,
                )

    def _announced(self, nve: str, association: Association, form: str) -> None:
        """Handle a VM's announcement of its place (R4.1.2, R4.1.6): only a move can have brought it
        there.
        """
        move = self._moves.of(association.system)
        name = self._name(association.system)
        if self._violations.announce(nve, association.port) or move:
            self._outbox.record("announcement-received", name, nve=nve, form=form)
        if move and move.destination == nve:
            try:
                self._moves.take(move, MoveEvent.ANNOUNCED)
            except OutOfTurn:
                self._violations.refuse(nve, association.port, "early-announcement")

    def _claimed(self, nve: str, association: Association, address: IPAddress) -> None:
        """Give a VM an address that it may take over (RFC 5227 section 3, RFC 4861 section 7.2.6).

        From now on the NVA answers with its MAC address.  Other VMs have the former one in their
        tables, so the NVA repeats the announcement to each of them at its port, also while it is on
        its way.
        """
        system = association.system
        before = self._directory.claim(system, address)
        if before == system:
            return
        had = self._name(before) if before else None
        name = self._name(system)
        self._outbox.record("address-claimed", name, nve=nve, address=str(address), before=had)
        for other in self._directory:
            neighbour = other.system.vni == system.vni and other.system != system
            if neighbour and self._desired.is_connected(other.nve):
                frame = announcement.of_address(system.mac, address, other.system.mac)
                if way := self._way(other.nve, other):
                    self._outbox.put_behind(Emit(other.nve, way, frame))

    def _rule_ended(self, nve: str, report: RuleEnded) -> None:
        if self._violations.drops.rule_ended(nve, report.cookie, report.packets):
            return
        if report.why == "told":
            self._rule_removed(nve, report)
            return
        rule = self._desired.ended(nve, report.cookie)
        if rule is None or rule.about is None:
            self._moves.in_flight_counted(nve, report)
        elif rule.purpose is Purpose.FORWARD:
            self._entry_expired(nve, rule.about, report.packets)
            self._moves.wake(rule.about)
        else:
            self._moves.in_flight_ended(nve, rule, report)

    def _rule_removed(self, nve: str, report: RuleEnded) -> None:
        """Handle the removal of a rule by the NVA or by somebody else; if by somebody else, tell it
        again.
        """
        rule = self._desired.told(nve, report.cookie)
        in_flight = rule is not None and rule.purpose in IN_FLIGHT.values()
        if rule and in_flight and self._moves.in_flight_taken_away(nve, rule, report):
            self._desired.taken_away(nve, rule)
        else:
            self._moves.in_flight_counted(nve, report)

    def _entry_expired(self, nve: str, system: TenantSystem, packets: int) -> None:
        """Forget an expired entry.

        If the NVE keeps it and has used it, the expiry report is its way of asking for a new one.
        """
        entry, binding = self._desired.state(nve).remotes.get(system), self._directory.find(system)
        self._outbox.record("entry-expired", self._name(system), nve=nve)
        if entry is None or binding is None or not (entry.kept and packets):
            self._desired.set_remote(nve, system, None)
        elif entry.vtep == self._desired.vteps[binding.nve]:
            self._entries.enter(nve, binding)
        else:
            self._handovers.expired(system, nve)
