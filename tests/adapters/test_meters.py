"""Meters on the wire: before the rules that use them, and asked for their counts before they go."""

from typing import Any

import pytest

from controller.nva import Nva
from controller.southbound import openflow
from controller.southbound.framework import ofproto, parser
from nve.pipeline.rules import VXLAN_PORT, Meter, ReportAction, Rule
from tests.adapters.test_nva import associate
from tests.helpers.nva import answer_statistics, confirm, connected
from tests.helpers.tenants import vm
from tests.helpers.wire import Wire

VM1 = vm("vm1", 1, "nve1")
PORT = 10
OF_PORT = {2 * PORT, 2 * PORT + 1}
OF_TUNNELS = {2 * VXLAN_PORT + 1}
"""Every NVE has it: markers of other NVEs come in there."""


def meters_told(wire: Wire, command: int) -> list[int]:
    told = (each for each in wire.sent if isinstance(each, parser.OFPMeterMod))
    return [each.meter_id for each in told if each.command == command]


def uses(message: Any) -> set[int]:
    """The meters that a flow-mod's rule uses."""
    if not isinstance(message, parser.OFPFlowMod):
        return set()
    of_kind = parser.OFPInstructionMeter
    return {each.meter_id for each in message.instructions if isinstance(each, of_kind)}


def answer_meters(nva: Nva, wire: Wire, dropped: dict[int, int]) -> None:
    """An NVE answers the last request for its meters."""
    question = [each for each in wire.sent if isinstance(each, parser.OFPMeterStatsRequest)][-1]
    body = [
        parser.OFPMeterStats(
            meter_id=number, flow_count=1, packet_in_count=packets + 5, byte_in_count=0,
            duration_sec=0, duration_nsec=0,
            band_stats=[parser.OFPMeterBandStats(packets, 0)],
        )
        for number, packets in dropped.items()
    ]  # fmt: skip
    reply = parser.OFPMeterStatsReply(wire, body=body, flags=0)
    reply.set_xid(question.xid)
    nva.statistics_came(reply)


def test_a_meter_limits_packets_and_counts() -> None:
    add, change = openflow.set_meter(None, Meter(20, rate_pps=100, burst=50))

    assert (add.command, change.command) == (ofproto.OFPMC_ADD, ofproto.OFPMC_MODIFY)
    for each in (add, change):
        assert each.meter_id == 20
        assert each.flags == ofproto.OFPMF_PKTPS | ofproto.OFPMF_BURST | ofproto.OFPMF_STATS
        (band,) = each.bands
        assert (band.rate, band.burst_size) == (100, 50)


def test_a_report_goes_through_its_meter_first() -> None:
    rule = Rule(2, 20, (), (ReportAction(meter=Meter(20, 100, 50)),), "report")  # type: ignore[arg-type]
    metered, applied = openflow.add(None, rule).instructions

    assert metered.meter_id == 20
    assert applied.type == ofproto.OFPIT_APPLY_ACTIONS


def test_meters_are_there_before_the_rules_that_use_them(nva: Nva) -> None:
    wire = connected(nva)["nve1"]
    wire.sent.clear()
    associate(nva, VM1, PORT)

    there: set[int] = set()
    for message in wire.sent:
        if isinstance(message, parser.OFPMeterMod):
            there.add(message.meter_id)
        assert uses(message) <= there
    assert there == OF_PORT


def test_an_nve_that_comes_back_is_given_its_meters_and_loses_the_others(nva: Nva) -> None:
    wires = connected(nva)
    associate(nva, VM1, PORT)
    nva.disconnected(wires["nve1"])
    wire = Wire(1)
    nva.connected(wire)
    answer_statistics(nva, wire, [])
    answer_meters(nva, wire, {**dict.fromkeys(OF_PORT | OF_TUNNELS, 0), 90: 3})

    assert set(meters_told(wire, ofproto.OFPMC_ADD)) == OF_PORT | OF_TUNNELS
    assert meters_told(wire, ofproto.OFPMC_DELETE) == [90]


@pytest.mark.shows("R4.1.8")
def test_a_port_that_goes_takes_its_meters_and_leaves_their_counts(nva: Nva) -> None:
    wires = connected(nva)
    associate(nva, VM1, PORT)
    wire = wires["nve1"]
    nva.authority.desired.de_associate("nve1", VM1.tenant_system)
    nva.decide(nva.authority.forget_entries)
    question, *_, barrier = [each for each in wire.sent if not uses(each)][-4:]

    assert isinstance(question, parser.OFPMeterStatsRequest)
    assert set(meters_told(wire, ofproto.OFPMC_DELETE)) == OF_PORT
    assert isinstance(barrier, parser.OFPBarrierRequest)
    answer_meters(nva, wire, {20: 7, 21: 0, 22: 100})
    (found,) = nva.authority.violations.drops.total({}, {})
    reason, packets = found
    assert (reason.nve, reason.port, reason.what, packets) == (
        "nve1", PORT, "rate-limited-report", 7,
    )  # fmt: skip
    confirm(nva, *wires.values())
