"""Rules and effects as OpenFlow 1.3 messages (with Nicira's tunnel fields, as OVS has them).

Nothing here needs a switch: messages are built for `datapath=None` as well, which is how the golden
tests read them.
"""

import struct
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from controller.southbound.framework import ofproto, parser
from nve.model import Vtep
from nve.pipeline.mtu_check import ETHERNET_OCTETS
from nve.pipeline.rules import (
    UNDERLAY_PORT,
    VXLAN_PORT,
    Action,
    Aim,
    CheckLarger,
    ChooseInstance,
    DecrementTtl,
    Encapsulate,
    FieldValue,
    GoTo,
    Meter,
    Output,
    PopVlan,
    ReportAction,
    Rule,
    RuleChange,
    SetMac,
    SetPrefix,
    SetVirtualNetwork,
    Translate,
    Tunnel,
    Way,
    together,
)

ALL_BITS = 2**64 - 1
_NICIRA_BEHIND = ("nw_ttl",)
"""The fields that a switch accepts only after their prerequisites (OpenFlow 1.3.5 section 7.2.3.8);
the frameworks put them first."""
REMEMBERED = 4096
"""The number of rules whose octets are kept."""
WHOLE_FRAME = ofproto.OFPCML_NO_BUFFER
_UPPER_HALF = 64 << 6 | 63
"""The 64 bits from bit 64 on, in the notation of Nicira's actions."""
_NICIRA, _CHECK_LARGER, _REG0 = 0x2320, 49, 0x00010004
"""Open vSwitch's own action check_pkt_larger; neither framework knows it."""

_OF_A_FLOW, _MODULO, _WHOLE_REGISTER = 3, 0, 31
"""Open vSwitch's `symmetric_l3l4+udp` and `modulo_n`, and a register from bit 0 on, 32 bits."""


def told(changes: Iterable[RuleChange]) -> bytes:
    """Return the flow-mods of changes as one byte string, so that they leave together.

    Encoding is slow and many NVEs get the same entry: the octets of recent rules are reused.
    """
    return b"".join(
        flow_mod
        for change in together(changes)
        for flow_mod in (*map(_added, change.added), *map(_removed, change.removed))
    )


def add(datapath: Any, rule: Rule) -> Any:
    """Return the flow-mod that adds a rule, or replaces the one with the same key."""
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
    """Return the flow-mod that removes exactly this rule."""
    return parser.OFPFlowMod(
        datapath,
        table_id=int(rule.table),
        command=ofproto.OFPFC_DELETE_STRICT,
        priority=rule.priority,
        out_port=ofproto.OFPP_ANY,
        out_group=ofproto.OFPG_ANY,
        match=_match(rule),
    )


class Switch:
    """Stands in for the datapath when a message is encoded."""

    ofproto, ofproto_parser = ofproto, parser


@lru_cache(REMEMBERED)
def _added(rule: Rule) -> bytes:
    return octets(add(Switch, rule))


@lru_cache(REMEMBERED)
def _removed(rule: Rule) -> bytes:
    return octets(remove(Switch, rule))


def octets(message: Any) -> bytes:
    """Return the octets of a message; one without a number (xid) gets 0, as it needs no answer."""
    message.serialize()
    return bytes(message.buf)


def remove_found(datapath: Any, found: Any) -> Any:
    """Return the flow-mod that removes a flow which a switch reported in its flow statistics.

    It has no effect if a rule with another cookie has replaced the flow.
    """
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


def set_meter(datapath: Any, meter: Meter) -> list[Any]:
    """Return the messages that add a meter to a switch, or set it if the switch has it already."""
    return [
        parser.OFPMeterMod(
            datapath,
            command=command,
            flags=ofproto.OFPMF_PKTPS | ofproto.OFPMF_BURST | ofproto.OFPMF_STATS,
            meter_id=meter.number,
            bands=[parser.OFPMeterBandDrop(meter.rate_pps, meter.burst)],
        )
        for command in (ofproto.OFPMC_ADD, ofproto.OFPMC_MODIFY)
    ]


METER_THERE_ALREADY = (ofproto.OFPET_METER_MOD_FAILED, ofproto.OFPMMFC_METER_EXISTS)
"""Type and code of the error that answers the first half of `set_meter` in the second case."""


def remove_meter(datapath: Any, number: int) -> Any:
    """Return the meter-mod that removes a meter; the switch removes rules that use it as well."""
    return parser.OFPMeterMod(datapath, command=ofproto.OFPMC_DELETE, meter_id=number)


def ask_meters(datapath: Any) -> Any:
    """Return the request for every meter and its counters."""
    return parser.OFPMeterStatsRequest(datapath, 0, ofproto.OFPM_ALL)


def dropped(found: Any) -> int:
    """Return how many packets a meter has dropped, from what its switch reported."""
    return sum(band.packet_band_count for band in found.band_stats)


def counted(statistic: int) -> int:
    """Return a counter of packets or octets, corrected.

    With the kernel's datapath, Open vSwitch may report a counter that has fallen below zero,
    because a rule was replaced while packets were counted, as a number near 2**64.  That is taken
    for 0.
    """
    return 0 if statistic >= 2**63 else statistic


def emit(datapath: Any, way: Way, frame: bytes) -> Any:
    """Return the packet-out that sends a frame of the NVA's own to a port or through a tunnel."""
    return _packet_out(datapath, ofproto.OFPP_CONTROLLER, _actions(way), frame)


def ask_statistics(datapath: Any) -> Any:
    """Return the request for every flow and its counters."""
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


def _packet_out(datapath: Any, in_port: int, actions: list[Any], frame: bytes) -> Any:
    return parser.OFPPacketOut(
        datapath,
        buffer_id=ofproto.OFP_NO_BUFFER,
        in_port=in_port,
        actions=actions,
        data=frame,
    )


def _match(rule: Rule) -> Any:
    fields = {name: _value(value) for name, value in rule.match}
    last = [(name, fields.pop(name)) for name in _NICIRA_BEHIND if name in fields]
    found = parser.OFPMatch(**fields)
    return parser.OFPMatch(_ordered_fields=[*found.items(), *last]) if last else found


def _value(value: FieldValue) -> Any:
    if isinstance(value, str) and "/" in value:
        parts = value.split("/")
        return tuple(int(part, 16) if part.startswith("0x") else part for part in parts)
    return value


def _instructions(rule: Rule) -> list[Any]:
    actions: list[Any] = []
    instructions: list[Any] = [parser.OFPInstructionMeter(meter.number) for meter in rule.meters]
    for action in rule.actions:
        match action:
            case GoTo(table):
                instructions.append(parser.OFPInstructionGotoTable(int(table)))
            case SetVirtualNetwork(vni):
                instructions.append(parser.OFPInstructionWriteMetadata(vni, ALL_BITS))
            case _:
                actions += _actions(action)
    if actions:
        apply = ofproto.OFPIT_APPLY_ACTIONS
        instructions.append(parser.OFPInstructionActions(apply, actions))
    return sorted(instructions, key=lambda instruction: _ORDER.index(instruction.type))


_ORDER = (
    *(ofproto.OFPIT_METER, ofproto.OFPIT_APPLY_ACTIONS),
    *(ofproto.OFPIT_WRITE_METADATA, ofproto.OFPIT_GOTO_TABLE),
)
"""The order in which a switch carries instructions out (OpenFlow 1.3.5 section 5.9)."""


@lru_cache(REMEMBERED)
def _actions(action: Action) -> list[Any]:
    match action:
        case PopVlan():
            return [parser.OFPActionPopVlan()]
        case SetMac(field, to):
            return [parser.OFPActionSetField(**{field: to})]
        case SetPrefix(prefix):
            upper = int(prefix.network_address) >> 64
            return [parser.NXActionRegLoad(ofs_nbits=_UPPER_HALF, dst="ipv6_dst_nxm", value=upper)]
        case Translate(locator=locator, source=source, next_hop=next_hop, hairpin=hairpin):
            macs = SetMac("eth_src", source), SetMac("eth_dst", next_hop)
            written = [each for one in (SetPrefix(locator), *macs) for each in _actions(one)]
            out = ofproto.OFPP_IN_PORT if hairpin else UNDERLAY_PORT
            return [*written, parser.OFPActionOutput(out)]
        case DecrementTtl():
            return [parser.OFPActionDecNwTtl()]
        case Output(port):
            return [parser.OFPActionOutput(port)]
        case ReportAction(octets):
            longest = WHOLE_FRAME if octets is None else octets
            return [parser.OFPActionOutput(ofproto.OFPP_CONTROLLER, longest)]
        case Aim(vni, to):
            return [
                parser.OFPActionSetField(tunnel_id=vni),
                parser.OFPActionSetField(**{_tunnel_destination(to): str(to)}),
            ]
        case CheckLarger(mtu):
            larger = struct.pack("!HHHI6x", _CHECK_LARGER, mtu + ETHERNET_OCTETS, 0, _REG0)
            return [parser.OFPActionExperimenterUnknown(_NICIRA, larger)]
        case ChooseInstance(instances):
            return [
                parser.NXActionMultipath(
                    fields=_OF_A_FLOW,
                    basis=0,
                    algorithm=_MODULO,
                    max_link=instances - 1,
                    arg=0,
                    ofs_nbits=_WHOLE_REGISTER,
                    dst="reg1",
                )
            ]
        case Encapsulate(hairpin):
            # A switch never sends a frame back to its port unless the action names IN_PORT.
            return [parser.OFPActionOutput(ofproto.OFPP_IN_PORT if hairpin else VXLAN_PORT)]
        case Tunnel(vni, to, hairpin, port):
            out = parser.OFPActionOutput(ofproto.OFPP_IN_PORT if hairpin else port)
            return [*_actions(Aim(vni, to)), out]
    raise TypeError(f"{action} cannot be in a list of actions")


def _tunnel_destination(to: Vtep) -> str:
    return "tun_ipv4_dst" if to.version == 4 else "tun_ipv6_dst"
