"""The Ryu application: it hands every OpenFlow event on to `controller.nva`.

The framework queues events.  The NVA's decisions are carried out when the queue is empty, or after
`TOGETHER` events: an announcement that comes alone is handled at once, and a hundred that come
together do not each cost one message per NVE.
"""

from collections.abc import Callable
from typing import Any, ClassVar

from controller.nva import Nva
from controller.southbound.framework import Application, handler, hub, ofp_event, ofproto

TICK_S = 0.5
TOGETHER = 32
"""How many events are handled together; the NVA needs some ten milliseconds for that many."""


class NvaApplication(Application):  # type: ignore[misc]
    """The application that the framework starts; it hands every event on to `Nva`."""

    OFP_VERSIONS: ClassVar = [ofproto.OFP_VERSION]
    nva: Nva

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._heard = 0
        hub.spawn(self._tick)

    def _tick(self) -> None:
        while True:
            hub.sleep(TICK_S)
            self.nva.tick()

    def _hand_on(self, take: Callable[[Any], None], event: Any) -> None:
        try:
            take(event.msg)
        finally:
            self._heard += 1
            if self.events.empty() or self._heard >= TOGETHER:
                self._heard = 0
                self.nva.act()

    @handler.set_ev_cls(
        ofp_event.EventOFPStateChange, [handler.MAIN_DISPATCHER, handler.DEAD_DISPATCHER]
    )
    def state_changed(self, event: Any) -> None:
        """Handle a connection that opens or closes: carry this and all earlier decisions out at
        once.
        """
        if event.state == handler.MAIN_DISPATCHER:
            self.nva.connected(event.datapath)
        elif event.datapath.id is not None:
            self.nva.disconnected(event.datapath)
        self.nva.act()

    @handler.set_ev_cls(ofp_event.EventOFPBarrierReply, handler.MAIN_DISPATCHER)
    def barrier_reply(self, event: Any) -> None:
        self._hand_on(self.nva.barrier_passed, event)

    @handler.set_ev_cls(ofp_event.EventOFPFlowStatsReply, handler.MAIN_DISPATCHER)
    def flow_statistics(self, event: Any) -> None:
        self._hand_on(self.nva.statistics_came, event)

    @handler.set_ev_cls(ofp_event.EventOFPMeterStatsReply, handler.MAIN_DISPATCHER)
    def meter_statistics(self, event: Any) -> None:
        self._hand_on(self.nva.statistics_came, event)

    @handler.set_ev_cls(ofp_event.EventOFPEchoReply, handler.MAIN_DISPATCHER)
    def echo_reply(self, event: Any) -> None:
        self._hand_on(self.nva.echoed, event)

    @handler.set_ev_cls(ofp_event.EventOFPPacketIn, handler.MAIN_DISPATCHER)
    def packet_in(self, event: Any) -> None:
        self._hand_on(self.nva.packet_came, event)

    @handler.set_ev_cls(ofp_event.EventOFPFlowRemoved, handler.MAIN_DISPATCHER)
    def flow_removed(self, event: Any) -> None:
        self._hand_on(self.nva.rule_ended, event)

    @handler.set_ev_cls(ofp_event.EventOFPErrorMsg, handler.MAIN_DISPATCHER)
    def error(self, event: Any) -> None:
        self._hand_on(self.nva.refused, event)
