"""Servers that have room for so much and no more, on real parts."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from experiments.run.lab import Lab
from nve.hypervisor import cgroup_limits
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


@pytest.fixture(scope="module")
def limited() -> Iterator[Lab]:
    """vm2 has a limit of everything."""
    resources = {"cpu": 0.2, "memory_mb": 16, "processes": 30}
    vms = {"vm1": "nve1", "vm2": {"nve": "nve2", "resources": resources}}
    tenants = [{"vni": 5000, "vms": vms}]
    with Lab(scenario(tenants=tenants, traffic=[], moves=[])) as running:
        yield running


def ends(lab: Lab, program: str) -> tuple[int, str]:
    """How a Python program ends in vm2, and what it has said."""
    process = lab.data_centre.in_vm(
        "vm2", [sys.executable, "-c", program], stderr=subprocess.PIPE, text=True
    )
    _, said = process.communicate(timeout=60)
    return process.returncode, said


def by(lab: Lab, controller: str) -> str:
    """The cgroup version that limits; the test is skipped where none does."""
    there = cgroup_limits.available()
    if controller not in there:
        pytest.skip(f"no cgroup limits {controller} here")
    assert lab.data_centre.limits["vm2"][controller] == there[controller]
    return there[controller]


@pytest.mark.shows("R8.2")
def test_a_vm_has_no_more_memory_than_was_asked_for(limited: Lab) -> None:
    by(limited, "memory")
    assert ends(limited, "len(b'x' * (16 << 20))") == (0, "")
    killed, _ = ends(limited, "len(b'x' * (400 << 20))")
    assert killed != 0


@pytest.mark.shows("R8.2")
def test_a_vm_has_no_more_processes_than_were_asked_for(limited: Lab) -> None:
    by(limited, "pids")
    fork = "import os, signal; children = []\ntry:\n  for _ in range(60):\n    child = os.fork()\n"
    fork += "    if not child: signal.pause()\n    children.append(child)\n"
    fork += "finally:\n  [os.kill(child, 9) for child in children]"
    ended, said = ends(limited, fork)
    assert ended == 1
    assert "BlockingIOError" in said


@pytest.mark.shows("R8.2")
def test_a_vm_that_computes_is_throttled(limited: Lab) -> None:
    version = by(limited, "cpu")
    ends(limited, "import time\nwhile time.process_time() < 0.3: 0")
    cgroup = limited.data_centre.vms["vm2"].cgroup
    places = [each / cgroup.name for each in cgroup_limits.twins(cgroup.parent)]
    counts = [each / "cpu.stat" for each in ([cgroup] if version == "cgroup v2" else places)]
    (stat,) = (each.read_text().split() for each in counts if each.exists())
    assert int(stat[stat.index("nr_throttled") + 1]) > 0
