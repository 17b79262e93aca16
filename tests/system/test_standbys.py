"""Standbys: the server of a VM dies, and what was mirrored goes on at another NVE (R7.2, R7.3)."""

from pathlib import Path
from typing import Any

import pytest

from tests.helpers.runs import WHERE, probe, recorded, scenario, times_of

GUEST = {
    "memory_mb": 8,
    "writes": {"rate_mb_s": 1, "pattern": "hot-spot"},
    "disk_mb": 2,
    "disk_writes_mb_s": 0.2,
    "service": True,
}


def with_standby(kind: str, **changes: Any) -> Any:
    """vm1 at nve1 with a standby at nve2; vm4, behind nve3, asks its service."""
    standby = {"at": "nve2", "kind": kind, "interval_s": 0.5, "detect_s": 0.3}
    vm1 = {"nve": "nve1", "guest": GUEST, "standby": standby}
    asking = {"kind": "service", "from": "vm4", "to": "vm1", "rate_rps": 50}
    given: dict[str, Any] = {
        "tenants": [{"vni": 5000, "vms": {**WHERE, "vm1": vm1}}],
        "traffic": [probe("vm4", "ipv4"), asking],
        "moves": [],
        "duration_s": 8,
    }
    return scenario(**{**given, **changes})


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param("warm", marks=pytest.mark.shows("R7.3")),
        pytest.param("cold", marks=pytest.mark.shows("R7.2")),
    ],
)
def test_a_standby_takes_over_when_the_server_of_its_primary_dies(
    tmp_path: Path, kind: str
) -> None:
    """The primary's NVE comes back after that, and takes nothing from the VM's old port."""
    dead = {"kind": "nve-dies", "nve": "nve1", "at_s": 3.2, "for_s": 2}
    outcome, result = recorded(with_standby(kind, failures=[dead]), tmp_path / "result")

    assert outcome.problems == []
    (move,) = result.moves.drop_duplicates("move").to_dict("records")
    assert (move["mode"], move["outcome"], move["to_nve"]) == ("take-over", "completed", "nve2")
    assert move["state_equal"]
    assert result.takeovers is not None
    (lost,) = result.takeovers.to_dict("records")
    assert (lost["kind"], lost["from_nve"], lost["to_nve"]) == (kind, "nve1", "nve2")
    assert lost["mirror"] > 1
    assert lost["lost_requests"] > 0
    # What is lost is what was answered since the mirror: its first change came after that.
    assert 0 < lost["lost_age_ms"] <= lost["mirror_age_ms"]
    asked = result.rows("service")
    assert asked is not None
    assert asked["went_back"].sum() == lost["lost_requests"]
    assert times_of(result, "vm-fenced"), "the primary's NVE was not told"
    assert times_of(result, "vm-fenced")[0] > times_of(result, "vm-resumed")[0]
    assert result.mirrors is not None
    assert list(result.mirrors["mirror"]) == list(range(1, len(result.mirrors) + 1))


@pytest.mark.shows("R7.3")
def test_a_vm_is_mirrored_from_its_new_place_after_a_move(tmp_path: Path) -> None:
    """Then the server there dies: nothing of what it did there is lost but since the mirror."""
    moves = [{"at_s": 1, "vm": "vm1", "to": "nve3", "transfer": {"bandwidth_mbit": 80}}]
    dead = {"kind": "nve-dies", "nve": "nve3", "at_s": 8, "for_s": 1}
    asking = {"kind": "service", "from": "vm2", "to": "vm1", "rate_rps": 50}
    wanted = with_standby("warm", moves=moves, failures=[dead], traffic=[asking], duration_s=11)
    outcome, result = recorded(wanted, tmp_path / "result")

    assert outcome.problems == []
    table = result.moves.drop_duplicates("move")
    assert list(table["mode"]) == ["hot", "take-over"]
    assert list(table["outcome"]) == ["completed"] * 2
    assert list(table["state_equal"]) == [True] * 2
    assert result.takeovers is not None
    (lost,) = result.takeovers.to_dict("records")
    assert (lost["from_nve"], lost["to_nve"]) == ("nve3", "nve2")
    resumed_ns, _ = times_of(result, "vm-resumed")
    assert lost["mirror_age_ms"] < (lost["failed_ns"] - resumed_ns) / 1e6
