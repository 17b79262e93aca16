"""The Ryu application: it hands every OpenFlow event on to `controller.nva`."""

from typing import Any, ClassVar

from controller.framework import Application, handler, hub, ofp_event, ofproto
from controller.nva import Nva

TICK_S = 0.5


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
            self.nva.tick()

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

    @handler.set_ev_cls(ofp_event.EventOFPMeterStatsReply, handler.MAIN_DISPATCHER)
    def meter_statistics(self, event: Any) -> None:
        self.nva.statistics_came(event.msg)

    @handler.set_ev_cls(ofp_event.EventOFPEchoReply, handler.MAIN_DISPATCHER)
    def echo_reply(self, event: Any) -> None:
        self.nva.echoed(event.msg)

    @handler.set_ev_cls(ofp_event.EventOFPPacketIn, handler.MAIN_DISPATCHER)
    def packet_in(self, event: Any) -> None:
        self.nva.packet_came(event.msg)

    @handler.set_ev_cls(ofp_event.EventOFPFlowRemoved, handler.MAIN_DISPATCHER)
    def flow_removed(self, event: Any) -> None:
        self.nva.rule_ended(event.msg)

    @handler.set_ev_cls(ofp_event.EventOFPErrorMsg, handler.MAIN_DISPATCHER)
    def error(self, event: Any) -> None:
        self.nva.refused(event.msg)
