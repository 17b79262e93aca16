"""The NVA's process around the authority: a lock, the connections to the NVEs, the journal.

Every input goes through `Nva.decide`, which holds one lock while the authority decides and its
effects are sent, so that effects leave in the order they were decided in.  Northbound threads wait
on the same lock's condition for moves to make progress.
"""

import json
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, TypeVar

from controller import openflow, packets, path_mtu
from controller.authority import Authority
from controller.drops import Reason
from controller.framework import ofproto, parser
from controller.gatekeeper import Gatekeeper
from controller.journal import Journal, read_trace
from controller.meters import Meters, numbers
from controller.questions import Question, Statistics, by_meter
from controller.settings import Settings
from nve import endmarker
from nve.messages import (
    AnswerArp,
    AnswerRarp,
    AnswerSolicitation,
    Effect,
    Emit,
    Order,
    Reconcile,
    Record,
    Report,
    RuleEnded,
    Tell,
)
from nve.rules import AGENT_PORT, Output, Rule, Table

Answer = TypeVar("Answer")
log = logging.getLogger("vmmlab.nva")
INCUMBENT_TIMEOUT_S = 3.0
"""How long a connection may be silent when another one claims its NVE."""


class Nva:
    """The authority with a lock around it, and the connections to the NVEs."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.authority = Authority(
            {name: nve.vtep for name, nve in settings.nves.items()},
            settings.dissemination(),
            settings.limits,
            settings.tunnel_mtus(),
            end_markers=settings.end_markers,
        )
        self.names = {nve.dpid: name for name, nve in settings.nves.items()}
        self.trace = read_trace(settings.trace)
        self.changed = threading.Condition(threading.RLock())
        self._datapaths: dict[str, Any] = {}
        homes = {nve.control: name for name, nve in settings.nves.items() if nve.control}
        self.gatekeeper = Gatekeeper(
            homes, lambda address, what: self._refuse(homes.get(ip_address(address), "?"), what)
        )
        self._claimants: dict[str, Claimant] = {}
        self._meters = Meters()
        self._tokens: dict[tuple[str, int], int] = {}
        self._statistics: dict[tuple[str, int], Statistics] = {}
        self._trace_file = settings.trace.open("a", buffering=1)
        vteps = {name: str(nve.vtep) for name, nve in settings.nves.items()}
        self._journal = Journal(settings.state, vteps)
        before = self._journal.before
        if before:
            self.decide(lambda now_ns: self.authority.restore(before, now_ns))

    def decide(self, ask: Callable[[int], Answer]) -> Answer:
        """Let the authority decide something (`ask` gets the time) and carry out its effects.

        What it has decided is written down first: an NVE is told nothing that could be forgotten.
        """
        with self.changed:
            try:
                return ask(time.time_ns())
            finally:
                self._write_down()
                for effect in self.authority.take_effects():
                    self._carry_out(effect)
                self.changed.notify_all()

    def _write_down(self) -> None:
        durable = self.authority.durable
        try:
            self._journal.append(durable.take(), durable.whole)
        except OSError as error:
            log.critical("the NVA ends, for it would forget what it tells: %s", error)
            os._exit(1)

    # -- towards the NVEs ------------------------------------------------------------------------

    def _carry_out(self, effect: Effect) -> None:
        match effect:
            case Record():
                self.trace.append(effect)
                self._trace_file.write(json.dumps(as_json(effect)) + "\n")
            case Tell(nve, change, token):
                self._give_meters(nve, change.added)
                told = openflow.told(change)
                wanted = self.authority.book.rules
                if idle := self._meters.idle(nve, change.removed, lambda: wanted(nve)):
                    self._datapaths[nve].send(told)
                    self._take_meters_back(nve, idle)
                    told = b""
                self._ask_for_confirmation(nve, token, told)
            case Reconcile(nve, rules, token):
                datapath = self._datapaths[nve]
                self._meters.connected(nve)
                self._give_meters(nve, rules)
                for rule in sorted(rules, key=lambda rule: -rule.table):
                    datapath.send_msg(openflow.add(datapath, rule))
                self._ask(
                    nve,
                    openflow.ask_statistics,
                    lambda found: self._reconcile(nve, token, found),
                )
            case AnswerArp(nve, request, mac):
                self._emit(nve, request.port, packets.arp_reply(request, mac))
            case AnswerRarp(nve, request, address):
                self._emit(nve, request.port, packets.rarp_reply(request, address))
            case AnswerSolicitation(nve, solicitation, mac):
                self._emit(nve, solicitation.port, packets.advertisement(solicitation, mac))
            case Emit(nve, way, frame):
                datapath = self._datapaths[nve]
                datapath.send_msg(openflow.emit(datapath, way, frame))
            case Order(nve, signal):
                self._emit(nve, AGENT_PORT, endmarker.frame(signal))

    def _emit(self, nve: str, port: int, frame: bytes) -> None:
        datapath = self._datapaths[nve]
        datapath.send_msg(openflow.emit(datapath, Output(port), frame))

    def _give_meters(self, nve: str, rules: Iterable[Rule]) -> None:
        datapath = self._datapaths[nve]
        for meter in self._meters.lacking(nve, rules):
            for message in openflow.set_meter(datapath, meter):
                datapath.send_msg(message)

    def _take_meters_back(self, nve: str, idle: set[int]) -> None:
        """The switch is asked what they have dropped before it removes them."""
        self._ask(nve, openflow.ask_meters, lambda found: self._count(nve, idle, found))
        self._remove_meters(nve, idle)

    def _remove_unwanted_meters(self, nve: str, found: list[Any]) -> None:
        wanted = numbers(self.authority.book.rules(nve))
        unwanted = {each.meter_id for each in found} - wanted
        self._count(nve, unwanted, found)
        self._remove_meters(nve, unwanted)

    def _remove_meters(self, nve: str, unwanted: set[int]) -> None:
        datapath = self._datapaths[nve]
        for number in unwanted:
            datapath.send_msg(openflow.remove_meter(datapath, number))

    def _count(self, nve: str, gone: set[int], found: list[Any]) -> None:
        for each in found:
            if each.meter_id in gone:
                self.authority.tally.drops.meter_ended(nve, each.meter_id, openflow.dropped(each))

    def _ask_for_confirmation(self, nve: str, token: int, told: bytes = b"") -> None:
        """Of everything so far, and of what it is told with the question."""
        datapath = self._datapaths[nve]
        barrier = parser.OFPBarrierRequest(datapath)
        datapath.set_xid(barrier)
        self._tokens[nve, barrier.xid] = token
        datapath.send(told + openflow.octets(barrier))

    def _reconcile(self, nve: str, token: int, found: list[Any]) -> None:
        """Remove what an NVE still holds from before and should not.

        It may have been told more while its answer was under way: what counts is what it should
        hold by now.
        """
        datapath = self._datapaths[nve]
        wanted = {rule.cookie for rule in self.authority.book.rules(nve)}
        for flow in found:
            if flow.cookie not in wanted:
                datapath.send_msg(openflow.remove_found(datapath, flow))
        self._ask(nve, openflow.ask_meters, lambda found: self._remove_unwanted_meters(nve, found))
        self._ask_for_confirmation(nve, token)

    def _ask(self, nve: str, ask: Callable[[Any], Any], then: Callable[[list[Any]], None]) -> None:
        datapath = self._datapaths[nve]
        request = ask(datapath)
        datapath.set_xid(request)
        self._statistics[nve, request.xid] = Statistics(then)
        datapath.send_msg(request)

    def counters(self, nve: str) -> list[tuple[Rule, int, int]]:
        """Every rule of an NVE with its packets and bytes, as the switch counts them now.

        Raises KeyError for an NVE that is not connected, TimeoutError when it does not answer.
        """
        return self._by_rule(nve, self._ask_now(nve, openflow.ask_statistics))

    def metered(self, nve: str) -> list[tuple[int, int, int]]:
        """Every meter of an NVE by its number, with the packets that came to it and those it has
        dropped.  Raises as `counters` does."""
        return by_meter(self._ask_now(nve, openflow.ask_meters))

    def dropped(self) -> list[tuple[Reason, int]]:
        """What all NVEs have dropped.  Of those that do not answer, what was known before."""
        questions = {}
        for nve in self.names.values():
            with suppress(KeyError):
                flows = self._ask_now(nve, openflow.ask_statistics)
                questions[nve] = (flows, self._ask_now(nve, openflow.ask_meters))
        rules, meters = {}, {}
        for nve, (flows, found) in questions.items():
            with suppress(TimeoutError):
                rules[nve] = [(rule, packets) for rule, packets, _ in self._by_rule(nve, flows)]
                meters[nve] = [(number, dropped) for number, _, dropped in by_meter(found)]
        with self.changed:
            return list(self.authority.tally.drops.total(rules, meters))

    def _by_rule(self, nve: str, asked: Question) -> list[tuple[Rule, int, int]]:
        with self.changed:
            rules = {rule.cookie: rule for rule in self.authority.book.rules(nve)}
        return [
            (rules[flow.cookie], flow.packet_count, flow.byte_count)
            for flow in asked.answer()
            if flow.cookie in rules
        ]

    def _ask_now(self, nve: str, ask: Callable[[Any], Any]) -> Question:
        with self.changed:
            question = Question(nve)
            self._ask(nve, ask, question.take)
            return question

    # -- from the NVEs ---------------------------------------------------------------------------

    def connected(self, datapath: Any) -> None:
        """A switch has said who it is.

        An NVE has one connection.  While that one answers, another that claims the same NVE is
        sent away; when it does not, it was lost without a word, and the other one is the NVE.
        """
        nve = self.names.get(datapath.id)
        with self.changed:
            if nve is None or not self._at_home(nve, datapath):
                self._send_away(nve or "?", datapath)
            elif nve not in self._datapaths:
                self._welcome(nve, datapath)
            elif nve in self._claimants:
                self._send_away(nve, datapath)
            else:
                incumbent = self._datapaths[nve]
                echo = parser.OFPEchoRequest(incumbent)
                incumbent.set_xid(echo)
                self._claimants[nve] = Claimant(datapath, echo.xid, time.monotonic())
                incumbent.send_msg(echo)

    def echoed(self, message: Any) -> None:
        """The incumbent is there: whoever claims its NVE is not."""
        with self.changed:
            nve = self._speaker(message)
            claimant = self._claimants.get(nve) if nve else None
            if nve and claimant and claimant.xid == message.xid:
                del self._claimants[nve]
                self._send_away(nve, claimant.datapath)

    def tick(self) -> None:
        """Time has passed."""
        with self.changed:
            for nve, claimant in list(self._claimants.items()):
                if time.monotonic() - claimant.since_s > INCUMBENT_TIMEOUT_S:
                    incumbent = self._datapaths[nve]
                    self.disconnected(incumbent)
                    incumbent.close()
        self.decide(self.authority.tick)

    def disconnected(self, datapath: Any) -> None:
        nve = self.names.get(datapath.id)
        with self.changed:
            claimant = self._claimants.get(nve) if nve else None
            if nve and claimant and claimant.datapath is datapath:
                del self._claimants[nve]
            if nve is None or self._datapaths.get(nve) is not datapath:
                return
            self.decide(lambda now_ns: self.authority.nve_disconnected(nve, now_ns))
            del self._datapaths[nve]
            for unanswered in (self._tokens, self._statistics):
                for key in [key for key in unanswered if key[0] == nve]:
                    del unanswered[key]
            if nve in self._claimants:
                self._welcome(nve, self._claimants.pop(nve).datapath)

    def _welcome(self, nve: str, datapath: Any) -> None:
        self._datapaths[nve] = datapath
        self.decide(lambda now_ns: self.authority.nve_connected(nve, now_ns))

    def _send_away(self, nve: str, datapath: Any) -> None:
        self._refuse(nve, "connection")
        datapath.close()

    def _refuse(self, nve: str, what: str) -> None:
        self.decide(lambda now_ns: self.authority.refused_on_control(nve, what, now_ns))

    def _at_home(self, nve: str, datapath: Any) -> bool:
        """Whether the connection comes from where the NVE is on the control network."""
        home = self.settings.nves[nve].control
        return home is None or ip_address(datapath.address[0]) == home

    def _speaker(self, message: Any) -> str | None:
        """The NVE that a message comes from; None where the connection is none of an NVE's."""
        nve = self.names.get(message.datapath.id)
        return nve if nve and self._datapaths.get(nve) is message.datapath else None

    def barrier_passed(self, message: Any) -> None:
        nve = self._speaker(message)
        if nve is None:
            return
        token = self._tokens.pop((nve, message.xid), None)
        if token is not None:
            self.decide(lambda now_ns: self.authority.confirmed(nve, token, now_ns))

    def statistics_came(self, message: Any) -> None:
        with self.changed:
            nve = self._speaker(message)
            waiting = self._statistics.get((nve, message.xid)) if nve else None
            if nve is None or waiting is None:
                return
            waiting.flows += message.body
            if not message.flags & ofproto.OFPMPF_REPLY_MORE:
                del self._statistics[nve, message.xid]
                waiting.then(waiting.flows)

    def packet_came(self, message: Any) -> None:
        nve = self._speaker(message)
        if nve is None:
            return
        port, frame = message.match["in_port"], bytes(message.data)
        report: Report
        if port == AGENT_PORT:
            report = packets.signalled(port, frame)
        elif message.table_id == Table.FORWARD:
            report = packets.missed(port, frame)
        elif message.table_id == Table.FIT:
            vni = message.match["metadata"]
            report = path_mtu.reported(port, vni, message.total_len, frame)
        else:
            report = packets.reported(port, frame)
        self.decide(lambda now_ns: self.authority.reported(nve, report, now_ns))

    def rule_ended(self, message: Any) -> None:
        nve = self._speaker(message)
        if nve is None:
            return
        reasons = {ofproto.OFPRR_IDLE_TIMEOUT: "idle", ofproto.OFPRR_HARD_TIMEOUT: "timer"}
        why = reasons.get(message.reason, "told")
        lifetime_ms = message.duration_sec * 1e3 + message.duration_nsec / 1e6
        report = RuleEnded(
            message.cookie, why, message.packet_count, message.byte_count, lifetime_ms
        )
        self.decide(lambda now_ns: self.authority.reported(nve, report, now_ns))

    def refused(self, message: Any) -> None:
        nve = self._speaker(message)
        kind, code = message.type, message.code
        if nve is None or (kind, code) == openflow.METER_THERE_ALREADY:
            return
        log.error("%s refused a message: type %d code %d", nve, kind, code)
        self.decide(lambda now_ns: self.authority.refused_by(nve, kind, code, now_ns))


@dataclass(frozen=True)
class Claimant:
    """A connection that claims an NVE which has one; the incumbent was asked with `xid`."""

    datapath: Any
    xid: int
    since_s: float


def as_json(record: Record) -> dict[str, object]:
    """A trace record as the northbound and the trace file show it."""
    return {
        "t_ns": record.t_ns,
        "event": record.event,
        "subject": record.subject,
        "details": dict(record.details),
    }
