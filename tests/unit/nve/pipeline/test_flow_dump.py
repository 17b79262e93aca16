"""What Open vSwitch says of its rows: read, and told apart; and what it should say of a rule."""

from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, IPv6Network

import pytest

from nve.model import Mac, Vtep
from nve.pipeline.flow_dump import Row, differences, read, words
from nve.pipeline.rules import (
    PACKET_PORT,
    Action,
    Aim,
    CheckLarger,
    ChooseInstance,
    DecrementTtl,
    Encapsulate,
    GoTo,
    Meter,
    Output,
    PipelineTable,
    Purpose,
    ReportAction,
    Rule,
    SetMac,
    SetVirtualNetwork,
    Translate,
    Tunnel,
    match,
)
from tests.helpers.tenants import RED

NVE2, NVE3 = IPv4Address("10.1.0.2"), IPv4Address("10.1.0.3")
DUMP = """\
OFPST_FLOW reply (OF1.3) (xid=0x2):
 cookie=0xfd67fe253c2be0a, duration=0.3s, table=0, n_packets=0, n_bytes=0, priority=30,in_port=10 \
actions=write_metadata:0x1388,goto_table:1
 cookie=0x2a, duration=0.3s, table=4, n_packets=7, n_bytes=0, idle_timeout=2, hard_timeout=5, \
send_flow_rem priority=10,metadata=0x1388,dl_dst=02:00:00:00:00:03 \
actions=set_field:0x1388->tun_id,set_field:10.1.0.2->tun_dst,output:1
 cookie=0xfe826c217bcea06c, duration=0.3s, table=0, n_packets=0, n_bytes=0, priority=0 actions=drop
 cookie=0x2b, duration=0.3s, table=7, n_packets=0, n_bytes=0, priority=1 \
actions=move(a[0..3],b[4..7]),output:1
"""


def entry(to: Vtep = NVE2, **changes: object) -> Rule:
    rule = Rule(
        PipelineTable.FORWARD,
        10,
        match(metadata=RED, eth_dst="02:00:00:00:00:03"),
        (Tunnel(RED, to),),
        Purpose.FORWARD,
        hard_s=2,
    )
    return replace(rule, **changes)  # type: ignore[arg-type]


def test_rows_are_read() -> None:
    assert read(DUMP) == [
        Row(0, 0, 0xFE826C217BCEA06C, 0, 0, False, ()),
        Row(0, 30, 0xFD67FE253C2BE0A, 0, 0, False, ("write_metadata:0x1388", "goto_table:1")),
        Row(
            *(4, 10, 0x2A, 2, 5, True),
            ("set_field:0x1388->tun_id", "set_field:10.1.0.2->tun_dst", "output:1"),
        ),
        Row(7, 1, 0x2B, 0, 0, False, ("move(a[0..3],b[4..7])", "output:1")),
    ]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("table=4", "table=3"),
        ("priority=10", "priority=11"),
        ("0x2a", "0x2b"),
        ("idle_timeout=2", "idle_timeout=3"),
        ("hard_timeout=5, ", ""),
        ("send_flow_rem ", ""),
        ("10.1.0.2->", "10.1.0.3->"),
        ("0x1388->tun_id", "0x1770->tun_id"),
        (",output:1", ",IN_PORT"),
        ("actions=drop", "actions=output:1"),
        ("write_metadata:0x1388,", ""),
    ],
)
def test_rows_that_differ_are_read_as_different(before: str, after: str) -> None:
    assert before in DUMP
    assert read(DUMP.replace(before, after)) != read(DUMP)


VM1, UPLINK = Mac("02:00:00:00:00:01"), Mac("06:00:00:00:00:01")
LOCATOR = IPv6Network("fd10:0:2:1234::/64")


@pytest.mark.parametrize(
    ("actions", "expected"),
    [
        ((), ""),
        ((GoTo(PipelineTable.GUARD), SetVirtualNetwork(RED)), "write_metadata:0x1388,goto_table:1"),
        ((GoTo(PipelineTable.FLOOD_LOCAL), Output(12)), "output:12,goto_table:8"),
        ((Tunnel(RED, NVE2),), "set_field:0x1388->tun_id,set_field:10.1.0.2->tun_dst,output:1"),
        (
            (Aim(RED, IPv6Address("fd00::3")), CheckLarger(1400), GoTo(PipelineTable.FIT)),
            "set_field:0x1388->tun_id,set_field:fd00::3->tun_ipv6_dst,"
            "check_pkt_larger(1414)->NXM_NX_REG0[0],goto_table:9",
        ),
        (
            (DecrementTtl(), SetMac("eth_dst", VM1), GoTo(PipelineTable.FORWARD)),
            "dec_ttl,set_field:02:00:00:00:00:01->eth_dst,goto_table:5",
        ),
        (
            (Tunnel(RED, NVE2, hairpin=True, port=PACKET_PORT),),
            "set_field:0x1388->tun_id,set_field:10.1.0.2->tun_dst,IN_PORT",
        ),
        (
            (Translate(RED, NVE2, LOCATOR, UPLINK, VM1),),
            "load:0xfd10000000021234->NXM_NX_IPV6_DST[64..127],"
            "set_field:06:00:00:00:00:01->eth_src,set_field:02:00:00:00:00:01->eth_dst,output:4",
        ),
        (
            (ChooseInstance(2), GoTo(PipelineTable.SPREAD)),
            "multipath(symmetric_l3l4+udp,0,modulo_n,2,0,NXM_NX_REG1[]),goto_table:6",
        ),
        ((Encapsulate(),), "output:1"),
        ((Encapsulate(hairpin=True),), "IN_PORT"),
        ((ReportAction(),), "CONTROLLER:65535"),
        ((ReportAction(128, Meter(41, 100, 20)),), "meter:41,CONTROLLER:128"),
    ],
)
def test_a_rule_in_the_words_of_the_switch(actions: tuple[Action, ...], expected: str) -> None:
    rule = Rule(PipelineTable.FORWARD, 10, (), actions, Purpose.FORWARD)
    assert ",".join(words(rule)) == expected


def test_what_is_held_as_it_should_be_is_no_difference() -> None:
    rows = [Row.of(entry()), Row.of(Rule(PipelineTable.GUARD, 0, (), (), Purpose.SPOOFED))]
    assert differences(rows, reversed(rows)) == []


@pytest.mark.shows("R3.4", "R3.5")
@pytest.mark.parametrize(
    "wrong", [entry(NVE3), entry(actions=()), entry(hard_s=0), entry(reports_end=True)]
)
def test_an_entry_with_the_right_cookie_that_does_something_else_is_seen(wrong: Rule) -> None:
    """An old entry that nobody has replaced still leads to the VM's old place."""
    assert wrong.cookie == entry().cookie
    (sentence,) = differences([Row.of(wrong)], [Row.of(entry())])
    assert sentence == (
        "holds 1 rule in another form than the NVA has asked for: "
        f"{wrong.cookie:016x} does {Row.of(wrong)}, not {Row.of(entry())}"
    )
    assert str(Row.of(wrong)) != str(Row.of(entry()))


def test_what_is_too_much_and_what_is_missing_is_seen() -> None:
    drop = Rule(PipelineTable.GUARD, 0, (), (), Purpose.SPOOFED)
    assert differences([Row.of(entry())], [Row.of(drop)]) == [
        f"holds 1 rule that the NVA has not asked for: {entry().cookie:016x}",
        f"lacks 1 rule that the NVA has asked for: {drop.cookie:016x}",
    ]
    assert differences([Row.of(drop)] * 2, [Row.of(drop)]) == [
        f"holds 1 rule that the NVA has not asked for: {drop.cookie:016x}"
    ]
