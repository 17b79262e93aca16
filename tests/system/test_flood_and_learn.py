"""Moves with flood-and-learn: real bridges and packets, judged by the probes and by what the
kernels say about their forwarding databases."""

import platform
from pathlib import Path
from typing import Any

import pytest

from experiments.measure.results import Result
from experiments.measure.trace import MoveTrace, TraceEvent, moves_of
from tests.helpers.runs import FLOW_RATE_PPS, WHERE, probe, recorded, scenario, times_of

UNDERLAY_MS = 2
"""One way: two links of the star."""
FEW = round(2 * UNDERLAY_MS * FLOW_RATE_PPS / 1000) + 10
"""What is lost while an announcement is on its way and packets come the other way, and what a busy
machine makes of it: much less than a tenth of a second."""


KERNEL = tuple(int(number) for number in platform.release().split("-")[0].split(".")[:2])


def run(out: Path, **changes: Any) -> Result:
    """A valid run: nothing is left, and every NVE floods to whom it should."""
    wanted = scenario(**{"overlay": {"kind": "flood-and-learn"}, **changes})
    outcome, result = recorded(wanted, out)
    assert outcome.problems == []
    assert outcome.compared
    return result


def to(nve: str, at_s: float, **changes: Any) -> dict[str, Any]:
    return {"at_s": at_s, "vm": "vm1", "to": nve, "pause_ms": 0, **changes}


def lost(result: Result, move: int = 1) -> dict[str, int]:
    """By flow."""
    rows = result.moves[result.moves["move"] == move]
    return dict(zip(rows["flow"], rows["lost"], strict=True))


def learned(move: MoveTrace, at: str) -> set[str]:
    """The NVEs that have heard the VM to be there."""
    return {
        event.details["nve"]
        for event in move.events
        if event.name == "entry-learned" and event.details["at"] == at
    }


@pytest.mark.parametrize("underlay", ["ipv4", "ipv6"])
def test_a_move_and_back_are_as_quick_as_the_announcement(tmp_path: Path, underlay: str) -> None:
    """Tenants of both families, with correspondents at the source, at the destination, beyond."""
    moves = [to("nve2", 1, announce="garp"), to("nve1", 2.5, announce="na")]
    result = run(tmp_path / "out", topology__underlay=underlay, moves=moves)

    assert max(lost(result, 1).values()) <= FEW
    assert max(lost(result, 2).values()) <= FEW
    there, back = moves_of(result.events)
    assert (there.outcome, back.outcome) == ("completed", "completed")
    assert learned(there, "nve2") == learned(back, "nve1") == {"nve1", "nve2", "nve3"}
    assert there.first("move-converged") is not None
    assert back.first("move-converged") is not None
    assert set(result.moves["duplicated"]) == {0}
    # Nobody counts what no overlay has told it to count.
    for column in ("tunnelled_packets", "packets_via_source_after_convergence"):
        assert result.moves[column].isna().all()
    assert result.manifest["overlay"] == "flood-and-learn"
    assert result.manifest["datapath"] == "linux-bridge"


@pytest.mark.skipif(
    KERNEL < (6, 15), reason="a VXLAN device keeps what it sends to, before Linux 6.15"
)
def test_a_vm_that_is_not_heard_is_lost_for_as_long_as_the_entry_lives(tmp_path: Path) -> None:
    """One says nothing, of the other it is lost.  Both were heard last some seconds before they
    move: a guest that has answered asks back five seconds later whether its peer is still there
    (RFC 4861 section 7.3.2, and Linux for ARP)."""
    overlay = {"kind": "flood-and-learn", "ageing_s": 10}
    vms = {**WHERE, "vm5": "nve1"}
    flows = [("vm4", "vm1"), ("vm4", "vm5")]
    result = run(
        tmp_path / "out",
        overlay=overlay,
        tenants=[{"vni": 5000, "vms": vms}],
        traffic=[probe(here, "ipv4", there) for here, there in flows],
        moves=[
            to("nve2", 8, announce="none"),
            {**to("nve2", 8, announcement_lost=True), "vm": "vm5"},
        ],
        duration_s=20,
    )

    for move in moves_of(result.events):
        resumed_ns = move.time_of("vm-resumed")
        assert resumed_ns is not None
        changed = next(
            event
            for event in move.events
            if event.name in ("entry-forgotten", "entry-learned")
            and event.details["nve"] == "nve3"
            and event.t_ns > resumed_ns
        )
        dark_s = (changed.t_ns - resumed_ns) / 1e9
        assert dark_s > 1
        flow = f"vm4>{move.vm}/ipv4"
        assert lost(result, move.number)[flow] == pytest.approx(dark_s * FLOW_RATE_PPS, rel=0.1)


def test_networks_with_the_same_addresses_do_not_mix(tmp_path: Path) -> None:
    """vm1 moves to where the other network's VM with its addresses is; that one stays."""
    tenants = [
        {"vni": 5000, "vms": {"vm1": "nve1", "vm4": "nve3"}},
        {"vni": 6000, "vms": {"red1": "nve2", "red4": "nve3"}},
    ]
    traffic = [
        {"kind": "udp-probe", "from": here, "to": there, "rate_pps": FLOW_RATE_PPS}
        for here, there in (("vm4", "vm1"), ("red4", "red1"))
    ]
    moves = [to("nve2", 1, announce="garp")]
    result = run(tmp_path / "out", tenants=tenants, traffic=traffic, moves=moves, duration_s=2.5)

    # A packet that came to the other network would be one that nobody has sent to that VM.
    packets = result.packets
    blue, red = (packets[packets["flow"] == flow] for flow in ("vm4>vm1/ipv4", "red4>red1/ipv4"))
    assert red["received_ns"].notna().all()
    assert blue["received_ns"].isna().sum() <= FEW
    assert set(packets["copies"]) <= {0, 1}
    assert all(event.details["at"] != "nve1" for event in learned_of(result, "red1"))


def learned_of(result: Result, vm: str) -> list[TraceEvent]:
    return [e for e in result.events if e.name == "entry-learned" and e.subject == vm]


def test_tcp_lives_on_through_tunnels_and_a_move(tmp_path: Path) -> None:
    """With packets that a link's emulator could not divide: they are whole before they leave."""
    bulk = {"kind": "tcp-bulk", "from": "vm4", "to": "vm1", "rate_mbit": 20}
    moves = [to("nve2", 1, pause_ms=50)]
    result = run(tmp_path / "out", traffic=[bulk], moves=moves, duration_s=4)

    assert result.throughput is not None
    (resumed_ns,) = times_of(result, "vm-resumed")
    after = result.throughput[result.throughput["t_ns"] > resumed_ns + 1e9]
    assert (after["bits_per_second"] > 0).any()
