"""Capability probes: what they read, and that "no" is an answer, whatever this machine can do."""

import os
from pathlib import Path

import pytest

from nve.linux import capabilities

HYBRID = """\
tmpfs /sys/fs/cgroup tmpfs rw,relatime,mode=755 0 0
cgroup /sys/fs/cgroup/freezer cgroup rw,relatime,freezer 0 0
cgroup2 /sys/fs/cgroup/unified cgroup2 rw,relatime 0 0
"""


@pytest.mark.parametrize(
    ("mounts", "expected"),
    [
        (HYBRID, Path("/sys/fs/cgroup/unified")),
        ("cgroup2 /sys/fs/cgroup cgroup2 rw,nosuid 0 0\n", Path("/sys/fs/cgroup")),
        ("none /run/my\\040cgroups cgroup2 rw 0 0\n", Path("/run/my cgroups")),
        ("tmpfs /sys/fs/cgroup tmpfs rw 0 0\n", None),
        ("", None),
    ],
)
def test_the_cgroup2_mount_is_found_in_proc_mounts(mounts: str, expected: Path | None) -> None:
    assert capabilities.cgroup2_mount_in(mounts) == expected


def test_without_a_cgroup2_mount_there_is_no_freezer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capabilities, "cgroup2_mount", lambda: None)
    assert capabilities.freezer_available.__wrapped__() is False


def test_a_probe_leaves_no_cgroup_where_there_is_no_freezer(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    not_cgroup2 = tmp_path / "not-there"
    monkeypatch.setattr(capabilities, "cgroup2_mount", lambda: not_cgroup2)
    assert capabilities.freezer_available.__wrapped__() is False
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "probe",
    [
        capabilities.kernel_datapath_available,
        capabilities.userspace_datapath_available,
        capabilities.netem_available,
        capabilities.ifb_available,
        capabilities.vxlan_available,
    ],
)
def test_a_machine_without_any_tool_has_no_capability(
    probe: object, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(capabilities, "SYSTEM_FOLDERS", str(tmp_path))
    assert probe.__wrapped__() is False  # type: ignore[attr-defined]


def test_a_probe_can_succeed() -> None:
    assert capabilities._succeeds(["true"])
    assert not capabilities._succeeds(["false"])


def test_programs_of_the_system_are_found_after_su(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whose path lacks their folders; another one stays as it is."""
    for before, after in (
        ("/usr/bin:/bin", "/usr/bin:/bin:/usr/sbin:/sbin"),
        ("/sbin:/usr/sbin:/bin:/usr/bin", "/sbin:/usr/sbin:/bin:/usr/bin"),
        ("/opt/only", "/opt/only"),
    ):
        monkeypatch.setenv("PATH", before)
        capabilities.find_system_programs()
        assert os.environ["PATH"] == after
