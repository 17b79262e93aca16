"""Computes where a frame would go from the rules alone, without a switch.

`evaluate` walks one NVE's pipeline; `deliveries` follows a frame across NVEs until it has reached
VMs or was dropped.  Tests state the protocol's promises with it (delivered once, at one place,
never to another virtual network), and the same cases run against Open vSwitch in the system tests,
so that the evaluator itself is checked.

A frame is a mapping from OpenFlow field names to values; a rule that asks for an absent field does
not match.  `length` is the length of its packet; without it, the packet fits every tunnel.  Not
modelled: time-outs (a rule is there or not), counters and meters.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import IPv6Address
from typing import TypeAlias
from zlib import crc32

from nve import ila
from nve.model import Vni, Vtep
from nve.pipeline.rules import (
    PACKET_PORT,
    UNDERLAY_PORT,
    VXLAN_PORT,
    Aim,
    CheckLarger,
    ChooseInstance,
    DecrementTtl,
    Encapsulate,
    FieldValue,
    GoTo,
    Match,
    Output,
    PipelineTable,
    PopVlan,
    ReportAction,
    Rule,
    SetMac,
    SetPrefix,
    SetVirtualNetwork,
    Translate,
    Tunnel,
    tunnel_source,
)

Frame = Mapping[str, FieldValue]
NOTED = frozenset({"metadata", "reg0", "reg1"})
"""Fields in which tables note something for later tables; a frame that enters the NVE has none."""
NO_MAC = "00:00:00:00:00:00"
"""What a switch reads as the MAC addresses of a packet without an Ethernet header."""
MAX_TUNNELS = 8
"""More hops than any chain of moves can need; a frame that takes more is in a loop."""


class ForwardingLoop(Exception):
    """A frame went through more tunnels than `MAX_TUNNELS`."""


@dataclass(frozen=True)
class PacketVerdict:
    """What one NVE does with a frame, which leaves as `frame`; `last` is the rule that decided."""

    ports: tuple[int, ...]
    tunnels: tuple[tuple[Vni, Vtep], ...]
    reported: bool
    last: Rule | None
    frame: Frame = field(compare=False)
    tunnel_port: int = VXLAN_PORT
    """The port by which it goes into its tunnels."""

    @property
    def dropped(self) -> bool:
        return not (self.ports or self.tunnels or self.reported)


Ranked: TypeAlias = Mapping[PipelineTable, Sequence[Rule]]
"""Rules as a switch looks them up: by table, the highest priority first."""


def ranked(rules: Iterable[Rule]) -> Ranked:
    by_table: dict[PipelineTable, list[Rule]] = {}
    for rule in sorted(rules, key=lambda rule: -rule.priority):
        by_table.setdefault(rule.table, []).append(rule)
    return by_table


def evaluate(rules: Iterable[Rule], frame: Frame) -> PacketVerdict:
    """Return what an NVE with these rules does with a frame; `frame["in_port"]` is its input port.

    Raises ValueError when two rules of the same table and priority both match and differ: a switch
    may then choose either, so the rules are wrong.
    """
    return evaluate_ranked(ranked(rules), frame)


def evaluate_ranked(by_table: Ranked, frame: Frame) -> PacketVerdict:
    """Do the same with rules that were ranked before, for callers with many frames."""
    fields = dict(frame)
    in_port = fields["in_port"]
    table: PipelineTable | None = PipelineTable.CLASSIFY
    last: Rule | None = None
    ports: list[int] = []
    tunnels: list[tuple[Vni, Vtep]] = []
    reported = False
    aimed: tuple[Vni, Vtep] | None = None
    tunnel_port = VXLAN_PORT
    while table is not None:
        last = _best(by_table.get(table, ()), fields)
        table = None
        for action in last.actions if last else ():
            match action:
                case GoTo(next_table):
                    table = next_table
                case SetVirtualNetwork(vni):
                    fields["metadata"] = vni
                case PopVlan():
                    del fields["vlan_vid"]
                case SetMac(name, to_mac):
                    fields[name] = to_mac
                case DecrementTtl() if "nw_ttl" in fields:
                    fields["nw_ttl"] = int(fields["nw_ttl"]) - 1
                case Output(port) if port != in_port:
                    ports.append(port)
                case Tunnel(vni, to, hairpin, port) if hairpin or in_port != port:
                    tunnels.append((vni, to))
                    tunnel_port = port
                case Aim(vni, to):
                    aimed = (vni, to)
                    fields["tun_ipv4_dst" if to.version == 4 else "tun_ipv6_dst"] = str(to)
                case SetPrefix(prefix):
                    fields["ipv6_dst"] = str(ila.translated(_ipv6(fields), prefix))
                case Translate(vni, to, locator, source, next_hop, hairpin) if (
                    hairpin or in_port != UNDERLAY_PORT
                ):
                    fields["ipv6_dst"] = str(ila.translated(_ipv6(fields), locator))
                    fields |= {"eth_src": source, "eth_dst": next_hop}
                    tunnels.append((vni, to))
                    tunnel_port = UNDERLAY_PORT
                case CheckLarger(mtu):
                    fields["reg0"] = int(int(fields.get("length", 0)) > mtu)
                case ChooseInstance(instances):
                    fields["reg1"] = _flow(fields) % instances
                case Encapsulate(hairpin) if aimed and (hairpin or in_port != VXLAN_PORT):
                    tunnels.append(aimed)
                case ReportAction():
                    reported = True
    leaving = {name: value for name, value in fields.items() if name not in NOTED}
    return PacketVerdict(tuple(ports), tuple(tunnels), reported, last, leaving, tunnel_port)


def deliveries(
    nves: Mapping[str, tuple[Vtep, Iterable[Rule]]], frame: Frame, at: str
) -> tuple[tuple[str, int], ...]:
    """Return the (NVE, port) pairs that a frame entering at NVE `at` is delivered to, in walking
    order.

    Raises ForwardingLoop when the frame goes through more than `MAX_TUNNELS` tunnels.
    """
    by_vtep = {vtep: name for name, (vtep, _) in nves.items()}
    found: list[tuple[str, int]] = []
    to_walk: list[tuple[str, Frame, int]] = [(at, frame, 0)]
    while to_walk:
        name, walking, hops = to_walk.pop(0)
        if hops > MAX_TUNNELS:
            raise ForwardingLoop(f"a frame that entered at {at} is still tunnelled on at {name}")
        vtep, rules = nves[name]
        verdict = evaluate(rules, walking)
        found += [(name, port) for port in verdict.ports]
        for vni, to in verdict.tunnels:
            if to in by_vtep:
                to_walk.append((by_vtep[to], out_of_tunnel(verdict, vni, vtep), hops + 1))
    return tuple(found)


def out_of_tunnel(verdict: PacketVerdict, vni: Vni, source: Vtep) -> Frame:
    """Return the frame as it comes out of the tunnel that an NVE has sent it into."""
    tunnel: dict[str, FieldValue] = {"in_port": verdict.tunnel_port}
    if verdict.tunnel_port != UNDERLAY_PORT:
        tunnel |= {"tunnel_id": vni, **tunnel_source(source)}
    inner = {name: value for name, value in verdict.frame.items() if not name.startswith("tun")}
    if verdict.tunnel_port == PACKET_PORT:
        tunnel |= {"eth_src": NO_MAC, "eth_dst": NO_MAC}
    return {**inner, **tunnel}


def _best(rules: Sequence[Rule], fields: Frame) -> Rule | None:
    best: Rule | None = None
    for rule in rules:
        if best is not None and rule.priority < best.priority:
            break
        if not matches(rule.match, fields):
            continue
        if best is not None and rule.actions != best.actions:
            raise ValueError(f"rules of one priority disagree about {dict(fields)}: {[best, rule]}")
        best = best or rule
    return best


def matches(match: Match, fields: Frame) -> bool:
    """Return whether a frame has every field that a match asks for."""
    for name, wanted in match:  # a plain loop: tests ask this ten million times
        found = fields.get(name)
        if found != wanted and (found is None or not _covers(wanted, found)):
            return False
    return True


@lru_cache(maxsize=1 << 16)
def _covers(wanted: FieldValue, found: FieldValue) -> bool:
    """Return whether a masked value covers another value."""
    if not isinstance(wanted, str) or "/" not in wanted:
        return False
    value, mask = (_number(part) for part in wanted.split("/"))
    return _number(found) & mask == value & mask


_OF_A_FLOW = (
    *("ipv4_src", "ipv4_dst", "ipv6_src", "ipv6_dst", "ip_proto"),
    *("tcp_src", "tcp_dst", "udp_src", "udp_dst"),
)


def _flow(fields: Frame) -> int:
    """A number of the frame's flow; a switch has another one."""
    return crc32(repr(sorted(str(fields.get(name)) for name in _OF_A_FLOW)).encode())


def _ipv6(fields: Frame) -> IPv6Address:
    return IPv6Address(fields["ipv6_dst"])


def _number(value: FieldValue) -> int:
    """Return the number that a MAC address, an IPv6 address, an integer or an 0x literal stands
    for.
    """
    if isinstance(value, str) and ("::" in value or value.count(":") not in (0, 5)):
        return int(IPv6Address(value))
    return value if isinstance(value, int) else int(value.replace(":", ""), 16)
