"""Who speaks for an NVE: one connection at a time, from where the NVE is."""

from pathlib import Path
from typing import Any

import pytest

from controller import nva as nva_module
from controller.nva import Nva
from controller.southbound.framework import ofproto, parser
from nve.pipeline.rules import PipelineTable
from tests.helpers.nva import connected, settings
from tests.helpers.tenants import vteps
from tests.helpers.wire import Wire


@pytest.fixture
def incumbent(nva: Nva) -> Wire:
    return connected(nva)["nve1"]


def asked(wire: Wire) -> list[Any]:
    return [each for each in wire.sent if isinstance(each, parser.OFPEchoRequest)]


def answer(nva: Nva, wire: Wire, xid: int | None = None) -> None:
    reply = parser.OFPEchoReply(wire)
    reply.set_xid(asked(wire)[-1].xid if xid is None else xid)
    nva.echoed(reply)


def refusals(nva: Nva) -> dict[str, int]:
    return {nve: n for (nve, _, what), n in nva.authority.counted.items() if what == "connection"}


def test_a_second_switch_does_not_take_the_place_of_one_that_answers(
    nva: Nva, incumbent: Wire
) -> None:
    thief = Wire(1)
    nva.connected(thief)
    assert len(asked(incumbent)) == 1
    answer(nva, incumbent)

    assert thief.closed
    assert thief.sent == []
    assert not incumbent.closed
    assert nva.authority.desired.is_connected("nve1")
    assert refusals(nva) == {"nve1": 1}


def test_what_it_says_meanwhile_is_not_heard(nva: Nva, incumbent: Wire) -> None:
    thief = Wire(1)
    nva.connected(thief)
    before = len(nva.trace.records)
    bad = parser.OFPPacketIn(
        thief, table_id=PipelineTable.FROM_VM, match=parser.OFPMatch(in_port=10), data=b"bad"
    )
    nva.packet_came(bad)
    nva.rule_ended(parser.OFPFlowRemoved(thief, cookie=1, reason=0, packet_count=0, byte_count=0))
    nva.barrier_passed(_with_xid(parser.OFPBarrierReply(thief)))
    nva.act()
    nva.statistics_came(_with_xid(parser.OFPFlowStatsReply(thief, body=[], flags=0)))
    nva.refused(parser.OFPErrorMsg(thief, type_=1, code=1, data=b""))
    answer(nva, thief, xid=asked(incumbent)[0].xid)

    assert len(nva.trace.records) == before
    assert nva.authority.counted == {}
    assert not thief.closed  # its own answer to the question does not count


def _with_xid(message: Any) -> Any:
    message.set_xid(1)
    return message


def test_an_incumbent_that_is_silent_makes_room(
    nva: Nva, incumbent: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An NVE that lost its connection without a word comes back by another."""
    comes_back = Wire(1)
    nva.connected(comes_back)
    nva.tick()
    assert comes_back.sent == []
    monkeypatch.setattr(nva_module, "INCUMBENT_TIMEOUT_S", 0.0)
    nva.tick()

    assert incumbent.closed
    assert not comes_back.closed
    assert comes_back.sent != []
    assert nva.authority.desired.is_connected("nve1")
    assert refusals(nva) == {}


def test_an_incumbent_that_ends_makes_room_at_once(nva: Nva, incumbent: Wire) -> None:
    comes_back = Wire(1)
    nva.connected(comes_back)
    nva.disconnected(incumbent)

    assert comes_back.sent != []
    assert nva.authority.desired.is_connected("nve1")


def test_a_claimant_that_goes_again_leaves_nothing(nva: Nva, incumbent: Wire) -> None:
    thief = Wire(1)
    nva.connected(thief)
    nva.disconnected(thief)
    answer(nva, incumbent)
    nva.disconnected(incumbent)

    assert not nva.authority.desired.is_connected("nve1")


def test_only_one_claimant_is_waited_for(nva: Nva, incumbent: Wire) -> None:
    """Else a flood of them would have as many questions asked."""
    first, *others = (Wire(1) for _ in range(10))
    for wire in (first, *others):
        nva.connected(wire)

    assert len(asked(incumbent)) == 1
    assert [wire.closed for wire in (first, *others)] == [False, *[True] * 9]


def test_an_nve_connects_from_where_it_is(tmp_path: Path) -> None:
    nves = {
        name: {"dpid": dpid, "vtep": str(vtep), "control": f"198.18.1.{dpid}"}
        for dpid, (name, vtep) in enumerate(vteps().items(), start=1)
    }
    nva = Nva(settings(tmp_path, nves=nves))
    stranger, its_own = Wire(1), Wire(1)
    stranger.address, its_own.address = ("198.18.1.2", 4711), ("198.18.1.1", 4711)
    nva.connected(stranger)
    nva.connected(its_own)

    assert stranger.closed
    assert not its_own.closed
    assert refusals(nva) == {"nve1": 1}


def test_switches_that_are_no_nve_are_counted_and_cannot_fill_the_memory(nva: Nva) -> None:
    for dpid in range(1000, 1300):
        nva.connected(Wire(dpid))

    assert refusals(nva) == {"?": 300}
    told = [line for line in nva.trace.records if line.event == "refused-connection"]
    assert [line.details["times"] for line in told] == [*range(1, 101), 128, 256]


def test_nothing_is_waited_for_from_an_nve_that_is_gone(nva: Nva, incumbent: Wire) -> None:
    nva.disconnected(incumbent)

    assert {nve for nve, _ in nva.sender._tokens} <= {"nve2", "nve3"}
    assert {nve for nve, _ in nva.sender._statistics} <= {"nve2", "nve3"}


def test_the_meter_an_nve_has_already_is_no_refusal(nva: Nva, incumbent: Wire) -> None:
    there = (ofproto.OFPET_METER_MOD_FAILED, ofproto.OFPMMFC_METER_EXISTS)
    for kind, code in (there, (ofproto.OFPET_METER_MOD_FAILED, ofproto.OFPMMFC_OUT_OF_METERS)):
        nva.refused(parser.OFPErrorMsg(incumbent, type_=kind, code=code, data=b""))

    assert [line.event for line in nva.trace.records].count("instruction-refused") == 1
