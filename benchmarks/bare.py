"""The least that an application of the same framework does: flow-mods, barriers, nothing else.

    python -m benchmarks.bare ADDRESS PORT

`benchmarks.nva` compares the NVA with it.  It knows no mapping, no moves and no other state: an
update is one flow-mod and one barrier for every switch, a packet-in is answered by a flow-mod and a
packet-out.  It obeys lines of JSON on its standard input:

    {"await": 3}                 answers once this many switches are connected
    {"updates": 64}              all at once; answers with CPU and wall time to the last barrier
    {"updates": 64, "each": 1}   one after the other; answers with the wall time of each
"""

from controller.southbound import framework  # first: it may have to patch what is imported later

# isort: split

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, ClassVar, TypeVar, cast

from controller.southbound.framework import handler, ofp_event, ofproto, parser
from nve.pipeline.rules import VXLAN_PORT, PipelineTable

VNI = 4242
"""A virtual network that the NVA does not know."""
PRIORITY = 1
OWN_COOKIE = 4242
TIMEOUT_S = 120.0


Listener = TypeVar("Listener", bound=Callable[..., None])


def on(event: Any, states: Any) -> Callable[[Listener], Listener]:
    """Return the framework's decorator with types."""
    return cast(Callable[[Listener], Listener], handler.set_ev_cls(event, states))


class Bare(framework.Application):  # type: ignore[misc]
    """The application."""

    OFP_VERSIONS: ClassVar = [ofproto.OFP_VERSION]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.datapaths: dict[int, Any] = {}
        self._outstanding = 0
        self._changed = threading.Condition()
        framework.hub.spawn(obey, self)

    def await_switches(self, count: int) -> None:
        self._wait(lambda: len(self.datapaths) == count, f"{count} switches")

    def update(self, numbers: Iterable[int], generation: int) -> None:
        """Send updates, and return when all switches have confirmed all of them."""
        datapaths = list(self.datapaths.values())
        for number in numbers:
            for datapath in datapaths:
                self._tell(datapath, number, generation)
        self._wait(lambda: not self._outstanding, "the last barrier")

    def _tell(self, datapath: Any, number: int, generation: int) -> None:
        with self._changed:
            self._outstanding += 1
        datapath.send_msg(_entry(datapath, number, generation))
        datapath.send_msg(parser.OFPBarrierRequest(datapath))

    def _wait(self, condition: Any, what: str) -> None:
        with self._changed:
            if not self._changed.wait_for(condition, TIMEOUT_S):
                raise TimeoutError(f"{what} did not come in {TIMEOUT_S:g} s")

    @on(ofp_event.EventOFPStateChange, [handler.MAIN_DISPATCHER, handler.DEAD_DISPATCHER])
    def state_changed(self, event: Any) -> None:
        datapath = event.datapath
        with self._changed:
            if event.state == handler.MAIN_DISPATCHER:
                self.datapaths[datapath.id] = datapath
            elif datapath.id in self.datapaths and self.datapaths[datapath.id] is datapath:
                del self.datapaths[datapath.id]
            self._changed.notify_all()

    @on(ofp_event.EventOFPBarrierReply, handler.MAIN_DISPATCHER)
    def barrier_reply(self, event: Any) -> None:
        with self._changed:
            self._outstanding -= 1
            if not self._outstanding:
                self._changed.notify_all()

    @on(ofp_event.EventOFPPacketIn, handler.MAIN_DISPATCHER)
    def packet_in(self, event: Any) -> None:
        message, datapath = event.msg, event.msg.datapath
        if message.table_id != PipelineTable.FORWARD:
            return  # announcements of VMs are for the NVA
        self._tell(datapath, int.from_bytes(message.data[4:6], "big"), 0)
        datapath.send_msg(
            parser.OFPPacketOut(
                datapath,
                buffer_id=ofproto.OFP_NO_BUFFER,
                in_port=ofproto.OFPP_CONTROLLER,
                actions=_tunnel(0),
                data=message.data,
            )
        )


def _entry(datapath: Any, number: int, generation: int) -> Any:
    """Return a flow-mod like that which the NVA sends for a VM behind another NVE."""
    apply = ofproto.OFPIT_APPLY_ACTIONS
    mac = f"02:00:00:00:{number >> 8 & 0xFF:02x}:{number & 0xFF:02x}"
    return parser.OFPFlowMod(
        datapath,
        cookie=OWN_COOKIE,
        table_id=int(PipelineTable.FORWARD),
        command=ofproto.OFPFC_ADD,
        priority=PRIORITY,
        match=parser.OFPMatch(metadata=VNI, eth_dst=mac),
        instructions=[parser.OFPInstructionActions(apply, _tunnel(generation))],
    )


def _tunnel(generation: int) -> list[Any]:
    return [
        parser.OFPActionSetField(tunnel_id=VNI),
        parser.OFPActionSetField(tun_ipv4_dst=f"10.1.0.{1 + generation % 3}"),
        parser.OFPActionOutput(VXLAN_PORT),
    ]


def obey(bare: Bare) -> None:
    """Carry out what the lines on the standard input ask for."""
    generation = 0
    for line in sys.stdin:
        asked = json.loads(line)
        answer: Any = {}
        if "await" in asked:
            bare.await_switches(asked["await"])
        else:
            generation += 1
            numbers = range(asked["updates"])
            if "each" in asked:
                answer = [_timed(bare, [number], generation)["wall_s"] for number in numbers]
            else:
                answer = _timed(bare, numbers, generation)
        print(json.dumps(answer), flush=True)
    os._exit(0)  # the framework's threads would go on


def _timed(bare: Bare, numbers: Iterable[int], generation: int) -> dict[str, float]:
    wall_s, cpu_s = time.monotonic(), time.process_time()
    bare.update(numbers, generation)
    return {"wall_s": time.monotonic() - wall_s, "cpu_s": time.process_time() - cpu_s}


def main() -> None:
    address, port = sys.argv[1:]
    configuration = framework.settings()
    configuration(args=[], project="vmmlab-bare")
    configuration.set_override("ofp_listen_host", address)
    configuration.set_override("ofp_tcp_listen_port", int(port))
    framework.app_manager.AppManager.run_apps([framework.OPENFLOW_HANDLER, "benchmarks.bare"])


if __name__ == "__main__":
    # The framework imports the application by its name, so this has to be that module.
    from benchmarks import bare

    bare.main()
