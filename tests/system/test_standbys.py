"""Standbys: the server of a VM dies, and what was mirrored goes on at another NVE (R7.2, R7.3)."""

from pathlib import Path
from typing import Any

import pytest

from experiments.scenario.schema import Scenario
from tests.helpers.runs import WHERE, probe, recorded, scenario, times_of

GUEST = {
    "memory_mb": 8,
    "writes": {"rate_mb_s": 1, "pattern": "hot-spot"},
    "disk_mb": 2,
    "disk_writes_mb_s": 0.2,
    "service": True,
}
CLIENTS = {f"c{number}": f"nve{3 + number % 2}" for number in range(12)}
"""So many that their flows do not all go to one of two instances (but once in 2,000 times)."""


def standby(kind: str, at: str = "nve2") -> dict[str, Any]:
    """A VM at nve1, and its standby."""
    mirrored = {"at": at, "kind": kind, "interval_s": 0.5, "detect_s": 1}
    return {"nve": "nve1", "guest": GUEST, "standby": mirrored}


def asking(source: str, of: str) -> dict[str, Any]:
    return {"kind": "service", "from": source, "to": of, "rate_rps": 50}


@pytest.mark.shows("R7.2", "R7.3")
@pytest.mark.parametrize("failure", ["nve-dies", "underlay-partition"])
def test_standbys_take_over_when_the_server_of_their_primaries_is_lost(
    tmp_path: Path, failure: str
) -> None:
    """It dies, or it is cut off from all others.  When it is back, its NVE takes nothing from the
    VMs' old ports; a neighbour there, whom the primary could answer all the time, is not answered
    by it any more before the standby goes on.
    """
    vms = {**WHERE, "vm1": standby("warm"), "vm2": standby("cold", "nve3"), "near": "nve1"}
    cut_off = failure == "underlay-partition"
    asked_by = [asking("vm4", "vm1"), asking("vm3", "vm2"), *[asking("near", "vm1")] * cut_off]
    wanted = scenario(
        tenants=[{"vni": 5000, "vms": vms}],
        traffic=[probe("vm4", "ipv4"), *asked_by],
        moves=[],
        failures=[{"kind": failure, "nve": "nve1", "at_s": 3.2, "for_s": 4}],
        duration_s=11,
    )
    outcome, result = recorded(wanted, tmp_path / "result")

    assert outcome.problems == []
    table = result.moves.drop_duplicates("move")
    assert list(table["mode"]) == ["take-over"] * 2
    assert list(table["outcome"]) == ["completed"] * 2
    assert list(table["state_equal"]) == [True] * 2
    why = "server-cut-off" if cut_off else "server-lost"
    assert sorted(event.subject for event in result.events if event.name == why) == ["vm1", "vm2"]
    fenced = [event.subject for event in result.events if event.name == "vm-fenced"]
    if not cut_off:
        assert sorted(fenced) == ["vm1", "vm2"]
        assert times_of(result, "vm-fenced")[0] > times_of(result, "move-redirected")[-1]
    asked, lost, mirrors = result.rows("service"), result.takeovers, result.mirrors
    assert asked is not None
    assert lost is not None
    assert mirrors is not None
    assert dict(zip(lost["vm"], lost["kind"], strict=True)) == {"vm1": "warm", "vm2": "cold"}
    for row in lost.to_dict("records"):
        assert row["mirror"] > 1
        # What is lost is what was answered since the mirror.
        assert 0 < row["lost_age_ms"] <= row["mirror_age_ms"]
        given = asked[asked["flow"].str.contains(f">{row['vm']}/")].dropna(subset="counter")
        resumed_ns = row["failed_ns"] + row["resumed_ms"] * 1e6
        before, after = (given[(given["answered_ns"] < resumed_ns) == early] for early in (1, 0))
        again = after["counter"] <= before["counter"].max()
        assert again.sum() == row["lost_requests"] > 0
        assert after["counter"].is_unique
        numbers = mirrors[mirrors["vm"] == row["vm"]]["mirror"]
        assert list(numbers) == list(range(1, len(numbers) + 1))
    if cut_off:
        near = asked[asked["flow"].str.startswith("near>")].dropna(subset="answered_ns")
        (began_ns,) = times_of(result, "failure-injected")
        of_vm1 = [event for event in result.events if event.subject == "vm1"]
        fenced_ns = next(event.t_ns for event in of_vm1 if event.name == "move-redirected")
        resumed_ns = next(event.t_ns for event in of_vm1 if event.name == "vm-resumed")
        asked_before = near[near["t_ns"].between(began_ns, fenced_ns)]
        assert (asked_before["answered_ns"] < fenced_ns).any(), "the primary did not run any more"
        asked_after = near[near["t_ns"] > fenced_ns]
        assert (asked_after["answered_ns"] > resumed_ns).all()
        assert not asked_after.empty
        assert any(row["what"] == "fenced" for row in result.refused), result.refused


@pytest.mark.shows("R7.3")
def test_a_vm_is_mirrored_from_its_new_place_after_a_move(tmp_path: Path) -> None:
    """One VM moves past its standby, the other to it: that takes only the rest of its state along,
    and has its standby where it was.  A standby's server is cut off for longer than a mirror waits,
    and comes back.  When there is a mirror again, the server of both VMs dies: nothing of what they
    did there is lost but since that.
    """
    past, to = standby("warm"), standby("warm", "nve3")
    to["standby"]["reverse"] = True
    slow = {"to": "nve3", "transfer": {"bandwidth_mbit": 80}}
    cut_off = {"kind": "underlay-partition", "nve": "nve2", "move": 1}
    wanted = scenario(
        tenants=[{"vni": 5000, "vms": {**WHERE, "vm1": past, "vm2": to, "vm5": "nve1"}}],
        traffic=[asking("vm3", "vm1"), asking("vm3", "vm2")],
        moves=[
            {"at_s": 1, "vm": "vm1", **slow},
            {"at_s": 2, "vm": "vm2", **slow},
            {"at": {"after": "mirror-whole-again", "s": 0.5}, "vm": "vm5", "to": "nve2"},
        ],
        failures=[
            {**cut_off, "during": "converged", "for_s": 8},
            {"kind": "nve-dies", "nve": "nve3", "move": 3, "during": "converged", "for_s": 3},
        ],
        duration_s=25,
    )
    outcome, result = recorded(wanted, tmp_path / "result")

    assert outcome.problems == []
    table = result.moves.drop_duplicates("move")
    assert list(table["mode"]) == ["hot"] * 3 + ["take-over"] * 2
    assert list(table["outcome"]) == ["completed"] * 5
    assert list(table["state_equal"].dropna()) == [True] * 4
    whole, rest = table["transfer_bytes"][:2]
    assert whole > table["state_bytes"].iloc[0]
    assert rest < table["state_bytes"].iloc[1] / 2
    assert [e.subject for e in result.events if e.name == "mirror-used"] == ["vm2"]
    assert [e.details["nve"] for e in result.events if e.name == "standby-reversed"] == ["nve1"]
    assert result.takeovers is not None
    lost = {row["vm"]: row for row in result.takeovers.to_dict("records")}
    assert (lost["vm1"]["from_nve"], lost["vm1"]["to_nve"]) == ("nve3", "nve2")
    assert (lost["vm2"]["from_nve"], lost["vm2"]["to_nve"]) == ("nve3", "nve1")
    broken = ("mirror-failed", "mirror-whole-again")
    told = [(event.name, event.subject) for event in result.events if event.name in broken]
    assert told == [(name, "vm1") for name in broken]
    back_ns = times_of(result, "failure-ended")[0]
    assert lost["vm1"]["mirror_age_ms"] < (lost["vm1"]["failed_ns"] - back_ns) / 1e6
    resumed = [e for e in result.events if e.name == "vm-resumed"][:2]
    for event in resumed:
        row = lost[event.subject]
        assert row["mirror_age_ms"] < (row["failed_ns"] - event.t_ns) / 1e6
    # Before the server has died, nobody has met state of before.
    asked = result.rows("service")
    assert asked is not None
    assert not asked["went_back"][asked["answered_ns"] < lost["vm1"]["failed_ns"]].any()


def with_a_hot_standby(failure: dict[str, Any], detect_s: float) -> Scenario:
    """A VM with a standby at `nve2`, which everybody in CLIENTS asks."""
    standby = {"at": "nve2", "kind": "hot", "detect_s": detect_s}
    hot = {"nve": "nve1", "guest": GUEST, "standby": standby}
    return scenario(
        topology={"kind": "star", "nves": 4, "link": {"delay_ms": 1}},
        tenants=[{"vni": 5000, "vms": {"vm1": hot, **CLIENTS}}],
        traffic=[{**asking(client, "vm1"), "rate_rps": 10} for client in CLIENTS],
        moves=[],
        failures=[failure],
        duration_s=9,
    )


@pytest.mark.shows("R7.4")
def test_a_hot_standby_serves_beside_its_primary_and_goes_on_without_it(tmp_path: Path) -> None:
    """The VM's own server dies: what was answered stands, nothing is moved, clients go on."""
    failure = {"kind": "nve-dies", "nve": "nve1", "at_s": 4, "for_s": 3}
    outcome, result = recorded(with_a_hot_standby(failure, detect_s=0.5), tmp_path / "result")

    assert outcome.problems == []
    assert len(result.moves) == 0
    asked, lost, costs = result.rows("service"), result.takeovers, result.standbys
    assert asked is not None
    assert lost is not None
    assert costs is not None
    assert not asked["went_back"].any()
    numbers = asked["counter"].dropna()
    assert numbers.is_unique
    (row,) = lost.to_dict("records")
    assert (row["kind"], row["from_nve"], row["to_nve"]) == ("hot", "nve1", "nve2")
    assert row["lost_requests"] == 0
    (cost,) = costs.to_dict("records")
    assert cost["answered_first"] > 20
    assert cost["answered_second"] > 20
    (alone_ns,) = times_of(result, "instance-alone")
    (fenced_ns,) = times_of(result, "instance-fenced")
    assert fenced_ns < alone_ns
    for _, of_client in asked.groupby("flow"):
        assert (of_client["answered_ns"].dropna() > alone_ns).sum() > 5
    assert times_of(result, "vm-fenced")[0] > alone_ns


@pytest.mark.shows("R7.4")
def test_of_a_hot_standby_that_is_cut_off_one_instance_goes_on(tmp_path: Path) -> None:
    """Both servers run, and the VM's own is cut off from all others: the one that clients still
    reach goes on, after the other one is fenced; no number is given twice."""
    failure = {"kind": "underlay-partition", "nve": "nve1", "at_s": 3, "for_s": 3}
    outcome, result = recorded(with_a_hot_standby(failure, detect_s=1), tmp_path / "result")

    assert outcome.problems == []
    asked = result.rows("service")
    assert asked is not None
    assert not asked["went_back"].any()
    assert asked["counter"].dropna().is_unique
    (cut_ns,) = times_of(result, "instance-cut-off")
    (fenced_ns,) = times_of(result, "instance-fenced")
    (alone_ns,) = times_of(result, "instance-alone")
    assert cut_ns < fenced_ns < alone_ns
    (alone,) = [event for event in result.events if event.name == "instance-alone"]
    assert alone.details["nve"] == "nve2"
    # Between the cut and the fence nobody is answered, at either instance.
    (began_ns,) = [e.t_ns for e in result.events if e.name == "failure-injected"]
    asked_meanwhile = asked[asked["t_ns"].between(began_ns, fenced_ns)]
    assert not (asked_meanwhile["answered_ns"] < fenced_ns).any()
    for _, of_client in asked.groupby("flow"):
        assert (of_client["answered_ns"].dropna() > alone_ns).any()
