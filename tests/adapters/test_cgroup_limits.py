"""Limits of VMs: which files of which cgroup version they are; test_capacity.py sees them work."""

from pathlib import Path

import pytest

from nve.hypervisor import cgroup_limits
from nve.hypervisor.cgroup_limits import (
    CONTROLLERS,
    OVERHEAD_MB,
    CgroupLimits,
    Hierarchy,
    hierarchies,
    limits,
)
from nve.resources import NO_RESOURCES, Resources

DEBIAN = "cgroup2 /sys/fs/cgroup cgroup2 rw,nosuid 0 0\n"
HYBRID = (
    "tmpfs /sys/fs/cgroup tmpfs rw 0 0\n"
    "cgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,relatime,cpu,cpuacct 0 0\n"
    "cgroup /sys/fs/cgroup/memory cgroup rw,relatime,memory 0 0\n"
    "cgroup /sys/fs/cgroup/freezer cgroup rw,relatime,freezer 0 0\n"
    "cgroup2 /sys/fs/cgroup/unified cgroup2 rw,relatime 0 0\n"
)
ALL = Resources(cpu=0.25, memory_mb=64, storage_mb=10, processes=30)
OCTETS = str((64 + OVERHEAD_MB) << 20)


@pytest.mark.parametrize(
    ("mounts", "version_2", "found"),
    [
        (DEBIAN, {Path("/sys/fs/cgroup"): "cpuset cpu io memory pids\n"}, dict.fromkeys(
            CONTROLLERS, Hierarchy(Path("/sys/fs/cgroup"), 2)
        )),
        (DEBIAN, {Path("/sys/fs/cgroup"): "\n"}, {}),
        (HYBRID, {Path("/sys/fs/cgroup/unified"): "pids\n"}, {
            "cpu": Hierarchy(Path("/sys/fs/cgroup/cpu,cpuacct"), 1),
            "memory": Hierarchy(Path("/sys/fs/cgroup/memory"), 1),
            "pids": Hierarchy(Path("/sys/fs/cgroup/unified"), 2),
        }),
        ("", {}, {}),
    ],
)  # fmt: skip
def test_a_controller_is_in_one_version(
    mounts: str, version_2: dict[Path, str], found: dict[str, Hierarchy]
) -> None:
    assert hierarchies(mounts, version_2) == found


def test_what_is_not_said_is_not_limited() -> None:
    assert limits(NO_RESOURCES) == {}
    assert limits(Resources(storage_mb=10)) == {}
    assert limits(ALL) == {
        "memory": (OCTETS, {"memory.limit_in_bytes": OCTETS}),
        "cpu": ("25000 100000", {"cpu.cfs_period_us": "100000", "cpu.cfs_quota_us": "25000"}),
        "pids": ("30", {"pids.max": "30"}),
    }
    assert limits(Resources(cpu=1e-9))["cpu"][0] == "1000 100000", "the kernel takes no less"


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cgroup of a VM, below a mount of version 2 that has memory and pids; cpu is in version 1.

    Files are files here: what is written last is all there is in them.
    """
    mount, cpu = tmp_path / "unified", tmp_path / "cpu"
    cgroup = mount / "vmmlab/run/vm-vm1"
    cgroup.mkdir(parents=True)
    cpu.mkdir()
    for place in (mount, *(cgroup.parents[n] for n in (0, 1))):
        (place / "cgroup.subtree_control").write_text("")
    (cgroup / "cgroup.procs").write_text("17\n")
    there = {
        **{name: Hierarchy(mount, 2) for name in ("memory", "pids")},
        "cpu": Hierarchy(cpu, 1),
    }
    monkeypatch.setattr(cgroup_limits, "of_this_machine", lambda: there)
    monkeypatch.setattr(cgroup_limits, "cgroup2_mount", lambda: mount)
    return cgroup


def test_each_controller_is_told_in_its_version(machine: Path, tmp_path: Path) -> None:
    of_vm = CgroupLimits(machine)
    assert of_vm.set(ALL) == {"memory": "cgroup v2", "cpu": "cgroup v1", "pids": "cgroup v2"}

    assert (machine / "memory.max").read_text() == OCTETS
    assert (machine / "pids.max").read_text() == "30"
    for place in (machine.parent, machine.parents[1], tmp_path / "unified"):
        assert (place / "cgroup.subtree_control").read_text() == "+pids"
    twin = tmp_path / "cpu/vmmlab/run/vm-vm1"
    assert (twin / "cpu.cfs_quota_us").read_text() == "25000"
    assert (twin / "cgroup.procs").read_text() == "17", "who was there already is limited, too"
    assert of_vm.procs == [machine / "cgroup.procs", twin / "cgroup.procs"]


def test_what_cannot_be_limited_here_is_not_said_to_be(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (machine.parent / "cgroup.subtree_control").unlink()
    (machine.parent / "cgroup.subtree_control").mkdir()  # to write there fails
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: "")
    assert CgroupLimits(machine).set(Resources(memory_mb=1)) == {}
    monkeypatch.setattr(cgroup_limits, "of_this_machine", dict)
    assert CgroupLimits(machine).set(ALL) == {}
