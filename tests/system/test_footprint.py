"""What a test leaves on the machine is seen, whatever it is."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.machine import ROOT
from tests.helpers.footprint import MARK, Presence
from tests.helpers.wait import wait_until
from topologies.emulation.session import RUN_DIRECTORY, Session

pytestmark = pytest.mark.alone

LEAVES_A_PROCESS = """
import subprocess

def test_leaves_a_process():
    left = subprocess.Popen("setsid sleep 60 & echo left $!", shell=True, stdout=-1, text=True)
    print(left.stdout.readline())
    left.wait()

def test_leaves_nothing():
    pass
"""


def test_nothing_is_added_by_looking() -> None:
    assert Presence.now().added(since=Presence.now()) is None


def test_a_session_is_seen_until_it_is_closed() -> None:
    before = Presence.now()
    with Session.create("footprint") as session:
        said = Presence.now().added(since=before)
        assert said is not None
        assert str(session.directory) in said
        assert str(session.cgroup) in said
    assert Presence.now().added(since=before) is None


def test_a_session_of_somebody_else_is_seen_when_nobody_owns_it_any_more() -> None:
    """Another worker's lab may stand beside this one's; what it leaves is left behind."""
    before = Presence.now()
    unmarked = {name: value for name, value in os.environ.items() if name != MARK}
    owner = subprocess.Popen(["sleep", "60"], env=unmarked)
    directory = RUN_DIRECTORY / f"vmmlab-{owner.pid}-0000"
    directory.mkdir(parents=True)
    try:
        beside = Presence.now().added(since=before)
        owner.kill()
        owner.wait()
        left = Presence.now().added(since=before)
    finally:
        directory.rmdir()
    assert str(directory) not in (beside or "")
    assert left is not None
    assert str(directory) in left


@pytest.mark.parametrize(
    ("leave", "remove", "named"),
    [
        ("ip link add vmmlableft type veth", "ip link del vmmlableft", "'interfaces'"),
        ("ip netns add vmmlab-left", "ip netns del vmmlab-left", "'namespaces'"),
    ],
)
def test_interfaces_and_namespaces_are_seen(leave: str, remove: str, named: str) -> None:
    before = Presence.now()
    subprocess.run(leave.split(), check=True)
    try:
        said = Presence.now().added(since=before)
    finally:
        subprocess.run(remove.split(), check=True)
    assert said is not None
    assert named in said


def test_a_process_without_its_parent_is_seen_with_its_namespace() -> None:
    before = Presence.now()
    start = "unshare --net sleep 60 >/dev/null & echo $!"
    pid = int(subprocess.run(["sh", "-c", start], stdout=-1, check=True).stdout)
    ours = os.readlink("/proc/self/ns/net")
    try:
        wait_until(lambda: "no namespace" if os.readlink(f"/proc/{pid}/ns/net") == ours else None)
        said = Presence.now().added(since=before)
    finally:
        os.kill(pid, signal.SIGKILL)
    assert said is not None
    assert f"{pid} " in said
    assert "net:[" in said


def test_a_test_that_leaves_a_process_fails_and_only_that(tmp_path: Path) -> None:
    """The fixture itself, in a run of tests of its own."""
    file = tmp_path / "test_untidy.py"
    file.write_text(LEAVES_A_PROCESS)
    argv = [sys.executable, "-m", "pytest", "-p", "tests.system.conftest", "-rA", "-q"]
    argv += ["-p", "no:cacheprovider", "-c", str(ROOT / "pyproject.toml"), str(file)]
    done = subprocess.run(argv, capture_output=True, text=True, cwd=ROOT, check=False)
    (left,) = {int(line.split()[1]) for line in done.stdout.splitlines() if line[:5] == "left "}
    os.kill(left, signal.SIGKILL)
    assert done.returncode == 1, done.stdout
    assert "left behind: {'processes': [" in done.stdout
    assert "ERROR" in done.stdout
    assert "test_leaves_a_process" in done.stdout.partition("short test summary")[2]
