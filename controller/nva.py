"""The NVA's process around the authority: a lock, the connections of the NVEs, the journal.

One lock is held while the authority decides and while the decision's effects are carried out
(`controller.southbound.sender`), so that effects leave in the order of the decisions.  Northbound
threads wait on the same lock's condition for moves to make progress.

When many events come at once, several decisions are carried out together (`hear` each, then `act`):
together they cost one line of the journal and one message for each NVE.
"""

import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_address
from typing import Any, TypeVar

from controller.core import path_mtu
from controller.core.authority import Authority
from controller.settings import Settings
from controller.southbound import openflow, packets
from controller.southbound.connection_admission import ConnectionAdmission
from controller.southbound.counts import Counts
from controller.southbound.framework import ofproto, parser
from controller.southbound.sender import Sender
from controller.storage.journal import Journal
from controller.storage.trace import Trace
from nve.messages import Report, RuleEnded, TraceRecord
from nve.pipeline.rules import AGENT_PORT, UNDERLAY_PORT, PipelineTable

Answer = TypeVar("Answer")
log = logging.getLogger("vmmlab.nva")
INCUMBENT_TIMEOUT_S = 3.0
"""How long a connection may be silent when another claims its NVE, in seconds."""


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
            underlay=settings.underlay(),
            capacities={name: nve.capacity for name, nve in settings.nves.items()},
        )
        self.names = {nve.dpid: name for name, nve in settings.nves.items()}
        self.changed = threading.Condition(threading.RLock())
        self.sender = Sender(self.authority)
        homes = {nve.control: name for name, nve in settings.nves.items() if nve.control}
        self.admission = ConnectionAdmission(
            homes, lambda address, what: self._refuse(homes.get(ip_address(address), "?"), what)
        )
        self._claimants: dict[str, Claimant] = {}
        vteps = {name: str(nve.vtep) for name, nve in settings.nves.items()}
        self._journal = Journal(settings.state, vteps)
        before = self._journal.before
        self.trace = Trace(settings.trace, before.traced)
        self.counts = Counts(self.changed, self.authority, self.sender, self.trace.records)
        if before:
            self.decide(lambda now_ns: self.authority.restore(before, now_ns))

    def decide(self, ask: Callable[[int], Answer]) -> Answer:
        """Let the authority decide something (`ask` gets the time), and carry the effects out."""
        with self.changed:
            try:
                return self.hear(ask)
            finally:
                self.act()

    def hear(self, ask: Callable[[int], Answer]) -> Answer:
        """Let the authority decide something; the effects wait for `act`."""
        with self.changed:
            return ask(time.time_ns())

    def act(self) -> None:
        """Carry out what has been decided.

        The journal is written first, so that no NVE is told anything that a restarted NVA has
        forgotten.
        """
        with self.changed:
            effects = self.authority.take_effects()
            self._write_down([effect for effect in effects if isinstance(effect, TraceRecord)])
            self.sender.carry_out(
                effect for effect in effects if not isinstance(effect, TraceRecord)
            )
            self.changed.notify_all()

    def _write_down(self, records: Sequence[TraceRecord]) -> None:
        durable = self.authority.durable
        try:
            self.trace.write(records)
            traced = self.trace.bytes if records else None
            self._journal.append(
                replace(durable.take(), traced=traced),
                lambda: replace(durable.whole(), traced=self.trace.bytes),
            )
            if records:
                self.trace.confirm()
        except OSError as error:
            log.critical("the NVA ends, for it would forget what it tells: %s", error)
            os._exit(1)

    # -- from the NVEs ---------------------------------------------------------------------------

    def connected(self, datapath: Any) -> None:
        """Handle a switch that has said which NVE it is.

        An NVE has one connection.  While that one answers, another that claims the same NVE is
        closed.  If it does not answer, it was lost without notice, and the new connection becomes
        the NVE's.
        """
        nve = self.names.get(datapath.id)
        with self.changed:
            if nve is None or not self._at_home(nve, datapath):
                self._send_away(nve or "?", datapath)
            elif nve not in self.sender:
                self._welcome(nve, datapath)
            elif nve in self._claimants:
                self._send_away(nve, datapath)
            else:
                incumbent = self.sender.of(nve)
                echo = parser.OFPEchoRequest(incumbent)
                incumbent.set_xid(echo)
                self._claimants[nve] = Claimant(datapath, echo.xid, time.monotonic())
                incumbent.send_msg(echo)

    def echoed(self, message: Any) -> None:
        """Close the connection that claims an NVE whose present connection has answered."""
        with self.changed:
            nve = self._speaker(message)
            claimant = self._claimants.get(nve) if nve else None
            if nve and claimant and claimant.xid == message.xid:
                del self._claimants[nve]
                self._send_away(nve, claimant.datapath)

    def tick(self) -> None:
        """Let the authority handle the passing of time."""
        with self.changed:
            for nve, claimant in list(self._claimants.items()):
                if time.monotonic() - claimant.since_s > INCUMBENT_TIMEOUT_S:
                    incumbent = self.sender.of(nve)
                    self.disconnected(incumbent)
                    incumbent.close()
        self.decide(self.authority.tick)

    def disconnected(self, datapath: Any) -> None:
        nve = self.names.get(datapath.id)
        with self.changed:
            claimant = self._claimants.get(nve) if nve else None
            if nve and claimant and claimant.datapath is datapath:
                del self._claimants[nve]
            if nve is None or self.sender.of(nve) is not datapath:
                return
            self.decide(lambda now_ns: self.authority.nve_disconnected(nve, now_ns))
            self.sender.disconnected(nve)
            if nve in self._claimants:
                self._welcome(nve, self._claimants.pop(nve).datapath)

    def _welcome(self, nve: str, datapath: Any) -> None:
        self.sender.connected(nve, datapath)
        self.decide(lambda now_ns: self.authority.nve_connected(nve, now_ns))

    def _send_away(self, nve: str, datapath: Any) -> None:
        self._refuse(nve, "connection")
        datapath.close()

    def _refuse(self, nve: str, what: str) -> None:
        self.decide(lambda now_ns: self.authority.refused_on_control(nve, what, now_ns))

    def _at_home(self, nve: str, datapath: Any) -> bool:
        """Return whether a connection comes from the NVE's address on the control network."""
        home = self.settings.nves[nve].control
        return home is None or ip_address(datapath.address[0]) == home

    def _speaker(self, message: Any) -> str | None:
        """Return the NVE that a message comes from, or None if the connection is not an NVE's."""
        nve = self.names.get(message.datapath.id)
        with self.changed:
            return nve if nve and self.sender.of(nve) is message.datapath else None

    def barrier_passed(self, message: Any) -> None:
        """Handle a barrier reply; the caller calls `act` afterwards."""
        with self.changed:
            nve = self._speaker(message)
            token = self.sender.confirmed(nve, message.xid) if nve else None
            if nve and token is not None:
                self.hear(lambda now_ns: self.authority.confirmed(nve, token, now_ns))

    def statistics_came(self, message: Any) -> None:
        """Handle a statistics reply after everything that the NVE has said before it."""
        with self.changed:
            nve = self._speaker(message)
            if nve is not None:
                self.act()
                self.sender.statistics_came(nve, message)

    def packet_came(self, message: Any) -> None:
        """Handle a packet-in; the caller calls `act` afterwards."""
        nve = self._speaker(message)
        if nve is None:
            return
        port, frame = message.match["in_port"], bytes(message.data)
        report: Report
        if port == AGENT_PORT:
            report = packets.signalled(port, frame)
        elif port == UNDERLAY_PORT:
            report = packets.router_error(port, frame)
        elif message.table_id == PipelineTable.FORWARD:
            report = packets.missed(port, frame)
        elif message.table_id == PipelineTable.ROUTE:
            report = packets.unrouted(port, frame)
        elif message.table_id == PipelineTable.FIT:
            vni = message.match["metadata"]
            report = path_mtu.reported(port, vni, message.total_len, frame)
        else:
            report = packets.reported(port, frame)
        self.hear(lambda now_ns: self.authority.reported(nve, report, now_ns))

    def rule_ended(self, message: Any) -> None:
        """Handle a flow-removed message; the caller calls `act` afterwards."""
        nve = self._speaker(message)
        if nve is None:
            return
        reasons = {ofproto.OFPRR_IDLE_TIMEOUT: "idle", ofproto.OFPRR_HARD_TIMEOUT: "timer"}
        why = reasons.get(message.reason, "told")
        lifetime_ms = message.duration_sec * 1e3 + message.duration_nsec / 1e6
        packets = openflow.counted(message.packet_count)
        octets = openflow.counted(message.byte_count)
        report = RuleEnded(message.cookie, why, packets, octets, lifetime_ms)
        self.hear(lambda now_ns: self.authority.reported(nve, report, now_ns))

    def refused(self, message: Any) -> None:
        nve = self._speaker(message)
        kind, code = message.type, message.code
        if nve is None or (kind, code) == openflow.METER_THERE_ALREADY:
            return
        log.error("%s refused a message: type %d code %d", nve, kind, code)
        self.decide(lambda now_ns: self.authority.refused_by(nve, kind, code, now_ns))


@dataclass(frozen=True)
class Claimant:
    """A connection that claims an NVE which already has one; that one was sent echo request
    `xid`.
    """

    datapath: Any
    xid: int
    since_s: float
