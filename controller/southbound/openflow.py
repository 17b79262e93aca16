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
"""Fields that a switch takes only behind the one that says they are there (OpenFlow 1.3.5 section
7.2.3.8); the frameworks put them first."""
REMEMBERED = 4096
"""Rules of which the octets are kept."""
WHOLE_FRAME = ofproto.OFPCML_NO_BUFFER
_UPPER_HALF = 64 << 6 | 63
"""From bit 64 on, 64 bits, as Nicira's actions write it."""
_NICIRA, _CHECK_LARGER, _REG0 = 0x2320, 49, 0x00010004
"""Open vSwitch's own action check_pkt_larger; neither framework knows it."""


def told(changes: Iterable[RuleChange]) -> bytes:
    """The flow-mods of changes in one piece, so that they leave together.

    An entry is the same at many NVEs, and the framework takes its time: a rule that was put into
    octets lately is not put into them again.
    """
    return b"".join(
        flow_mod
        for change in together(changes)
        for flow_mod in (*map(_added, change.added), *map(_removed, change.removed))
    )


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


class Switch:
    """What a message asks of its datapath on its way into octets."""

    ofproto, ofproto_parser = ofproto, parser


@lru_cache(REMEMBERED)
def _added(rule: Rule) -> bytes:
    return octets(add(Switch, rule))


@lru_cache(REMEMBERED)
def _removed(rule: Rule) -> bytes:
    return octets(remove(Switch, rule))


def octets(message: Any) -> bytes:
    """A message without a number (xid) gets 0: it is not answered."""
    message.serialize()
    return bytes(message.buf)


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


def set_meter(datapath: Any, meter: Meter) -> list[Any]:
    """What gives a switch a meter, or sets the one it has already."""
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
    """The meter-mod that removes a meter; rules that use it would go with it."""
    return parser.OFPMeterMod(datapath, command=ofproto.OFPMC_DELETE, meter_id=number)


def ask_meters(datapath: Any) -> Any:
    """The request for every meter and its counters."""
    return parser.OFPMeterStatsRequest(datapath, 0, ofproto.OFPM_ALL)


def dropped(found: Any) -> int:
    """What a meter that a switch reported has dropped."""
    return sum(band.packet_band_count for band in found.band_stats)


def counted(statistic: int) -> int:
    """A counter of packets or octets.  With the kernel's datapath, Open vSwitch may report one that
    has fallen below zero, when a rule has been replaced while packets were counted: as a number
    near 2**64.  That stands for none."""
    return 0 if statistic >= 2**63 else statistic


def emit(datapath: Any, way: Way, frame: bytes) -> Any:
    """The packet-out that sends a frame of the NVA's own: to a port, or through a tunnel."""
    return _packet_out(datapath, ofproto.OFPP_CONTROLLER, _actions(way), frame)


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
"""In which a switch carries instructions out (OpenFlow 1.3.5 section 5.9)."""


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
        case Encapsulate(hairpin):
            # A switch never sends a frame back to its port unless it is told in so many words.
            return [parser.OFPActionOutput(ofproto.OFPP_IN_PORT if hairpin else VXLAN_PORT)]
        case Tunnel(vni, to, hairpin, port):
            out = parser.OFPActionOutput(ofproto.OFPP_IN_PORT if hairpin else port)
            return [*_actions(Aim(vni, to)), out]
    raise TypeError(f"{action} cannot be in a list of actions")


def _tunnel_destination(to: Vtep) -> str:
    return "tun_ipv4_dst" if to.version == 4 else "tun_ipv6_dst"
