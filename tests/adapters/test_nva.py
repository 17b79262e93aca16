"""The NVA's application between the authority and its NVEs' wires."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from controller.core.move import MoveRequest
from controller.core.move_fsm import Phase
from controller.nva import Nva
from controller.southbound import openflow
from controller.southbound.framework import ofproto, parser
from nve.model import VmSpec
from nve.pipeline.rules import VXLAN_PORT, PipelineTable, Rule
from nve.pipeline.state import RemoteEntry
from nve.wire import announcement
from tests.helpers.nva import answer_statistics, confirm, connected, settings
from tests.helpers.tenants import vm, vteps
from tests.helpers.wire import Wire

VM1, VM2 = vm("vm1", 1, "nve1"), vm("vm2", 2, "nve2")


def associate(nva: Nva, of: VmSpec, port: int) -> None:
    nva.decide(
        lambda now_ns: nva.authority.associate(
            of.name, of.tenant_system, of.addresses, of.nve, port, now_ns
        )
    )


def as_found(rule: Rule) -> Any:
    """A flow as a switch reports it."""
    told = openflow.add(None, rule)
    return parser.OFPFlowStats(
        table_id=told.table_id, priority=told.priority, cookie=told.cookie, match=told.match
    )


def removed(wire: Wire) -> list[tuple[int, int, dict[str, Any]]]:
    return [
        (each.table_id, each.priority, dict(each.match.items()))
        for each in wire.sent
        if isinstance(each, parser.OFPFlowMod) and each.command == ofproto.OFPFC_DELETE_STRICT
    ]


def test_an_nve_that_connects_is_told_all_rules_and_then_asked_what_else_it_holds(nva: Nva) -> None:
    wire = Wire(1)
    nva.connected(wire)

    *told, asked = wire.sent
    rules = [each for each in told if isinstance(each, parser.OFPFlowMod)]
    wanted = {rule.cookie for rule in nva.authority.desired.rules("nve1")}
    assert {rule.cookie for rule in rules} == wanted
    assert [rule.table_id for rule in rules] == sorted((r.table_id for r in rules), reverse=True)
    assert isinstance(asked, parser.OFPFlowStatsRequest)


@pytest.mark.shows("R3.5")
def test_what_an_nve_holds_from_before_is_removed_then_it_confirms(nva: Nva) -> None:
    wire = Wire(1)
    nva.connected(wire)
    stale = parser.OFPFlowStats(
        table_id=4, priority=10, cookie=4711, match=parser.OFPMatch(metadata=1)
    )
    kept = [as_found(rule) for rule in nva.authority.desired.rules("nve1")]
    answer_statistics(nva, wire, kept, more=True)
    assert removed(wire) == []
    answer_statistics(nva, wire, [stale])

    assert removed(wire) == [(4, 10, {"metadata": 1})]
    assert isinstance(wire.sent[-1], parser.OFPBarrierRequest)


def test_a_rule_told_while_an_nve_is_being_asked_is_not_taken_for_an_old_one(nva: Nva) -> None:
    """The answer shows the rule as it was before; meanwhile the NVA has come to want it again."""
    wire = Wire(1)
    nva.connected(wire)
    desired = nva.authority.desired
    desired.set_remote("nve1", VM2.tenant_system, RemoteEntry(vteps()["nve2"]))
    nva.decide(nva.authority.tick)
    (entry,) = (rule for rule in desired.rules("nve1") if rule.about == VM2.tenant_system)

    answer_statistics(nva, wire, [as_found(entry)])

    assert removed(wire) == []


def test_a_switch_that_nobody_knows_is_sent_away(nva: Nva) -> None:
    wire = Wire(99)
    nva.connected(wire)

    assert wire.closed
    assert wire.sent == []


def test_every_change_is_followed_by_a_barrier_and_confirmed_by_its_reply(nva: Nva) -> None:
    wires = connected(nva)
    associate(nva, VM1, 10)
    assert isinstance(wires["nve1"].sent[-1], parser.OFPBarrierRequest)
    assert set(nva.authority.desired.pending(nva.authority.desired)) >= {"nve1"}

    confirm(nva, *wires.values())

    assert nva.authority.desired.pending(nva.authority.desired) == {}


def test_an_nve_that_is_gone_is_told_nothing(nva: Nva) -> None:
    wires = connected(nva)
    nva.disconnected(wires["nve1"])
    before = list(wires["nve1"].sent)
    associate(nva, VM1, 10)

    assert wires["nve1"].sent == before


def test_an_old_connection_that_ends_late_does_not_end_the_new_one(nva: Nva) -> None:
    old, new = Wire(1), Wire(1)
    nva.connected(old)
    nva.connected(new)
    nva.disconnected(old)

    assert nva.authority.desired.is_connected("nve1")


def packet_in(wire: Wire, table: PipelineTable, port: int, frame: bytes) -> Any:
    return parser.OFPPacketIn(
        wire, table_id=int(table), match=parser.OFPMatch(in_port=port), data=frame
    )


@pytest.mark.shows("R4.1.3")
def test_a_frame_without_an_entry_is_sent_on_once_there_is_one(tmp_path: Path) -> None:
    """With pull: the rule is on the wire before the frame."""
    nva = Nva(settings(tmp_path, mapping_update="pull", lifetime_s=2))
    wires = connected(nva)
    associate(nva, VM1, 10)
    associate(nva, VM2, 11)
    wire = wires["nve1"]
    wire.sent.clear()
    frame = bytes.fromhex(VM2.mac.replace(":", "")) + b"and so on"

    nva.packet_came(packet_in(wire, PipelineTable.FORWARD, 10, frame))
    nva.act()

    entry, barrier, again = wire.sent
    assert (entry.table_id, entry.hard_timeout) == (PipelineTable.FORWARD, 2)
    assert isinstance(barrier, parser.OFPBarrierRequest)
    assert again.data == frame
    assert again.actions[-1].port == VXLAN_PORT


@pytest.mark.shows("R4.1.2")
def test_an_announcement_at_the_destination_ends_the_move(nva: Nva) -> None:
    """From the bytes that `nve.wire.announcement` sends to the changed directory."""
    wires = connected(nva)
    associate(nva, VM1, 10)
    associate(nva, VM2, 11)
    authority = nva.authority
    move = nva.decide(
        partial(authority.request_move, "1", MoveRequest("vm1", "nve3", 10, idle_s=2))
    )
    confirm(nva, *wires.values())
    nva.decide(partial(authority.redirect, move.key))
    confirm(nva, *wires.values())
    assert move.phase is Phase.REDIRECTED

    (garp,) = announcement.frames(VM1, "garp")
    nva.packet_came(packet_in(wires["nve3"], PipelineTable.FROM_VM, 10, garp))
    nva.act()

    binding = authority.directory.find(VM1.tenant_system)
    assert binding is not None
    assert binding.nve == "nve3"


@pytest.mark.parametrize(
    ("reason", "why"),
    [
        (ofproto.OFPRR_IDLE_TIMEOUT, "idle"),
        (ofproto.OFPRR_HARD_TIMEOUT, "timer"),
        (ofproto.OFPRR_DELETE, "told"),
    ],
)
def test_a_removed_flow_is_reported_with_reason_and_counters(
    nva: Nva, monkeypatch: pytest.MonkeyPatch, reason: int, why: str
) -> None:
    heard: list[Any] = []
    wires = connected(nva)
    monkeypatch.setattr(nva.authority, "reported", lambda nve, report, now_ns: heard.append(report))
    gone = parser.OFPFlowRemoved(
        wires["nve1"], cookie=9, reason=reason, duration_sec=2, duration_nsec=500_000_000,
        packet_count=3, byte_count=300,
    )  # fmt: skip

    nva.rule_ended(gone)

    (report,) = heard
    assert (report.cookie, report.why, report.packets, report.octets) == (9, why, 3, 300)
    assert report.lifetime_ms == 2500


def test_the_trace_is_on_disk_line_by_line(nva: Nva) -> None:
    connected(nva)

    lines = [json.loads(line) for line in nva.settings.trace.read_text().splitlines()]
    assert [line["event"] for line in lines] == ["nve-connected"] * 3
    assert [line["subject"] for line in lines] == ["nve1", "nve2", "nve3"]
