"""A guest with state: its log, and the kernel's, of what it writes; its life in a VM."""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from nve.guest.machine import NO_FILE, GuestError, GuestMachine
from nve.guest.pages import WORDS, broken
from nve.guest.spec import PAGE_SIZE, GuestSpec
from nve.linux import written_pages
from nve.linux.wait import wait_until
from nve.linux.written_pages import PagemapScan, SoftDirty
from tests.helpers.runs import WHERE, recorded, scenario

SPEC = GuestSpec(memory_mb=16, writes_mb_s=20, working_set_mb=8, disk_mb=4, disk_writes_mb_s=2)

ALL_IN_THE_PAUSE = {"kind": "stop-and-copy", "bandwidth_mbit": 100}
"""8 MiB take more than 0.6 s."""


@contextmanager
def running(spec: GuestSpec, directory: Path, *, protected: bool = False) -> Iterator[GuestMachine]:
    machine = GuestMachine("vm1", spec, directory, NO_FILE)
    try:
        machine.launch(subprocess.Popen, protected=protected)
        machine.await_ready()
        yield machine
    finally:
        machine.close()


@contextmanager
def standing_still(machine: GuestMachine) -> Iterator[None]:
    """Nothing of it runs: the kernel says so."""
    os.kill(machine.pid, signal.SIGSTOP)
    wait_until(lambda: None if state_of(machine) == "T" else "it runs", 5)
    yield
    os.kill(machine.pid, signal.SIGCONT)


def state_of(machine: GuestMachine) -> str:
    return Path(f"/proc/{machine.pid}/stat").read_text().rpartition(")")[2].split()[0]


def written_more(machine: GuestMachine, pages: int) -> None:
    before = machine.log.writes
    wait_until(lambda: None if machine.log.writes >= before + pages else "too few", 30)


def kernels(machine: GuestMachine) -> "PagemapScan | SoftDirty":
    if written_pages.soft_dirty_available():
        return SoftDirty(machine.pid, machine.address, SPEC.memory_pages)
    return PagemapScan(machine.pid, machine.address, SPEC.memory_pages)


def test_the_log_has_the_pages_that_the_kernel_has_seen_written(tmp_path: Path) -> None:
    try:
        in_place = running(SPEC, tmp_path, protected=not written_pages.soft_dirty_available())
        with in_place as machine:
            kernel = kernels(machine)
            for round_ in range(5):
                with standing_still(machine):
                    maybe = set(machine.log.written_anyway())
                    logged = {page for page in machine.log.harvest() if page < SPEC.memory_pages}
                    seen = set(kernel.written())
                    if round_:  # the first answers hold all that was before
                        assert seen <= logged | maybe
                        assert logged <= seen
                        assert len(seen) > 100
                written_more(machine, 400)
            kernel.close()
    except GuestError as error:
        if "userfaultfd" in str(error):
            pytest.skip(f"this kernel notes no writes: {error}")
        raise


def test_the_log_can_be_read_while_the_guest_writes(tmp_path: Path) -> None:
    spec = GuestSpec(memory_mb=256, writes_mb_s=100)
    with running(spec, tmp_path) as machine:
        found = 0
        while machine.log.writes < 5000:
            found += len(machine.log.harvest())
        assert found > 1000


def test_every_page_is_whole_in_memory_and_on_the_disk(tmp_path: Path) -> None:
    with running(SPEC, tmp_path) as machine:
        written_more(machine, 2000)
        with standing_still(machine):
            busy = set(machine.log.written_anyway())
            for file, first, pages in (
                (machine.memory, 0, SPEC.memory_pages),
                (machine.disk, SPEC.memory_pages, SPEC.disk_pages),
            ):
                octets = os.pread(file, pages * PAGE_SIZE, 0)
                rows = np.frombuffer(octets, np.uint64).reshape(pages, WORDS)
                wrong = set(broken(rows, np.arange(first, first + pages)))
                assert wrong <= busy
                assert rows[1:, 1].max() > 0, "nothing was written"
        assert machine.failure() is None
        assert (tmp_path / "vm1.disk").stat().st_size == SPEC.disk_pages * PAGE_SIZE


def test_a_guest_notices_a_page_that_was_changed_behind_its_back(tmp_path: Path) -> None:
    with running(SPEC, tmp_path) as machine:
        os.pwrite(machine.memory, bytes(2 * PAGE_SIZE), 8 * PAGE_SIZE)
        wait_until(lambda: None if machine.log.broken else "not noticed", 30)
        assert "broken" in str(machine.failure())


def test_a_guest_that_has_ended_says_why(tmp_path: Path) -> None:
    machine = GuestMachine("vm1", SPEC, tmp_path, NO_FILE)
    machine.launch(subprocess.Popen, incoming=True)
    machine.await_ready()
    machine.go_on()  # from empty pages
    wait_until(lambda: None if "has ended" in str(machine.failure()) else "it runs", 30)
    assert "registers" in str(machine.failure())
    machine.close()


def test_a_guest_that_is_throttled_by_all_writes_nothing(tmp_path: Path) -> None:
    machine = GuestMachine("vm1", SPEC, tmp_path, NO_FILE)
    machine.log.throttle_pct = 100
    try:
        machine.launch(subprocess.Popen)
        machine.await_ready()
        turns = turns_of(machine)
        wait_until(lambda: None if turns_of(machine) > turns + 20 else "it did not run", 30)
        assert machine.log.writes == 0
        machine.log.throttle_pct = 0
        written_more(machine, 100)
    finally:
        machine.close()


def turns_of(machine: GuestMachine) -> int:
    """How often the guest has waited for its next tick."""
    lines = Path(f"/proc/{machine.pid}/status").read_text().splitlines()
    (found,) = (line.split()[1] for line in lines if line.startswith("voluntary_ctxt"))
    return int(found)


def test_a_guest_is_asked_in_its_vm_and_stands_still_with_it(tmp_path: Path) -> None:
    """It runs in the cgroup and the network namespace of its VM, which a hot move pauses."""
    guest = {"memory_mb": 8, "writes": {"rate_mb_s": 4}, "service": True}
    where = {**WHERE, "vm1": {"nve": "nve1", "guest": guest}}
    changes = {
        "tenants": [{"vni": 5000, "vms": where}],
        "traffic": [{"kind": "service", "from": "vm3", "to": "vm1", "rate_rps": 100}],
        "moves": [{"at_s": 1, "vm": "vm1", "to": "nve2", "transfer": ALL_IN_THE_PAUSE}],
        "overlay__hold": True,
        "duration_s": 8,
    }
    outcome, result = recorded(scenario(**changes), tmp_path / "result")

    assert outcome.problems == []
    asked = result.rows("service")
    assert asked is not None
    assert len(asked) > 50
    assert not asked["went_back"].any()
    assert asked["latency_ms"].max() > 300, "it answered while its VM was paused"
    assert result.manifest["guests"]["vm1"]["writes_reached_mb_s"] > 0
