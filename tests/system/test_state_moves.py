"""Hot moves of a VM with state: memory and disk cross the underlay, and it goes on with them."""

from pathlib import Path
from typing import Any

import pytest

from experiments.measure.results import Result
from tests.helpers.runs import WHERE, probe, recorded, scenario, times_of

GUEST = {
    "memory_mb": 8,
    "writes": {"rate_mb_s": 1, "pattern": "hot-spot"},
    "disk_mb": 2,
    "disk_writes_mb_s": 0.2,
    "service": True,
}
STATE_BYTES = 10 << 20


def with_state(*transfers: dict[str, Any], longer_s: float = 0, **changes: Any) -> Any:
    """vm1, with the guest, moves to nve2, back, and so on, every 6 s; beside it a probe."""
    moves = [
        {"at_s": 1 + 6 * number, "vm": "vm1", "to": f"nve{2 - number % 2}", "transfer": each}
        for number, each in enumerate(transfers)
    ]
    tenants = [{"vni": 5000, "vms": {**WHERE, "vm1": {"nve": "nve1", "guest": GUEST}}}]
    asking = {"kind": "service", "from": "vm3", "to": "vm1", "rate_rps": 50}
    return scenario(
        tenants=tenants,
        traffic=[probe("vm4", "ipv4"), asking],
        overlay__hold=True,
        overlay__end_marker=True,
        duration_s=1 + 6 * len(transfers) + longer_s,
        **{"moves": moves, **changes},
    )


def assert_state_went_with_it(result: Result, moves: int) -> None:
    table = result.moves.drop_duplicates("move")
    assert list(table["outcome"]) == ["completed"] * moves
    assert list(table["state_equal"]) == [True] * moves
    assert set(table["state_bytes"]) == {STATE_BYTES}
    felt = result.moves.dropna(subset=["flow"])
    assert set(felt["lost"]) == set(felt["duplicated"]) == set(felt["reordered"]) == {0}
    asked = result.rows("service")
    assert asked is not None
    waited = asked[asked["answered_ns"].isna()]
    assert (waited["attempts"] == 1).all(), "a request was not answered within 0.1 s, or at all"
    assert not asked["went_back"].any()
    last = times_of(result, "vm-resumed")[-1]
    assert (asked["answered_ns"] > last).any(), "nobody answered after the last move"


@pytest.mark.shows("R6.1", "R6.2", "R6.3", "R6.4", "R7.0")
def test_memory_and_disk_move_with_the_vm(tmp_path: Path) -> None:
    """First by pre-copy, then back by stop-and-copy: beside a probe, and slower than the path."""
    limited = {"bandwidth_mbit": 40, "downtime_limit_ms": 200}
    wanted = with_state(limited, {"kind": "stop-and-copy", "bandwidth_mbit": 80})
    outcome, result = recorded(wanted, tmp_path / "result")

    assert outcome.problems == []
    assert_state_went_with_it(result, 2)
    story = [event.name for event in result.events if event.details.get("move") == 1]
    order = [
        *("move-requested", "move-accepted", "transfer-connected", "transfer-rounds-ended"),
        *("vm-paused", "transfer-finished", "vm-resumed"),
    ]
    told = [event.name for event in result.events if event.name in order]
    assert told[: len(order)] == order
    assert "state-verified" in story

    rounds = result.iterations
    assert rounds is not None
    ahead, stopped = rounds[rounds["move"] == 1], rounds[rounds["move"] == 2]
    assert ahead["normal_pages"].iloc[0] * 4096 == STATE_BYTES
    assert list(stopped["status"]) == ["active", "device"]
    assert list(stopped["normal_pages"] >= [512, 2048]) == [True, True]
    pre_copy, stop = result.moves.drop_duplicates("move").to_dict("records")
    assert (pre_copy["transfer_end"], stop["transfer_end"]) == ("converged", "asked")
    assert pre_copy["pause_ms"] < stop["pause_ms"]


@pytest.mark.shows("R7.1", "R6.3", "R6.4")
@pytest.mark.parametrize("overlay", ["hold", "pull"])
def test_a_cold_move_brings_all_over_while_the_vm_is_suspended(
    tmp_path: Path, overlay: str
) -> None:
    """Pushed, with gates and markers that have nothing to do; and pulled, when entries time out.
    Beside it, a VM that has no state."""
    pulled = {"overlay": {"mapping_update": "pull", "lifetime_s": 2, "idle_s": 1}}
    moves = [
        {"at_s": 1, "vm": "vm1", "to": "nve2", "mode": "cold", "transfer": {"bandwidth_mbit": 80}},
        {"at_s": 1.5, "vm": "vm2", "to": "nve3", "mode": "cold", "pause_ms": 200},
    ]
    wanted = with_state({}, longer_s=1, **(pulled if overlay == "pull" else {}), moves=moves)
    outcome, result = recorded(wanted, tmp_path / "result")

    assert outcome.problems == []
    table = result.moves.drop_duplicates("move")
    assert list(table["mode"]) == ["cold"] * 2
    assert list(table["outcome"]) == ["completed"] * 2
    assert (
        set(table["tunnelled_packets"]) == set(table["packets_via_source_after_convergence"]) == {0}
    )
    (stateful, stateless) = table.to_dict("records")
    assert (stateful["transfer"], stateful["state_equal"]) == ("stop-and-copy", True)
    assert stateless["pause_ms"] >= 200
    order = [
        "vm-paused",
        "move-redirected",
        "transfer-connected",
        "transfer-finished",
        "vm-resumed",
    ]
    of_vm1 = [event for event in result.events if event.subject == "vm1"]
    times = [next(each.t_ns for each in of_vm1 if each.name == name) for name in order]
    assert times == sorted(times)
    asked = result.rows("service")
    assert asked is not None
    assert not asked["went_back"].any()
    assert (asked["t_ns"] > times[-1]).any(), "nobody answered after the move"


@pytest.mark.shows("R6.4", "R7.0")
def test_a_vm_goes_on_before_its_memory_has_come(tmp_path: Path) -> None:
    """By post-copy, and back by a hybrid over several channels, over a network that is not the
    tenants'."""
    post_copy = {"kind": "post-copy", "bandwidth_mbit": 40, "network": "migration"}
    rounds_first = {"post_copy_after": 1, "downtime_limit_ms": 0.1, "bandwidth_mbit": 80}
    hybrid = {"kind": "hybrid", "channels": 2, "network": "migration", **rounds_first}
    own = {"topology__migration_network": {"delay_ms": 0.5}}
    wanted = with_state(post_copy, hybrid, longer_s=2, **own)
    outcome, result = recorded(wanted, tmp_path / "result")

    assert outcome.problems == []
    assert_state_went_with_it(result, 2)
    moves = result.moves.drop_duplicates("move")
    assert list(moves["transfer_end"]) == ["post-copy", "post-copy"]
    assert list(moves["transfer_network"]) == ["migration", "migration"]
    frames = {link["direction"]: link["forwarded"] for link in result.manifest["links"]}
    assert min(frames["nve1>mig"], frames["nve2>mig"]) > STATE_BYTES / 65_536, "segments are large"
    most = max(frames["nve1>core"], frames["nve2>core"])
    assert most < STATE_BYTES / 1500 / 2, "state went over the tenants' path"
    ended = times_of(result, "post-copy-finished")
    assert [a < b for a, b in zip(times_of(result, "vm-resumed"), ended, strict=True)] == [True] * 2

    rounds, faults = result.iterations, result.faults
    assert rounds is not None
    by_move = rounds.groupby("move")["status"].apply(list)
    assert by_move[1] == ["active", "device", "postcopy-active"]  # the disk goes ahead
    assert by_move[2] == ["active", "device", "postcopy-active"]
    device = rounds[(rounds["status"] == "device") & (rounds["move"] == 1)]
    assert int(device["remaining_bytes"].iloc[0]) == (8 << 20) - 4096
    assert faults is not None
    assert len(faults) == moves["faults"].sum() > 0
    assert (faults["latency_ms"] > 0).all()  # a page that is waited for may be on its way already
    assert moves["pause_ms"].iloc[0] < moves["post_copy_ms"].iloc[0]


@pytest.mark.shows("R6.2")
def test_a_vm_is_lost_whose_source_is_cut_off_in_a_post_copy(tmp_path: Path) -> None:
    slow = {"kind": "post-copy", "bandwidth_mbit": 10}
    cut = {"kind": "underlay-partition", "nve": "source", "during": "resumed", "for_s": 9}
    wanted = with_state(slow, failures=[cut], longer_s=8)
    outcome, result = recorded(wanted, tmp_path / "result")

    assert set(result.moves["outcome"]) == {"lost"}
    (lost_ns,) = times_of(result, "vm-lost")
    assert lost_ns > times_of(result, "vm-resumed")[0]
    asked = result.rows("service")
    assert asked is not None
    assert asked[asked["t_ns"] > lost_ns]["answered_ns"].isna().all(), "a lost VM has answered"
    assert outcome.problems == []


@pytest.mark.shows("R6.2")
def test_a_guest_goes_on_at_the_source_when_the_way_is_cut_during_a_round(tmp_path: Path) -> None:
    slow = {"bandwidth_mbit": 40, "downtime_limit_ms": 2}
    cut = {"kind": "underlay-partition", "nve": "destination", "during": "copying", "for_s": 6}
    wanted = with_state(slow, failures=[cut], longer_s=4)
    outcome, result = recorded(wanted, tmp_path / "result")

    assert set(result.moves["outcome"]) == {"rolled back"}
    (undone_ns,) = times_of(result, "move-undone")
    assert not times_of(result, "vm-paused")
    asked = result.rows("service")
    assert asked is not None
    assert not asked["went_back"].any()
    assert (asked["answered_ns"] > undone_ns).any(), "nobody answered at the source"
    assert outcome.problems == []
