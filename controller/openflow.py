"""Rules and effects as OpenFlow 1.3 messages (with Nicira's tunnel fields, as OVS has them).

Nothing here needs a switch: messages are built for `datapath=None` as well, which is how the golden
tests read them.
"""

from typing import Any

from controller.framework import ofproto, parser
from nve.model import Vtep
from nve.rules import (
    VXLAN_PORT,
    FieldValue,
    GoTo,
    Output,
    Report,
    Rule,
    SetVirtualNetwork,
    Tunnel,
)

ALL_BITS = 2**64 - 1
WHOLE_FRAME = ofproto.OFPCML_NO_BUFFER


def add(datapath: Any, rule: Rule) -> Any:
    """The flow-mod that adds a rule, or replaces the one with the same key."""
    return parser.OFPFlowMod(
        datapath,
        cookie=rule.cookie,
        table_id=int(rule.table),
        command=ofproto.OFPFC_ADD,
        priority=rule.priority,
        idle_timeout=rule.idle_s,
        hard_timeout=rule.hard_s,
        flags=ofproto.OFPFF_SEND_FLOW_REM if rule.reports_end else 0,
        match=_match(rule),
        instructions=_instructions(rule),
    )


def remove(datapath: Any, rule: Rule) -> Any:
    """The flow-mod that removes exactly this rule."""
    return parser.OFPFlowMod(
        datapath,
        table_id=int(rule.table),
        command=ofproto.OFPFC_DELETE_STRICT,
        priority=rule.priority,
        out_port=ofproto.OFPP_ANY,
        out_group=ofproto.OFPG_ANY,
        match=_match(rule),
    )


def remove_found(datapath: Any, found: Any) -> Any:
    """The flow-mod that removes a flow that a switch reported in its flow statistics, unless a
    rule with another cookie has taken its place since."""
    return parser.OFPFlowMod(
        datapath,
        cookie=found.cookie,
        cookie_mask=ALL_BITS,
        table_id=found.table_id,
        command=ofproto.OFPFC_DELETE_STRICT,
        priority=found.priority,
        out_port=ofproto.OFPP_ANY,
        out_group=ofproto.OFPG_ANY,
        match=found.match,
    )


def emit(datapath: Any, port: int, frame: bytes) -> Any:
    """The packet-out that hands a frame to the VM behind a port."""
    return _packet_out(datapath, ofproto.OFPP_CONTROLLER, parser.OFPActionOutput(port), frame)


def resend(datapath: Any, port: int, frame: bytes) -> Any:
    """The packet-out that sends a frame through the pipeline as if it came from `port` again."""
    return _packet_out(datapath, port, parser.OFPActionOutput(ofproto.OFPP_TABLE), frame)


def ask_statistics(datapath: Any) -> Any:
    """The request for every flow and its counters."""
    return parser.OFPFlowStatsRequest(
        datapath,
        0,
        ofproto.OFPTT_ALL,
        ofproto.OFPP_ANY,
        ofproto.OFPG_ANY,
        0,
        0,
        parser.OFPMatch(),
    )


def _packet_out(datapath: Any, in_port: int, action: Any, frame: bytes) -> Any:
    return parser.OFPPacketOut(
        datapath,
        buffer_id=ofproto.OFP_NO_BUFFER,
        in_port=in_port,
        actions=[action],
        data=frame,
    )


def _match(rule: Rule) -> Any:
    return parser.OFPMatch(**{name: _value(value) for name, value in rule.match})


def _value(value: FieldValue) -> Any:
    if isinstance(value, str) and "/" in value:
        return tuple(value.split("/"))
    return value


def _instructions(rule: Rule) -> list[Any]:
    actions: list[Any] = []
    instructions: list[Any] = []
    for action in rule.actions:
        match action:
            case GoTo(table):
                instructions.append(parser.OFPInstructionGotoTable(int(table)))
            case SetVirtualNetwork(vni):
                instructions.append(parser.OFPInstructionWriteMetadata(vni, ALL_BITS))
            case Output(port):
                actions.append(parser.OFPActionOutput(port))
            case Report():
                actions.append(parser.OFPActionOutput(ofproto.OFPP_CONTROLLER, WHOLE_FRAME))
            case Tunnel(vni, to, hairpin):
                actions += [
                    parser.OFPActionSetField(tunnel_id=vni),
                    parser.OFPActionSetField(**{_tunnel_destination(to): str(to)}),
                    # A switch never sends a frame back to its port unless it is told in so many
                    # words.
                    parser.OFPActionOutput(ofproto.OFPP_IN_PORT if hairpin else VXLAN_PORT),
                ]
    if actions:
        apply = ofproto.OFPIT_APPLY_ACTIONS
        instructions.insert(0, parser.OFPInstructionActions(apply, actions))
    return instructions


def _tunnel_destination(to: Vtep) -> str:
    return "tun_ipv4_dst" if to.version == 4 else "tun_ipv6_dst"
