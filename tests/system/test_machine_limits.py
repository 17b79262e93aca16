"""What the machine drops is not taken for a loss of the network: real tables and sockets."""

import json
import shutil
import subprocess
import sys
from array import array
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from experiments import resources
from experiments.measure import kernel_counters, results
from experiments.measure.recording import Recorder
from experiments.measure.trace import TraceEvent
from experiments.probes import samples
from experiments.run.kernel_watch import KernelWatch
from experiments.run.run import Options, run
from experiments.run.traffic import RunTraffic
from tests.helpers.lab import data_centre, vm_spec
from tests.helpers.runs import scenario
from topologies.emulation import host_settings
from topologies.emulation.session import Session

pytestmark = pytest.mark.alone
"""The machine's own settings are changed."""

LIMITS = [f"net/ipv4/neigh/default/gc_thresh{number}" for number in (1, 2, 3)]
FLOOD = """
import socket
deaf = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
deaf.bind(("127.0.0.1", 0))
sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for _ in range(100):
    sender.sendto(bytes(1000), deaf.getsockname())
"""


def on_the_machine() -> list[int | None]:
    return [host_settings.value_of(name) for name in LIMITS]


@contextmanager
def few_neighbours() -> Iterator[None]:
    """The kernel's table of neighbours has room for next to none that it does not know yet."""
    before = on_the_machine()
    try:
        set_limits([1, 1, 1])
        yield
    finally:
        set_limits(before)


def set_limits(values: list[int | None]) -> None:
    for name, value in zip(LIMITS, values, strict=True):
        (host_settings.SYSCTLS / name).write_text(str(value))


def test_a_full_table_of_neighbours_makes_a_run_not_valid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing raises the limit, and VMs meet for the first time when the traffic begins."""
    monkeypatch.setattr(resources, "settings", lambda _: {})
    monkeypatch.setattr(RunTraffic, "await_reachable", lambda _: None)
    quick = scenario(moves=[], duration_s=1)
    with few_neighbours(), Recorder.create(tmp_path / "result") as recorder:
        outcome = run(quick, recorder.run(), Options())
    told = [problem for problem in outcome.problems if "table of IPv4 neighbours" in problem]
    assert len(told) == 1, outcome.problems
    assert "raise net.ipv4.neigh.default.gc_thresh3" in told[0]
    manifest = results.load(tmp_path / "result").manifest
    assert not manifest["valid"]
    assert manifest["kernel_counters"]["neighbour-table-ipv4"]["the machine"] > 0


def test_what_a_socket_has_to_drop_makes_a_run_not_valid() -> None:
    with data_centre(vms=(vm_spec(1, "nve1"), vm_spec(2, "nve1"))) as running:
        watch = KernelWatch(running)
        assert kernel_counters.verdict(watch.rises(), lost=1).problems == []
        assert running.in_vm("vm2", [sys.executable, "-c", FLOOD]).wait(20) == 0
        (told,) = kernel_counters.verdict(watch.rises(), lost=1).problems
        assert "UDP packets had arrived and found no room in a socket at vm2" in told


def test_what_a_run_raises_is_put_back_when_the_last_has_ended() -> None:
    before = on_the_machine()
    assert all(before), "this kernel does not show its limits here"
    wanted = {name: value + 10 for name, value in zip(LIMITS, before, strict=True) if value}
    more = {name: value + 10 for name, value in wanted.items()}
    with (
        Session.create("one") as one,
        Session.create("two") as two,
        host_settings.raised(one, wanted),
    ):
        with host_settings.raised(two, more):
            assert on_the_machine() == list(more.values())
        assert on_the_machine() == list(wanted.values())
    assert on_the_machine() == before


def test_what_a_killed_run_has_raised_is_put_back_by_clean() -> None:
    before = on_the_machine()
    wanted = {name: value + 10 for name, value in zip(LIMITS, before, strict=True) if value}
    script = (
        "import time\n"
        "from topologies.emulation import host_settings\n"
        "from topologies.emulation.session import Session\n"
        f"with host_settings.raised(Session.create('killed'), {wanted}):\n"
        "    print('raised', flush=True); time.sleep(600)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "raised\n"
    process.kill()
    process.wait()
    process.stdout.close()
    assert on_the_machine() == list(wanted.values())
    clean = [sys.executable, "-c", "from experiments.cli import main; main()", "clean"]
    cleaned = subprocess.run(clean, capture_output=True, text=True, check=True)
    assert "put net.ipv4.neigh.default.gc_thresh3 back to" in cleaned.stdout
    assert on_the_machine() == before


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB."""
    place = tmp_path / "small"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", str(place)], check=True)
    yield place
    subprocess.run(["umount", str(place)], check=True)


def fill(place: Path) -> None:
    with suppress(OSError), (place / "filling").open("wb", buffering=0) as file:
        while file.write(bytes(4096)):
            pass
    assert shutil.disk_usage(place).free == 0


def test_on_a_disk_that_has_become_full_what_was_measured_is_kept_and_marked(
    small_disk: Path,
) -> None:
    event = TraceEvent(1, "runner", "traffic-started")
    measured = array("q", range(1000))
    with suppress(OSError), Recorder.create(small_disk / "result") as recorder:
        recording = recorder.run()
        recording.samples.mkdir()
        samples.reserve(recording.samples / "vm1", len(measured))
        fill(small_disk)
        samples.write(recording.samples / "vm1", {"overflow": 0}, measured)
        with pytest.raises(OSError, match="No space left") as full:
            (recording.directory / "more").write_bytes(bytes(1 << 20))
        recording.make_room()
        recording.events([event])
        raise full.value
    kept = small_disk / "result"
    assert recorder.kept == f"what was written until then is in {kept}, marked as not complete"
    assert samples.read(kept / "samples/vm1") == ({"overflow": 0}, measured)
    assert event.name in (kept / "events.csv").read_text()
    manifest = json.loads((kept / "manifest.json").read_text())
    assert not manifest["complete"]
    assert "No space left" in manifest["problems"][0]
    assert not list(kept.glob(".*"))
