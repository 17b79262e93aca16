"""Servers that have room for so much and no more, on real parts."""

from pathlib import Path

import pytest

from tests.helpers.runs import probe, recorded, scenario

GUEST = {"memory_mb": 8, "writes": {"rate_mb_s": 1}}


@pytest.mark.shows("R6.1", "R8.2")
def test_a_full_server_refuses_a_move_until_it_has_room_again(tmp_path: Path) -> None:
    """VMs are on-boarded with what their guests have; nve2 has room for one and a half of them."""
    vms = {name: {"nve": "nve1", "guest": GUEST} for name in ("vm1", "vm2")}
    wanted = scenario(
        topology__servers={"nve2": {"memory_mb": 12}},
        tenants=[{"vni": 5000, "vms": {**vms, "vm3": "nve3"}}],
        traffic=[probe("vm3", "ipv4", "vm2")],
        moves=[
            {"at_s": 0.5, "vm": "vm1", "to": "nve2"},
            {"at_s": 4, "vm": "vm2", "to": "nve2", "expect": "refused"},
            {"at_s": 4.5, "vm": "vm1", "to": "nve1"},
            {"at_s": 10, "vm": "vm2", "to": "nve2"},
        ],
        overlay__hold=True,
        duration_s=13,
    )
    outcome, result = recorded(wanted, tmp_path / "result")

    assert outcome.problems == []
    table = result.moves.drop_duplicates("move")
    assert list(table["outcome"]) == ["completed", "refused", "completed", "completed"]
    events = {event.name: event for event in result.events}
    assert events["move-refused"].details["why"] == (
        "nve2 has no room for vm2: 8 MB of memory wanted, 4 free; make room there, or name another "
        "NVE"
    )
    on_boarded = [each.subject for each in result.events if each.name == "vm-on-boarded"]
    assert on_boarded == ["vm1", "vm2"]
    assert set(result.moves.dropna(subset=["flow"])["lost"]) == {0}
