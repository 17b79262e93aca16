"""Rules and effects as OpenFlow messages: golden, and read back from the bytes on the wire."""

from ipaddress import IPv4Address, IPv6Address, IPv6Network
from typing import Any

import pytest

from controller.southbound import openflow
from controller.southbound.framework import ofproto, parser
from nve.model import FIRST_COPY_VNI as COPY
from nve.model import Mac, Vni, Vtep
from nve.pipeline.compiler import compile_nve
from nve.pipeline.rules import (
    UNDERLAY_PORT,
    VXLAN_PORT,
    Aim,
    CheckLarger,
    ChooseInstance,
    Encapsulate,
    GoTo,
    Output,
    PipelineTable,
    PopVlan,
    Purpose,
    ReportAction,
    Rule,
    RuleChange,
    SetMac,
    SetVirtualNetwork,
    Translate,
    Tunnel,
    match,
)
from nve.pipeline.state import (
    Association,
    AssociationRole,
    GroupCopy,
    NveState,
    Redirect,
    RemoteEntry,
)
from nve.wire.frames import IPV6
from tests.helpers.tenants import BLUE, RED, vm
from tests.helpers.wire import Wire

V4, V6 = IPv4Address("10.1.0.2"), IPv6Address("fd00:0:0:1::2")
TENANT = match(metadata=RED, eth_dst="02:00:00:00:00:01")


CHECK_LARGER = 49
"""NXAST_CHECK_PKT_LARGER, of Open vSwitch."""


def on_the_wire(message: Any) -> Any:
    """The message as the other side reads it."""
    wire = Wire()
    return wire.read(wire.octets(message))


def fields(message: Any) -> dict[str, Any]:
    return dict(message.match.items())


def in_json(message: Any) -> Any:
    (content,) = message.to_jsondict().values()
    return content


@pytest.mark.shows("R4.1.4", "R5.3")
@pytest.mark.parametrize(
    ("to", "destination"),
    [(V4, ("tunnel_ipv4_dst", "10.1.0.2")), (V6, ("tunnel_ipv6_dst", "fd00:0:0:1::2"))],
)
@pytest.mark.parametrize(("hairpin", "port"), [(False, VXLAN_PORT), (True, ofproto.OFPP_IN_PORT)])
def test_a_tunnel_sets_vni_and_destination_and_leaves(
    to: Vtep, destination: tuple[str, str], hairpin: bool, port: int
) -> None:
    """A packet in flight goes back to the port that it came from."""
    rule = Rule(PipelineTable.FORWARD, 10, TENANT, (Tunnel(RED, to, hairpin),), Purpose.FORWARD)

    (instruction,) = in_json(openflow.add(None, rule))["instructions"]
    actions = instruction["OFPInstructionActions"]["actions"]

    set_vni, set_destination, output = actions
    assert _field(set_vni) == ("tunnel_id", RED)
    assert _field(set_destination) in [
        destination,
        (destination[0].replace("tunnel", "tun"), destination[1]),
    ]
    assert output["OFPActionOutput"]["port"] == port


def _field(action: dict[str, Any]) -> tuple[str, Any]:
    tlv = action["OFPActionSetField"]["field"]["OXMTlv"]
    return tlv["field"], tlv["value"]


def test_a_rule_is_added_with_all_that_it_is() -> None:
    rule = Rule(
        PipelineTable.FROM_TUNNEL,
        31,
        TENANT,
        (Output(10),),
        Purpose.IN_FLIGHT,
        idle_s=2,
        hard_s=5,
        reports_end=True,
    )

    read = on_the_wire(openflow.add(None, rule))

    assert read.command == ofproto.OFPFC_ADD
    assert (read.table_id, read.priority) == (PipelineTable.FROM_TUNNEL, 31)
    assert (read.cookie, read.idle_timeout, read.hard_timeout) == (rule.cookie, 2, 5)
    assert read.flags == ofproto.OFPFF_SEND_FLOW_REM
    assert read.buffer_id == ofproto.OFP_NO_BUFFER
    assert fields(read) == {"metadata": RED, "eth_dst": "02:00:00:00:00:01"}


def test_a_rule_that_need_not_say_when_it_goes_does_not() -> None:
    assert openflow.add(None, Rule(PipelineTable.FLOOD, 1, (), (), Purpose.FLOOD)).flags == 0


def test_a_rule_without_actions_is_a_drop() -> None:
    read = on_the_wire(openflow.add(None, Rule(PipelineTable.GUARD, 0, (), (), Purpose.SPOOFED)))

    assert read.instructions == []


def test_a_frame_is_classified_and_sent_on() -> None:
    actions = (SetVirtualNetwork(RED), GoTo(PipelineTable.GUARD))
    rule = Rule(PipelineTable.CLASSIFY, 30, match(in_port=10), actions, Purpose.ADMIT)

    write, goto = on_the_wire(openflow.add(None, rule)).instructions

    assert (write.metadata, write.metadata_mask) == (RED, 2**64 - 1)
    assert goto.table_id == PipelineTable.GUARD


def test_outputs_are_applied_before_the_frame_goes_on() -> None:
    """OpenFlow carries instructions out by kind, not in the order of a list; so are they listed."""
    rule = Rule(
        PipelineTable.FLOOD, 1, (), (GoTo(PipelineTable.FLOOD_LOCAL), Output(10)), Purpose.FLOOD
    )

    apply, goto = on_the_wire(openflow.add(None, rule)).instructions

    assert [action.port for action in apply.actions] == [10]
    assert goto.table_id == PipelineTable.FLOOD_LOCAL


def test_a_report_is_the_whole_frame() -> None:
    rule = Rule(PipelineTable.FORWARD, 1, (), (ReportAction(),), Purpose.MISS)

    (apply,) = on_the_wire(openflow.add(None, rule)).instructions
    (output,) = apply.actions

    assert (output.port, output.max_len) == (ofproto.OFPP_CONTROLLER, ofproto.OFPCML_NO_BUFFER)


def test_a_masked_match_keeps_its_mask() -> None:
    group = match(eth_dst="01:00:00:00:00:00/01:00:00:00:00:00")
    read = on_the_wire(
        openflow.add(None, Rule(PipelineTable.FROM_VM, 10, group, (), Purpose.FLOOD))
    )

    assert fields(read) == {"eth_dst": ("01:00:00:00:00:00", "01:00:00:00:00:00")}


@pytest.mark.shows("R3.5")
def test_a_rule_is_removed_strictly() -> None:
    """This rule and no other."""
    read = on_the_wire(
        openflow.remove(None, Rule(PipelineTable.FORWARD, 10, TENANT, (), Purpose.FORWARD))
    )

    assert read.command == ofproto.OFPFC_DELETE_STRICT
    assert (read.table_id, read.priority) == (PipelineTable.FORWARD, 10)
    assert (read.out_port, read.out_group) == (ofproto.OFPP_ANY, ofproto.OFPG_ANY)
    assert fields(read) == {"metadata": RED, "eth_dst": "02:00:00:00:00:01"}


def test_a_change_is_told_in_one_piece() -> None:
    """The same octets as message by message, also when they have been remembered."""
    new = [Rule(PipelineTable.FORWARD, n, TENANT, (Output(n),), Purpose.DELIVER) for n in (11, 10)]
    old = Rule(PipelineTable.FORWARD, 9, TENANT, (), Purpose.FORWARD)
    messages = [*(openflow.add(None, rule) for rule in new), openflow.remove(None, old)]
    for message in messages:
        message.xid = 0
    expected = b"".join(map(Wire().octets, messages))

    for _ in range(2):
        assert openflow.told([RuleChange(tuple(new), (old,))]) == expected


def test_a_flow_that_was_found_is_removed_only_if_it_is_still_the_same() -> None:
    """A rule with its key may have been told since; that one has another cookie and stays."""
    found = parser.OFPFlowStats(
        table_id=4, priority=10, cookie=99, match=parser.OFPMatch(metadata=RED)
    )

    read = on_the_wire(openflow.remove_found(None, found))

    assert read.command == ofproto.OFPFC_DELETE_STRICT
    assert (read.table_id, read.priority, fields(read)) == (4, 10, {"metadata": RED})
    assert (read.cookie, read.cookie_mask) == (99, 2**64 - 1)


def test_a_frame_is_handed_to_a_port() -> None:
    assert Wire().octets(openflow.emit(None, Output(10), b"frame")).hex() == (
        "040d002d" "00000001" "ffffffff" "fffffffd" "0010" "000000000000"
        "0000" "0010" "0000000a" "ffe5" "000000000000" + b"frame".hex()
    )  # fmt: skip


def test_a_frame_of_the_nvas_own_goes_through_a_tunnel() -> None:
    sent = in_json(openflow.emit(None, Tunnel(RED, V4), b"frame"))

    set_vni, _, output = sent["actions"]
    assert sent["in_port"] == ofproto.OFPP_CONTROLLER
    assert _field(set_vni) == ("tunnel_id", RED)
    assert output["OFPActionOutput"]["port"] == VXLAN_PORT


def test_a_check_for_length_is_open_vswitchs_own_action() -> None:
    """check_pkt_larger(1464)->NXM_NX_REG0[0]: the tunnel's MTU, and an Ethernet header."""
    actions = (Aim(RED, V4), CheckLarger(1450), GoTo(PipelineTable.FIT))
    rule = Rule(PipelineTable.FORWARD, 10, TENANT, actions, Purpose.FORWARD)

    octets = Wire().octets(openflow.add(None, rule))

    check = "ffff001800002320003105b8000000010004000000000000"
    assert check in octets.hex()
    apply, goto = on_the_wire(openflow.add(None, rule)).instructions
    assert len(apply.actions) == 3
    assert goto.table_id == PipelineTable.FIT


def test_a_choice_of_instances_is_niciras_multipath() -> None:
    """multipath(symmetric_l3l4+udp,0,modulo_n,2,0,NXM_NX_REG1[]), as `ovs-ofctl` writes it."""
    actions = (ChooseInstance(2), GoTo(PipelineTable.SPREAD))
    rule = Rule(PipelineTable.FORWARD, 10, TENANT, actions, Purpose.FORWARD)

    octets = Wire().octets(openflow.add(None, rule))

    multipath = "ffff002000002320000a00030000000000000001000000000000001f"
    assert f"{multipath}00010204" in octets.hex()


def test_a_report_may_be_the_beginning_of_a_frame() -> None:
    big = match(in_port=10, reg0=1)
    rule = Rule(PipelineTable.FIT, 40, big, (ReportAction(1246),), Purpose.TOO_BIG)
    read = on_the_wire(openflow.add(None, rule))

    (apply,) = read.instructions
    (output,) = apply.actions
    assert (output.port, output.max_len) == (ofproto.OFPP_CONTROLLER, 1246)
    assert fields(read) == {"in_port": 10, "reg0": 1}


def test_all_flows_are_asked_for() -> None:
    asked = openflow.ask_statistics(None)

    assert (asked.table_id, asked.out_port, asked.cookie_mask) == (
        ofproto.OFPTT_ALL,
        ofproto.OFPP_ANY,
        0,
    )


# -- everything that is ever compiled --------------------------------------------------------------


def everything(family: type[IPv4Address] | type[IPv6Address]) -> list[Rule]:
    """An NVE in the middle of moves, with both tenants, over an underlay of a family."""
    here, peer, third = (
        (V4 + number if family is IPv4Address else V6 + number) for number in range(3)
    )
    vms = [vm("vm1", 1, "nve1"), vm("vm2", 2, "nve1"), vm("vm3", 3, "nve1"), vm("b", 1, "x", BLUE)]
    roles = [
        AssociationRole.ACTIVE,
        AssociationRole.REDIRECTED,
        AssociationRole.PRE_ASSOCIATED,
        AssociationRole.ACTIVE,
    ]
    far = [vm("far", 8, "nve2"), vm("old", 9, "nve2")]
    state = NveState(
        vtep=here,
        peers=frozenset({peer, third}),
        associations={
            each.tenant_system: Association(
                each.tenant_system, each.addresses, 10 + number, role, copy_vni=Vni(COPY + number)
            )
            for number, (each, role) in enumerate(zip(vms, roles, strict=True))
        },
        remotes={
            far[0].tenant_system: RemoteEntry(peer),
            far[1].tenant_system: RemoteEntry(third, lifetime_s=3600),
        },
        redirects={
            vms[1].tenant_system: Redirect(peer, 65535, flooded=True, copy_vni=Vni(COPY + 1)),
            far[0].tenant_system: Redirect(None),
        },
        members={RED: frozenset({peer, third}), BLUE: frozenset({peer})},
        flooded={RED: frozenset({third}), BLUE: frozenset({peer})},
        copies={RED: {vms[1].tenant_system: GroupCopy(Vni(COPY + 1), peer)}},
        tunnel_mtus={peer: 1450, third: 1350},
        vm_mtus={RED: 1400, BLUE: 1300},
    )
    return sorted(compile_nve(state), key=lambda rule: (rule.table, -rule.priority, rule.match))


@pytest.mark.shows("R5.3")
@pytest.mark.parametrize("family", [IPv4Address, IPv6Address])
def test_every_rule_survives_the_wire(family: type) -> None:
    """Nothing is lost between a rule and what the switch reads, in either family."""
    for rule in everything(family):
        read = on_the_wire(openflow.add(None, rule))
        written = {
            name.replace("tun_", "tunnel_"): _masked(value)
            if isinstance(value, str) and "/" in value
            else value
            for name, value in rule.match
        }
        heard = {name.replace("tun_", "tunnel_"): value for name, value in fields(read).items()}
        assert heard == written
        assert read.cookie == rule.cookie
        assert _actions(read) == _expected(rule)


def _masked(text: str) -> tuple[object, ...]:
    return tuple(int(part, 0) if part.startswith("0x") else part for part in text.split("/"))


def _actions(message: Any) -> list[object]:
    """What the switch would do, in its own order of instructions, as comparable values."""
    found: list[object] = []
    for instruction in message.instructions:
        for action in getattr(instruction, "actions", []):
            if getattr(action, "subtype", None) == CHECK_LARGER:
                found.append(int.from_bytes(action.data[:2], "big"))
                continue
            if isinstance(action, parser.OFPActionPopVlan):
                found.append("pop")
                continue
            set_field = getattr(action, "value", None)
            found.append(action.port if set_field is None else set_field)
        found += [getattr(instruction, name) for name in ("metadata", "table_id")
                  if hasattr(instruction, name)]  # fmt: skip
    return found


def _expected(rule: Rule) -> list[object]:
    found: list[object] = []
    for action in rule.actions:
        match action:
            case GoTo(table):
                found.append(int(table))
            case SetVirtualNetwork(vni):
                found.append(int(vni))
            case PopVlan():
                found.append("pop")
            case SetMac(_, to):
                found.append(to)
            case Output(port):
                found.append(port)
            case ReportAction():
                found.append(ofproto.OFPP_CONTROLLER)
            case Aim(vni, to):
                found += [Vni(vni), str(to)]
            case CheckLarger(mtu):
                found.append(mtu + 14)
            case Encapsulate(hairpin):
                found.append(ofproto.OFPP_IN_PORT if hairpin else VXLAN_PORT)
            case Tunnel(vni, to, hairpin):
                port = ofproto.OFPP_IN_PORT if hairpin else VXLAN_PORT
                found += [Vni(vni), str(to), port]
    return found


@pytest.mark.parametrize(("told", "meant"), [(0, 0), (76, 76), (2**64 - 312, 0), (2**64 - 1, 0)])
def test_a_counter_below_zero_stands_for_none(told: int, meant: int) -> None:
    assert openflow.counted(told) == meant


def test_a_ttl_is_asked_for_behind_the_protocol_that_has_it() -> None:
    """A switch refuses it the other way round (OpenFlow 1.3.5 section 7.2.3.8)."""
    asked = match(in_port=10, eth_type=IPV6, nw_ttl=1)
    rule = Rule(PipelineTable.ROUTE, 40, asked, (ReportAction(),), Purpose.EXPIRED)

    written = openflow.octets(openflow.add(openflow.Switch, rule))
    eth_type, nw_ttl = bytes.fromhex("80000a02" + "86dd"), bytes.fromhex("00013a01" + "01")
    assert 0 < written.index(eth_type) < written.index(nw_ttl)
    assert fields(on_the_wire(openflow.add(None, rule)))["nw_ttl"] == 1


def test_a_locator_is_written_into_the_upper_half_of_the_destination() -> None:
    """Nicira's reg_load: from bit 64 on, 64 bits."""
    locator = IPv6Network("fd10:0:2:1234::/64")
    ends = Mac("06:00:00:00:00:01"), Mac("06:00:00:00:00:02")
    vtep = IPv6Address("fd00::2")
    for hairpin, port in ((False, UNDERLAY_PORT), (True, ofproto.OFPP_IN_PORT)):
        translated = Translate(RED, vtep, locator, *ends, hairpin)
        asked = match(metadata=RED, eth_type=IPV6)
        rule = Rule(PipelineTable.LOCATE, 10, asked, (translated,), Purpose.LOCATE)
        (apply,) = on_the_wire(openflow.add(None, rule)).instructions
        load, source, destination, output = apply.actions

        assert (load.ofs_nbits, load.value) == (64 << 6 | 63, 0xFD10_0000_0002_1234)
        assert [_field(each.to_jsondict()) for each in (source, destination)] == [
            ("eth_src", ends[0]),
            ("eth_dst", ends[1]),
        ]
        assert output.port == port
