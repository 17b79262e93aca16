"""What the NVA has decided on its way to the NVEs: together, in order, and each thing once."""

import threading
from functools import partial
from typing import Any

import pytest

from controller.core.move import MoveRequest
from controller.nva import Nva
from controller.southbound import counts, openflow
from controller.southbound.counts import Counts
from controller.southbound.framework import ofproto, parser
from nve.model import VmSpec
from nve.pipeline.rules import PipelineTable, Purpose, Rule
from nve.wire import announcement
from tests.adapters.test_nva import VM1, VM2, associate, packet_in
from tests.helpers.nva import confirm, connected
from tests.helpers.tenants import vm
from tests.helpers.wire import Wire

VM3 = vm("vm3", 3, "nve1")


def barriers(wire: Wire) -> list[Any]:
    return [each for each in wire.sent if isinstance(each, parser.OFPBarrierRequest)]


def request(nva: Nva, name: str, port: int) -> str:
    asked = MoveRequest(name, "nve3", port, idle_s=2)
    return nva.decide(partial(nva.authority.request_move, name, asked)).key


def redirected(nva: Nva, wires: dict[str, Wire]) -> list[str]:
    """vm1 and vm3 are about to arrive at nve3."""
    for of, port in ((VM1, 10), (VM2, 11), (VM3, 12)):
        associate(nva, of, port)
    confirm(nva, *wires.values())
    moves = [request(nva, "vm1", 10), request(nva, "vm3", 12)]
    confirm(nva, *wires.values())
    for key in moves:
        nva.decide(partial(nva.authority.redirect, key))
    confirm(nva, *wires.values())
    for wire in wires.values():
        wire.sent.clear()
    return moves


def announce_both(nva: Nva, wires: dict[str, Wire]) -> None:
    for of, port in ((VM1, 10), (VM3, 12)):
        (garp,) = announcement.frames(of, "garp")
        nva.packet_came(packet_in(wires["nve3"], PipelineTable.FROM_VM, port, garp))


def test_what_is_decided_together_is_told_together(nva: Nva) -> None:
    wires = connected(nva)
    moves = redirected(nva, wires)
    announce_both(nva, wires)
    assert all(wire.sent == [] for wire in wires.values())
    nva.act()

    for wire in wires.values():
        *flow_mods, last = wire.sent
        assert barriers(wire) == [last]
        assert all(isinstance(each, parser.OFPFlowMod) for each in flow_mods)
        about = {each.match.get("eth_dst") for each in flow_mods}
        assert about >= {VM1.mac, VM3.mac}
    confirm(nva, *wires.values())
    assert {nva.authority.move(key).phase for key in moves} == {"converged"}


def test_only_the_latest_of_what_is_decided_together_is_told(nva: Nva) -> None:
    """Both VMs arrive at an NVE with a way for broadcasts, which each of them changes."""
    wires = connected(nva)
    redirected(nva, wires)
    announce_both(nva, wires)
    nva.act()

    flow_mods = [each for each in wires["nve3"].sent if isinstance(each, parser.OFPFlowMod)]
    (flood,) = (each for each in flow_mods if each.table_id == PipelineTable.FLOOD)
    (instruction,) = flood.instructions
    outputs = (each for each in instruction.actions if isinstance(each, parser.OFPActionOutput))
    assert {10, 12} <= {each.port for each in outputs}


def test_it_is_written_down_in_one_line(nva: Nva, monkeypatch: pytest.MonkeyPatch) -> None:
    wires = connected(nva)
    redirected(nva, wires)
    lines: list[Any] = []
    monkeypatch.setattr(nva._journal, "append", lambda change, _whole: lines.append(change))
    announce_both(nva, wires)
    nva.act()

    (line,) = lines
    assert {binding.nve for binding in line.bindings} == {"nve3"}
    assert len(line.moves) == 2


def test_nothing_overtakes_what_an_nve_was_told_before(nva: Nva) -> None:
    """The answer to a question comes behind the entry that was decided on first."""
    wires = connected(nva)
    redirected(nva, wires)
    (garp,) = announcement.frames(VM1, "garp")
    nva.packet_came(packet_in(wires["nve3"], PipelineTable.FROM_VM, 10, garp))
    frame = bytes.fromhex(VM1.mac.replace(":", "")) + b"and so on"
    nva.packet_came(packet_in(wires["nve2"], PipelineTable.FORWARD, 11, frame))
    nva.act()

    kinds = [type(each) for each in wires["nve2"].sent]
    assert kinds.count(parser.OFPPacketOut) == 1
    first = kinds.index(parser.OFPPacketOut)
    assert parser.OFPFlowMod in kinds[:first]
    assert kinds[first - 1] is parser.OFPBarrierRequest


def test_an_nve_that_goes_meanwhile_disturbs_nobody(nva: Nva) -> None:
    wires = connected(nva)
    moves = redirected(nva, wires)
    announce_both(nva, wires)
    nva.disconnected(wires["nve2"])
    nva.act()
    confirm(nva, wires["nve1"], wires["nve3"])

    assert {nva.authority.move(key).phase for key in moves} == {"activated"}


# -- counting what went astray, R3.4 ---------------------------------------------------------------


def flow(cookie: int, packets: int) -> Any:
    return parser.OFPFlowStats(
        table_id=3, priority=30, cookie=cookie, match=parser.OFPMatch(), packet_count=packets
    )


def ended(wire: Wire, cookie: int, packets: int, reason: int) -> Any:
    return parser.OFPFlowRemoved(
        wire, cookie=cookie, reason=reason, packet_count=packets, byte_count=packets * 100,
        duration_sec=1, duration_nsec=0,
    )  # fmt: skip


def in_flight(rule: Rule, vm: VmSpec) -> bool:
    """Whether it is for a VM's packets in flight; others carry its copies of frames to groups."""
    about = rule.about == vm.tenant_system
    return about and rule.purpose is Purpose.IN_FLIGHT and rule.reports_end


def asked(nva: Nva, wire: Wire, key: str, flows: list[Any], then: Any = None) -> int:
    """What the NVA counts, if the NVE holds these flows; `then` happens after its first answer."""

    class Immediate(Counts):
        answered = 0

        def _ask(self, nve: str, ask: Any, read: Any = list) -> Any:
            question = super()._ask(nve, ask, read)
            requests = [e for e in wire.sent if isinstance(e, parser.OFPFlowStatsRequest)]
            reply = parser.OFPFlowStatsReply(wire, body=list(flows), flags=0)
            reply.set_xid(requests[-1].xid)
            nva.statistics_came(reply)
            self.answered += 1
            if then and self.answered == 1:
                threading.Timer(0.01, then).start()
            return question

    made = Immediate(nva.changed, nva.authority, nva.sender, nva.trace.records)
    return made.astray(nva.authority.move(key))


@pytest.mark.shows("R3.4")
def test_a_packet_in_flight_is_counted_once_while_its_rules_go(nva: Nva) -> None:
    """Standing, told to go, gone: wherever the NVE is when it is asked."""
    wires = connected(nva)
    first, _ = redirected(nva, wires)
    announce_both(nva, wires)
    nva.act()
    confirm(nva, *wires.values())
    wire = wires["nve1"]
    waiting, ending = sorted(
        (
            rule
            for rule in nva.authority.desired.rules("nve1")
            if rule.about == VM1.tenant_system
            and rule.purpose is Purpose.IN_FLIGHT
            and rule.reports_end
        ),
        key=lambda rule: rule.has_timeout,
    )
    others = [
        rule
        for rule in nva.authority.desired.rules("nve1")
        if rule.about == VM3.tenant_system
        and rule.purpose is Purpose.IN_FLIGHT
        and rule.reports_end
    ]
    strangers = [flow(rule.cookie, 1000) for rule in others]
    both = [flow(waiting.cookie, 7), flow(ending.cookie, 30), *strangers]
    assert asked(nva, wire, first, both) == 37

    nva.rule_ended(ended(wire, ending.cookie, 30, ofproto.OFPRR_IDLE_TIMEOUT))
    # What follows, that the other one has to go, waits until the NVE's answer comes.
    assert asked(nva, wire, first, [flow(waiting.cookie, 7), *strangers]) == 37

    nva.rule_ended(ended(wire, waiting.cookie, 7, ofproto.OFPRR_DELETE))
    assert asked(nva, wire, first, strangers) == 37


@pytest.mark.shows("R3.4")
def test_a_rule_that_is_gone_and_not_reported_yet_is_waited_for(
    nva: Nva, monkeypatch: pytest.MonkeyPatch
) -> None:
    wires = connected(nva)
    first, _ = redirected(nva, wires)
    wire = wires["nve1"]
    (waiting,) = (
        rule
        for rule in nva.authority.desired.rules("nve1")
        if rule.about == VM1.tenant_system
        and rule.purpose is Purpose.IN_FLIGHT
        and rule.reports_end
    )
    monkeypatch.setattr(counts, "STATISTICS_TIMEOUT_S", 0.01)
    with pytest.raises(TimeoutError, match="did not report the end of a rule"):
        asked(nva, wire, first, [])

    monkeypatch.setattr(counts, "STATISTICS_TIMEOUT_S", 60)

    held: list[Any] = []

    def report() -> None:
        """Somebody has taken it away: its last count comes, and it is told again."""
        nva.rule_ended(ended(wire, waiting.cookie, 7, ofproto.OFPRR_DELETE))
        held.append(flow(waiting.cookie, 2))
        nva.act()

    assert asked(nva, wire, first, held, then=report) == 7 + 2


def test_what_cannot_be_carried_out_keeps_nothing_else(
    nva: Nva, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    wires = connected(nva)
    moves = redirected(nva, wires)
    announce_both(nva, wires)
    tell = nva.sender._tell

    def defective(what: Any) -> None:
        if what.nve == "nve2":
            raise RuntimeError("a defect")
        tell(what)

    monkeypatch.setattr(nva.sender, "_tell", defective)
    nva.act()
    confirm(nva, wires["nve1"], wires["nve3"])

    assert "a defect" in caplog.text
    assert all(barriers(wires[nve]) == [] for nve in ("nve1", "nve3"))
    assert {nva.authority.move(key).phase for key in moves} == {"activated"}


def test_what_cannot_be_told_to_an_nve_is_told_to_the_others(
    nva: Nva, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    wires = connected(nva)
    redirected(nva, wires)
    announce_both(nva, wires)
    told, calls = openflow.told, iter([True])

    def once(changes: Any) -> bytes:
        if next(calls, False):
            raise RuntimeError("a defect")
        return told(changes)

    monkeypatch.setattr(openflow, "told", once)
    nva.act()

    assert "a defect" in caplog.text
    assert sum(bool(barriers(wire)) for wire in wires.values()) == len(wires) - 1
