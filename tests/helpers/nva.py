"""The NVA's application without a network: real decisions, real messages, wires instead of NVEs."""

from pathlib import Path
from typing import Any

from controller.nva import Nva
from controller.settings import Settings
from controller.southbound.framework import parser
from tests.helpers.tenants import vteps
from tests.helpers.wire import Wire

TOKEN = "0123456789abcdef"


def settings(directory: Path, **changes: Any) -> Settings:
    """Return settings for nve1 … nve3 with datapath ids 1 … 3."""
    nves = {
        name: {"dpid": dpid, "vtep": str(address)}
        for dpid, (name, address) in enumerate(vteps().items(), start=1)
    }
    content = {
        "address": "198.18.0.1",
        "northbound": directory / "nva.sock",
        "token": TOKEN,
        "trace": directory / "trace.jsonl",
        "state": directory / "state",
        "nves": nves,
        "mapping_update": "push",
    }
    return Settings.model_validate({**content, **changes})


def connected(nva: Nva) -> dict[str, Wire]:
    """Connect all NVEs and let them confirm; return their wires."""
    wires = {name: Wire(dpid) for dpid, name in nva.names.items()}
    for wire in wires.values():
        nva.connected(wire)
        answer_statistics(nva, wire, [])
    confirm(nva, *wires.values())
    return wires


def answer_statistics(nva: Nva, wire: Wire, flows: list[Any], *, more: bool = False) -> None:
    """Let an NVE answer the last request for its flows."""
    asked = [each for each in wire.sent if isinstance(each, parser.OFPFlowStatsRequest)][-1]
    reply = parser.OFPFlowStatsReply(wire, body=flows, flags=int(more))
    reply.set_xid(asked.xid)
    nva.statistics_came(reply)


def confirm(nva: Nva, *wires: Wire) -> None:
    """Let NVEs answer every barrier so far."""
    for wire in wires:
        for each in [m for m in wire.sent if isinstance(m, parser.OFPBarrierRequest)]:
            wire.sent.remove(each)
            reply = parser.OFPBarrierReply(wire)
            reply.set_xid(each.xid)
            nva.barrier_passed(reply)
            nva.act()
