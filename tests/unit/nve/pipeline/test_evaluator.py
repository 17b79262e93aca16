"""The judge of frames, on rules written by hand."""

from ipaddress import IPv4Address, IPv6Address

import pytest

from nve.model import Vni, Vtep
from nve.pipeline.evaluator import ForwardingLoop, Frame, deliveries, evaluate
from nve.pipeline.rules import (
    VXLAN_PORT,
    Action,
    GoTo,
    Match,
    Output,
    PipelineTable,
    Purpose,
    ReportAction,
    Rule,
    SetVirtualNetwork,
    Tunnel,
    match,
)
from nve.wire.frames import ICMPV6

HERE, THERE = IPv4Address("10.1.0.1"), IPv4Address("10.1.0.2")
RED = Vni(5000)
FRAME: Frame = {"in_port": 10, "eth_dst": "02:00:00:00:00:01"}


def rule(table: PipelineTable, priority: int, where: Match, *actions: Action) -> Rule:
    return Rule(table, priority, where, actions, Purpose.FORWARD)


def first(*actions: Action) -> Rule:
    return rule(PipelineTable.CLASSIFY, 1, match(), *actions)


def test_without_a_rule_a_frame_is_dropped() -> None:
    verdict = evaluate([], FRAME)

    assert verdict.dropped
    assert verdict.last is None


def test_a_drop_is_named_by_its_rule() -> None:
    drop = first()

    assert evaluate([drop], FRAME).dropped
    assert evaluate([drop], FRAME).last == drop


def test_the_highest_priority_decides() -> None:
    low, high = first(Output(11)), rule(PipelineTable.CLASSIFY, 2, match(in_port=10), Output(12))

    assert evaluate([low, high], FRAME).ports == (12,)
    assert evaluate([low, high], {**FRAME, "in_port": 9}).ports == (11,)


def test_two_rules_of_one_priority_that_disagree_are_an_error() -> None:
    one, other = first(Output(11)), rule(PipelineTable.CLASSIFY, 1, match(in_port=10), Output(12))

    with pytest.raises(ValueError, match="rules of one priority disagree"):
        evaluate([one, other], FRAME)


def test_two_rules_of_one_priority_may_agree() -> None:
    one, other = first(Output(11)), rule(PipelineTable.CLASSIFY, 1, match(in_port=10), Output(11))

    assert evaluate([one, other], FRAME).ports == (11,)


def test_the_virtual_network_is_remembered_for_later_tables() -> None:
    classify = first(SetVirtualNetwork(RED), GoTo(PipelineTable.FORWARD))
    forward = rule(PipelineTable.FORWARD, 1, match(metadata=RED), Output(11))

    assert evaluate([classify, forward], FRAME).ports == (11,)
    assert evaluate([first(GoTo(PipelineTable.FORWARD)), forward], FRAME).dropped


def test_an_absent_field_does_not_match() -> None:
    assert evaluate(
        [rule(PipelineTable.CLASSIFY, 1, match(ip_proto=ICMPV6), Output(11))], FRAME
    ).dropped


@pytest.mark.parametrize(
    ("destination", "dropped"),
    [("ff:ff:ff:ff:ff:ff", False), ("33:33:00:00:00:01", False), ("02:00:00:00:00:01", True)],
)
def test_a_masked_match_looks_at_the_masked_bits(destination: str, dropped: bool) -> None:
    group = match(eth_dst="01:00:00:00:00:00/01:00:00:00:00:00")
    verdict = evaluate(
        [rule(PipelineTable.CLASSIFY, 1, group, Output(11))], {**FRAME, "eth_dst": destination}
    )

    assert verdict.dropped == dropped


def test_a_frame_never_goes_back_to_its_port() -> None:
    assert evaluate([first(Output(10), Output(11))], FRAME).ports == (11,)


@pytest.mark.shows("R3.4", "R4.1.4")
@pytest.mark.parametrize("hairpin", [True, False])
def test_a_frame_goes_from_tunnel_to_tunnel_only_by_hairpin(hairpin: bool) -> None:
    """Open vSwitch would not send it back to the tunnel port either."""
    to_tunnel = first(Tunnel(RED, THERE, hairpin))
    from_tunnel = evaluate([to_tunnel], {**FRAME, "in_port": VXLAN_PORT})

    assert evaluate([to_tunnel], FRAME).tunnels == ((RED, THERE),)
    assert bool(from_tunnel.tunnels) == hairpin


def test_a_report_is_no_drop() -> None:
    verdict = evaluate([first(ReportAction())], FRAME)

    assert verdict.reported
    assert not verdict.dropped


# -- across NVEs -----------------------------------------------------------------------------------


@pytest.mark.shows("R5.3")
@pytest.mark.parametrize(
    ("here", "there", "field"),
    [
        (HERE, THERE, "tun_ipv4_src"),
        (IPv6Address("fd00::1"), IPv6Address("fd00::2"), "tun_ipv6_src"),
    ],
)
def test_a_frame_comes_out_of_the_tunnel_with_vni_and_sender(
    here: Vtep, there: Vtep, field: str
) -> None:
    """Both underlay families."""
    admitted = match(in_port=VXLAN_PORT, tunnel_id=RED, **{field: str(here)})
    nves = {
        "a": (here, [first(Tunnel(RED, there))]),
        "b": (there, [rule(PipelineTable.CLASSIFY, 1, admitted, Output(12))]),
    }

    assert deliveries(nves, FRAME, "a") == (("b", 12),)


def test_a_tunnel_to_an_address_without_an_nve_leads_nowhere() -> None:
    nves = {"a": (HERE, [first(Tunnel(RED, THERE), Output(11))])}

    assert deliveries(nves, FRAME, "a") == (("a", 11),)


def test_every_copy_is_followed() -> None:
    third = IPv4Address("10.1.0.3")
    nves = {
        "a": (HERE, [first(Tunnel(RED, THERE), Tunnel(RED, third))]),
        "b": (THERE, [first(Output(11))]),
        "c": (third, [first(Output(12))]),
    }

    assert deliveries(nves, FRAME, "a") == (("b", 11), ("c", 12))


def test_a_loop_is_found() -> None:
    nves = {
        "a": (HERE, [first(Tunnel(RED, THERE, hairpin=True))]),
        "b": (THERE, [first(Tunnel(RED, HERE, hairpin=True))]),
    }

    with pytest.raises(ForwardingLoop, match="entered at a is still tunnelled on"):
        deliveries(nves, FRAME, "a")


def test_a_tunnelled_frame_forgets_the_tunnel_it_came_from() -> None:
    """The second NVE has to see the first one's address, not the address of where it began."""
    start = {**FRAME, "in_port": VXLAN_PORT, "tunnel_id": 7, "tun_ipv6_src": "fd00::9"}
    strict = rule(PipelineTable.CLASSIFY, 1, match(tun_ipv6_src="fd00::9"), Output(13))
    nves = {
        "a": (HERE, [first(Tunnel(RED, THERE, hairpin=True))]),
        "b": (THERE, [strict, rule(PipelineTable.CLASSIFY, 0, match(tunnel_id=RED), Output(12))]),
    }

    assert deliveries(nves, start, "a") == (("b", 12),)
