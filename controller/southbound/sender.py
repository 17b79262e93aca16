"""Carries out what the NVA has decided: effects become OpenFlow messages to the NVEs.

What several decisions tell one NVE leaves as one message with one barrier behind it, whose reply
confirms everything before it (`controller.core.desired_state`).  A rule that a later one of them
replaces is not sent at all.  Any other effect for that NVE is sent at once, after what the NVE was
told before it.

Nothing here is locked; `controller.nva` calls it with its lock held.
"""

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from operator import attrgetter
from typing import Any

from controller.core.authority import Authority
from controller.southbound import framework, openflow, packets
from controller.southbound.framework import ofproto, parser
from controller.southbound.meters import Meters, numbers
from controller.southbound.stats_requests import Statistics
from nve.messages import (
    Answer,
    AnswerArp,
    AnswerRarp,
    AnswerSolicitation,
    Emit,
    Instruction,
    Order,
    Reconcile,
    Tell,
)
from nve.pipeline.rules import AGENT_PORT, Output, Rule, RuleChange
from nve.wire import end_marker

log = logging.getLogger("vmmlab.nva")


class Sender:
    """The connections to the NVEs, and the requests that they have not answered yet."""

    def __init__(self, authority: Authority) -> None:
        self._authority = authority
        self._meters = Meters()
        self._datapaths: dict[str, Any] = {}
        self._unsent: dict[str, tuple[list[RuleChange], int]] = {}
        """What NVEs are told and has not left yet, and the token of the last of it."""
        self._tokens: dict[tuple[str, int], int] = {}
        self._statistics: dict[tuple[str, int], Statistics] = {}

    # -- connections -----------------------------------------------------------------------------

    def __contains__(self, nve: str) -> bool:
        """Return whether the NVE has a connection."""
        return nve in self._datapaths

    def of(self, nve: str) -> Any:
        """Return an NVE's connection, or None if it has none."""
        return self._datapaths.get(nve)

    def connected(self, nve: str, datapath: Any) -> None:
        self._datapaths[nve] = datapath

    def disconnected(self, nve: str) -> None:
        """Forget an NVE's connection and the requests that it will not answer any more."""
        del self._datapaths[nve]
        self._unsent.pop(nve, None)
        for unanswered in (self._tokens, self._statistics):
            for key in [key for key in unanswered if key[0] == nve]:
                del unanswered[key]

    # -- what NVEs answer ------------------------------------------------------------------------

    def confirmed(self, nve: str, xid: int) -> int | None:
        """Return the token of the barrier that an NVE has answered, or None."""
        return self._tokens.pop((nve, xid), None)

    def statistics_came(self, nve: str, message: Any) -> None:
        """Handle a part of an NVE's statistics; the asker gets the answer when it is complete."""
        waiting = self._statistics.get((nve, message.xid))
        if waiting is None:
            return
        waiting.flows += message.body
        if not message.flags & ofproto.OFPMPF_REPLY_MORE:
            del self._statistics[nve, message.xid]
            waiting.then(waiting.flows)

    def ask(self, nve: str, ask: Callable[[Any], Any], then: Callable[[list[Any]], None]) -> None:
        """Ask an NVE for statistics, and call `then` with the answer.

        Raises KeyError for an NVE that is not connected.
        """
        datapath = self._datapaths[nve]
        request = ask(datapath)
        datapath.set_xid(request)
        self._statistics[nve, request.xid] = Statistics(then)
        datapath.send_msg(request)

    # -- effects ---------------------------------------------------------------------------------

    def carry_out(self, effects: Iterable[Instruction]) -> None:
        """Carry effects out in their order.  A failure of one does not stop the others."""
        with framework.together():
            for effect in effects:
                with _guarded(effect):
                    self._carry_out(effect)
            for nve, unsent in list(self._unsent.items()):
                with _guarded(unsent):
                    self._send(nve)

    def _tell(self, tell: Tell) -> None:
        nve, change = tell.nve, tell.change
        self._give_meters(nve, change.added)
        changes, _ = self._unsent.get(nve, ([], 0))
        self._unsent[nve] = [*changes, change], tell.token
        wanted = self._authority.desired.rules
        if idle := self._meters.idle(nve, change.removed, lambda: wanted(nve)):
            changes, _ = self._unsent[nve]
            self._datapaths[nve].send(openflow.told(changes))
            self._take_meters_back(nve, idle)
            self._unsent[nve] = [], tell.token

    def _send(self, nve: str) -> None:
        if nve in self._unsent:
            changes, token = self._unsent.pop(nve)
            self._ask_for_confirmation(nve, token, openflow.told(changes))

    def _carry_out(self, effect: Instruction) -> None:
        match effect:
            case Tell():
                self._tell(effect)
            case _:
                self._send(effect.nve)
                self._say(effect)

    def _say(self, effect: Reconcile | Answer | Emit | Order) -> None:
        match effect:
            case Reconcile(nve, rules, token):
                datapath = self._datapaths[nve]
                self._meters.connected(nve)
                self._give_meters(nve, rules)
                for rule in sorted(rules, key=attrgetter("order")):
                    datapath.send_msg(openflow.add(datapath, rule))
                self.ask(
                    nve,
                    openflow.ask_statistics,
                    lambda found: self._reconcile(nve, token, found),
                )
            case AnswerArp(nve, request, mac):
                self._emit(nve, Output(request.port), packets.arp_reply(request, mac))
            case AnswerRarp(nve, request, address):
                self._emit(nve, Output(request.port), packets.rarp_reply(request, address))
            case AnswerSolicitation(nve, solicitation, mac):
                answer = packets.advertisement(solicitation, mac)
                self._emit(nve, Output(solicitation.port), answer)
            case Emit(nve, way, frame):
                self._emit(nve, way, frame)
            case Order(nve, signal):
                self._emit(nve, Output(AGENT_PORT), end_marker.frame(signal))

    def _emit(self, nve: str, way: Any, frame: bytes) -> None:
        datapath = self._datapaths[nve]
        datapath.send_msg(openflow.emit(datapath, way, frame))

    def _give_meters(self, nve: str, rules: Iterable[Rule]) -> None:
        datapath = self._datapaths[nve]
        for meter in self._meters.lacking(nve, rules):
            for message in openflow.set_meter(datapath, meter):
                datapath.send_msg(message)

    def _take_meters_back(self, nve: str, idle: set[int]) -> None:
        """Remove meters from a switch after asking what they have dropped."""
        self.ask(nve, openflow.ask_meters, lambda found: self._count(nve, idle, found))
        self._remove_meters(nve, idle)

    def _remove_unwanted_meters(self, nve: str, found: list[Any]) -> None:
        wanted = numbers(self._authority.desired.rules(nve))
        unwanted = {each.meter_id for each in found} - wanted
        self._count(nve, unwanted, found)
        self._remove_meters(nve, unwanted)

    def _remove_meters(self, nve: str, unwanted: set[int]) -> None:
        datapath = self._datapaths[nve]
        for number in unwanted:
            datapath.send_msg(openflow.remove_meter(datapath, number))

    def _count(self, nve: str, gone: set[int], found: list[Any]) -> None:
        drops = self._authority.violations.drops
        for each in found:
            if each.meter_id in gone:
                drops.meter_ended(nve, each.meter_id, openflow.dropped(each))

    def _ask_for_confirmation(self, nve: str, token: int, told: bytes = b"") -> None:
        """Send `told` and a barrier whose reply confirms it and everything before."""
        datapath = self._datapaths[nve]
        barrier = parser.OFPBarrierRequest(datapath)
        datapath.set_xid(barrier)
        self._tokens[nve, barrier.xid] = token
        datapath.send(told + openflow.octets(barrier))

    def _reconcile(self, nve: str, token: int, found: list[Any]) -> None:
        """Remove what an NVE still holds from before and should not hold.

        It may have been told more while its answer was under way: what counts is what it should
        hold now.
        """
        datapath = self._datapaths[nve]
        wanted = {rule.cookie for rule in self._authority.desired.rules(nve)}
        for flow in found:
            if flow.cookie not in wanted:
                datapath.send_msg(openflow.remove_found(datapath, flow))
        self.ask(nve, openflow.ask_meters, lambda found: self._remove_unwanted_meters(nve, found))
        self._ask_for_confirmation(nve, token)


@contextmanager
def _guarded(what: object) -> Iterator[None]:
    """Log an exception of the body instead of raising it, so that other effects are still carried
    out.
    """
    try:
        yield
    except Exception:  # a defect of ours, whatever it is
        log.exception("not carried out: %s", what)
