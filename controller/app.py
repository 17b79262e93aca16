"""The Ryu application: OpenFlow events into the authority, the authority's effects into OpenFlow.

Every input goes through `Nva.decide`, which holds one lock while the authority decides and its
effects are sent, so that effects leave in the order they were decided in.  Northbound threads wait
on the same lock's condition for moves to make progress.
"""

import json
import logging
import threading
import time
from collections.abc import Callable
from typing import Any, ClassVar, TypeVar

from controller import openflow, packets
from controller.authority import Authority
from controller.framework import Application, handler, hub, ofp_event, ofproto, parser
from controller.settings import Settings
from nve.messages import (
    AnswerArp,
    AnswerSolicitation,
    Effect,
    Reconcile,
    Record,
    Resend,
    RuleEnded,
    Tell,
)
from nve.rules import Rule, Table

Answer = TypeVar("Answer")
log = logging.getLogger("vmmlab.nva")
TICK_S = 0.5
STATISTICS_TIMEOUT_S = 5.0


class Nva:
    """The authority with a lock around it, and the connections to the NVEs."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.authority = Authority(
            {name: nve.vtep for name, nve in settings.nves.items()}, settings.dissemination()
        )
        self.names = {nve.dpid: name for name, nve in settings.nves.items()}
        self.trace: list[Record] = []
        self.changed = threading.Condition(threading.RLock())
        self._datapaths: dict[str, Any] = {}
        self._tokens: dict[tuple[str, int], int] = {}
        self._statistics: dict[tuple[str, int], Statistics] = {}
        self._trace_file = settings.trace.open("a", buffering=1)

    def decide(self, ask: Callable[[int], Answer]) -> Answer:
        """Let the authority decide something (`ask` gets the time) and carry out its effects."""
        with self.changed:
            try:
                return ask(time.time_ns())
            finally:
                for effect in self.authority.take_effects():
                    self._carry_out(effect)
                self.changed.notify_all()

    # -- towards the NVEs ------------------------------------------------------------------------

    def _carry_out(self, effect: Effect) -> None:
        match effect:
            case Record():
                self.trace.append(effect)
                self._trace_file.write(json.dumps(as_json(effect)) + "\n")
            case Tell(nve, change, token):
                datapath = self._datapaths[nve]
                for rule in change.added:
                    datapath.send_msg(openflow.add(datapath, rule))
                for rule in change.removed:
                    datapath.send_msg(openflow.remove(datapath, rule))
                self._ask_for_confirmation(nve, token)
            case Reconcile(nve, rules, token):
                datapath = self._datapaths[nve]
                for rule in sorted(rules, key=lambda rule: -rule.table):
                    datapath.send_msg(openflow.add(datapath, rule))
                self._ask_statistics(nve, lambda found: self._reconcile(nve, token, found))
            case AnswerArp(nve, request, mac):
                self._emit(nve, request.port, packets.arp_reply(request, mac))
            case AnswerSolicitation(nve, solicitation, mac):
                self._emit(nve, solicitation.port, packets.advertisement(solicitation, mac))
            case Resend(nve, port, frame):
                datapath = self._datapaths[nve]
                datapath.send_msg(openflow.resend(datapath, port, frame))

    def _emit(self, nve: str, port: int, frame: bytes) -> None:
        datapath = self._datapaths[nve]
        datapath.send_msg(openflow.emit(datapath, port, frame))

    def _ask_for_confirmation(self, nve: str, token: int) -> None:
        datapath = self._datapaths[nve]
        barrier = parser.OFPBarrierRequest(datapath)
        datapath.set_xid(barrier)
        self._tokens[nve, barrier.xid] = token
        datapath.send_msg(barrier)

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
        self._ask_for_confirmation(nve, token)

    def _ask_statistics(self, nve: str, then: Callable[[list[Any]], None]) -> None:
        datapath = self._datapaths[nve]
        request = openflow.ask_statistics(datapath)
        datapath.set_xid(request)
        self._statistics[nve, request.xid] = Statistics(then)
        datapath.send_msg(request)

    def counters(self, nve: str) -> list[tuple[Rule, int, int]]:
        """Every rule of an NVE with its packets and bytes, as the switch counts them now.

        Raises KeyError for an NVE that is not connected, TimeoutError when it does not answer.
        """
        answered = threading.Event()
        found: list[Any] = []

        def take(flows: list[Any]) -> None:
            found.extend(flows)
            answered.set()

        with self.changed:
            rules = {rule.cookie: rule for rule in self.authority.book.rules(nve)}
            self._ask_statistics(nve, take)
        if not answered.wait(STATISTICS_TIMEOUT_S):
            raise TimeoutError(f"{nve} did not report its counters in {STATISTICS_TIMEOUT_S} s")
        return [
            (rules[flow.cookie], flow.packet_count, flow.byte_count)
            for flow in found
            if flow.cookie in rules
        ]

    # -- from the NVEs ---------------------------------------------------------------------------

    def connected(self, datapath: Any) -> None:
        nve = self.names.get(datapath.id)
        if nve is None:
            log.warning("refused a switch with unknown datapath id %016x", datapath.id)
            datapath.close()
            return
        with self.changed:
            self._datapaths[nve] = datapath
            self.decide(lambda now_ns: self.authority.nve_connected(nve, now_ns))

    def disconnected(self, datapath: Any) -> None:
        nve = self.names.get(datapath.id)
        with self.changed:
            if nve is None or self._datapaths.get(nve) is not datapath:
                return
            self.decide(lambda now_ns: self.authority.nve_disconnected(nve, now_ns))
            del self._datapaths[nve]

    def barrier_passed(self, message: Any) -> None:
        nve = self.names[message.datapath.id]
        token = self._tokens.pop((nve, message.xid), None)
        if token is not None:
            self.decide(lambda now_ns: self.authority.confirmed(nve, token, now_ns))

    def statistics_came(self, message: Any) -> None:
        nve = self.names[message.datapath.id]
        with self.changed:
            waiting = self._statistics.get((nve, message.xid))
            if waiting is None:
                return
            waiting.flows += message.body
            if not message.flags & ofproto.OFPMPF_REPLY_MORE:
                del self._statistics[nve, message.xid]
                waiting.then(waiting.flows)

    def packet_came(self, message: Any) -> None:
        nve = self.names[message.datapath.id]
        read = packets.missed if message.table_id == Table.FORWARD else packets.reported
        report = read(message.match["in_port"], bytes(message.data))
        self.decide(lambda now_ns: self.authority.reported(nve, report, now_ns))

    def rule_ended(self, message: Any) -> None:
        nve = self.names[message.datapath.id]
        reasons = {ofproto.OFPRR_IDLE_TIMEOUT: "idle", ofproto.OFPRR_HARD_TIMEOUT: "timer"}
        why = reasons.get(message.reason, "told")
        lifetime_ms = message.duration_sec * 1e3 + message.duration_nsec / 1e6
        report = RuleEnded(
            message.cookie, why, message.packet_count, message.byte_count, lifetime_ms
        )
        self.decide(lambda now_ns: self.authority.reported(nve, report, now_ns))


class Statistics:
    """An answer to a statistics request, which may come in several messages."""

    def __init__(self, then: Callable[[list[Any]], None]) -> None:
        self.flows: list[Any] = []
        self.then = then


def as_json(record: Record) -> dict[str, object]:
    """A trace record as the northbound and the trace file show it."""
    return {
        "t_ns": record.t_ns,
        "event": record.event,
        "subject": record.subject,
        "details": dict(record.details),
    }


class NvaApplication(Application):  # type: ignore[misc]
    """What the framework starts: it hands every event on to `Nva`."""

    OFP_VERSIONS: ClassVar = [ofproto.OFP_VERSION]
    nva: Nva

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        hub.spawn(self._tick)

    def _tick(self) -> None:
        while True:
            hub.sleep(TICK_S)
            self.nva.decide(self.nva.authority.tick)

    @handler.set_ev_cls(
        ofp_event.EventOFPStateChange, [handler.MAIN_DISPATCHER, handler.DEAD_DISPATCHER]
    )
    def state_changed(self, event: Any) -> None:
        if event.state == handler.MAIN_DISPATCHER:
            self.nva.connected(event.datapath)
        elif event.datapath.id is not None:
            self.nva.disconnected(event.datapath)

    @handler.set_ev_cls(ofp_event.EventOFPBarrierReply, handler.MAIN_DISPATCHER)
    def barrier_reply(self, event: Any) -> None:
        self.nva.barrier_passed(event.msg)

    @handler.set_ev_cls(ofp_event.EventOFPFlowStatsReply, handler.MAIN_DISPATCHER)
    def flow_statistics(self, event: Any) -> None:
        self.nva.statistics_came(event.msg)

    @handler.set_ev_cls(ofp_event.EventOFPPacketIn, handler.MAIN_DISPATCHER)
    def packet_in(self, event: Any) -> None:
        self.nva.packet_came(event.msg)

    @handler.set_ev_cls(ofp_event.EventOFPFlowRemoved, handler.MAIN_DISPATCHER)
    def flow_removed(self, event: Any) -> None:
        self.nva.rule_ended(event.msg)

    @handler.set_ev_cls(ofp_event.EventOFPErrorMsg, handler.MAIN_DISPATCHER)
    def error(self, event: Any) -> None:
        message = event.msg
        nve = self.nva.names.get(message.datapath.id, "?")
        log.error("%s refused a message: type %d code %d", nve, message.type, message.code)
        self.nva.decide(
            lambda now_ns: self.nva.authority.refused_by(nve, message.type, message.code, now_ns)
        )
