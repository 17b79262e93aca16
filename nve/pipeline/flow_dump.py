"""The rows of a switch: as `ovs-ofctl dump-flows` prints them, and as they should be for a rule.

The expected words are derived from the rule itself, not from the messages that
`controller.southbound.openflow` builds, so that a comparison also shows errors made on the way. A
row's match is not parsed; the rule's cookie identifies it, as far as the NVA has written that.
"""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

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
    GoTo,
    Output,
    PopVlan,
    ReportAction,
    Rule,
    SetMac,
    SetPrefix,
    SetVirtualNetwork,
    Translate,
    Tunnel,
)

_WHOLE_FRAME = 65535


@dataclass(frozen=True, order=True)
class Row:
    """One row; time-outs are in seconds, and 0 means none.  A row without actions drops."""

    table: int
    priority: int
    cookie: int
    idle_s: int
    hard_s: int
    reports_end: bool
    actions: tuple[str, ...]

    @classmethod
    def of(cls, rule: Rule) -> "Row":
        """Return the row that a rule becomes in a switch."""
        return cls(
            int(rule.table),
            rule.priority,
            rule.cookie,
            rule.idle_s,
            rule.hard_s,
            rule.reports_end,
            words(rule),
        )

    def __str__(self) -> str:
        ends = [f"{what} {s} s" for what, s in (("idle", self.idle_s), ("hard", self.hard_s)) if s]
        ends += ["reports its end"] if self.reports_end else []
        place = ", ".join([f"table {self.table}, priority {self.priority}", *ends])
        return f"{','.join(self.actions) or 'drop'} ({place})"


def words(rule: Rule) -> tuple[str, ...]:
    """Return a rule's actions as Open vSwitch writes them, in the order in which it carries them
    out.
    """
    meters = [f"meter:{meter.number}" for meter in rule.meters]
    return (*meters, *sorted((word for each in rule.actions for word in _words(each)), key=_late))


def _late(word: str) -> int:
    """Return a number above 0 for what is carried out after all actions (OpenFlow 1.3.5 section
    5.9).
    """
    return _LATE.get(word.partition(":")[0], 0)


_LATE = {"write_metadata": 1, "goto_table": 2}


def _words(action: Action) -> list[str]:
    match action:
        case GoTo(table):
            return [f"goto_table:{int(table)}"]
        case SetVirtualNetwork(vni):
            return [f"write_metadata:{vni:#x}"]
        case PopVlan():
            return ["pop_vlan"]
        case SetMac(field, to):
            return [f"set_field:{to}->{field}"]
        case SetPrefix(prefix):
            return [f"load:{int(prefix.network_address) >> 64:#x}->NXM_NX_IPV6_DST[64..127]"]
        case Translate(locator=locator, source=source, next_hop=next_hop, hairpin=hairpin):
            macs = SetMac("eth_src", source), SetMac("eth_dst", next_hop)
            written = [word for each in (SetPrefix(locator), *macs) for word in _words(each)]
            return [*written, "IN_PORT" if hairpin else f"output:{UNDERLAY_PORT}"]
        case DecrementTtl():
            return ["dec_ttl"]
        case Output(port):
            return [f"output:{port}"]
        case ReportAction(octets):
            return [f"CONTROLLER:{_WHOLE_FRAME if octets is None else octets}"]
        case Aim(vni, to):
            destination = "tun_dst" if to.version == 4 else "tun_ipv6_dst"
            return [f"set_field:{vni:#x}->tun_id", f"set_field:{to}->{destination}"]
        case CheckLarger(mtu):
            return [f"check_pkt_larger({mtu + ETHERNET_OCTETS})->NXM_NX_REG0[0]"]
        case ChooseInstance(instances):
            return [f"multipath(symmetric_l3l4+udp,0,modulo_n,{instances},0,NXM_NX_REG1[])"]
        case Encapsulate(hairpin):
            return ["IN_PORT" if hairpin else f"output:{VXLAN_PORT}"]
        case Tunnel(vni, to, hairpin, port):
            return [*_words(Aim(vni, to)), "IN_PORT" if hairpin else f"output:{port}"]


def read(text: str) -> list[Row]:
    """Return the rows that `ovs-ofctl --no-names dump-flows` has printed, in order."""
    return sorted(_row(line) for line in text.splitlines() if "cookie=" in line)


def _row(line: str) -> Row:
    told, _, actions = line.partition(" actions=")
    found = re.split(r",(?![^(]*\))", actions.strip())
    return Row(
        _number(told, "table"),
        _number(told, "priority"),
        int(re.findall(r"cookie=0x([0-9a-f]+)", told)[0], 16),
        _number(told, "idle_timeout"),
        _number(told, "hard_timeout"),
        "send_flow_rem" in told,
        () if found == ["drop"] else tuple(found),
    )


def _number(text: str, name: str) -> int:
    found = re.findall(rf"\b{name}=(\d+)", text)
    return int(found[0]) if found else 0


def differences(found: Iterable[Row], wanted: Iterable[Row]) -> list[str]:
    """Return a sentence, without its subject, for each kind of difference: rows that the NVA has
    not asked for, that are missing, or that differ from what it has asked for.
    """
    in_switch, expected = Counter(found), Counter(wanted)
    extra = sorted((in_switch - expected).elements())
    missing = sorted((expected - in_switch).elements())
    instead = {row.cookie: row for row in extra}
    changed = {row.cookie: row for row in missing if row.cookie in instead}
    sentences = {
        "holds {} that the NVA has not asked for": [
            f"{row.cookie:016x}" for row in extra if row.cookie not in changed
        ],
        "lacks {} that the NVA has asked for": [
            f"{row.cookie:016x}" for row in missing if row.cookie not in changed
        ],
        "holds {} in another form than the NVA has asked for": [
            f"{cookie:016x} does {instead[cookie]}, not {row}" for cookie, row in changed.items()
        ],
    }
    return [
        f"{says.format(_rules(rows))}: {', '.join(rows)}"
        for says, rows in sentences.items()
        if rows
    ]


def _rules(rows: list[str]) -> str:
    return f"{len(rows)} rule{'' if len(rows) == 1 else 's'}"
