"""What makes measured packets unfit to be read as the network's doing."""

import errno
import subprocess
import sys
from array import array
from types import SimpleNamespace
from typing import Any

import pytest

from experiments.probes import samples
from experiments.probes.fleet import ProbeFleet, problems
from experiments.probes.udp import FlowPlan, Plan


def summary(overflow=0, stopped_early=False):
    return {
        "receivers": {"vm1": {"overflow": overflow, "foreign": 0}},
        "senders": {"vm2": {"stopped_early": stopped_early, "flows": {}}},
    }


def test_a_good_run_has_no_problem():
    assert problems(summary(), unmatched=0) == []


def test_the_receivers_own_drops_are_not_the_networks():
    [problem] = problems(summary(overflow=3), unmatched=0)
    assert "receiver in vm1 dropped 3 packets itself" in problem


def test_a_sender_that_was_stopped_and_a_delivery_nobody_sent():
    found = problems(summary(stopped_early=True), unmatched=2)
    assert len(found) == 2


def test_samples_survive_their_file(tmp_path):
    values = array("q", [1, -2, 2**62])
    samples.write(tmp_path / "s", {"overflow": 0}, values)
    assert samples.read(tmp_path / "s") == ({"overflow": 0}, values)


def test_samples_that_find_no_room_say_so_by_the_status(tmp_path, monkeypatch):
    (tmp_path / "s.partial").symlink_to("/dev/full")

    def full(_):
        raise OSError(errno.ENOSPC, "its complaints go to the same disk")

    monkeypatch.setattr(sys, "stderr", SimpleNamespace(write=full, flush=lambda: None))
    with pytest.raises(SystemExit) as ending:
        samples.write(tmp_path / "s", {}, array("q", range(10_000)))
    assert ending.value.code == errno.ENOSPC


def test_a_full_disk_is_an_error_of_the_disk_once_all_others_have_written(tmp_path):
    flows = tuple(FlowPlan(f"vm1>{vm}", "vm1", vm, "::1", 1) for vm in ("vm2", "vm3"))
    ended = []

    def process(vm, argv, **options):
        role = argv[2].rpartition(".")[2]
        full = errno.ENOSPC if (vm, role) == ("vm2", "receiver") else 0
        ends = f"import sys; print('ready', flush=True); sys.stdin.read(); sys.exit({full})"
        made: Any = subprocess.Popen([sys.executable, "-c", ends], **options)

        def terminate():
            made.stdin.close()
            ended.append(vm)

        made.terminate = terminate
        if role == "sender":
            made.stdin.close()
        return made

    fleet = ProbeFleet(Plan(1, 1.0, flows), tmp_path, process)
    try:
        fleet.launch()
        with pytest.raises(OSError, match="No space left") as full:
            fleet.collect(10, waiting_time_s=0)
    finally:
        fleet.stop()
    assert full.value.filename == f"{tmp_path}/vm2.receiver.samples"
    assert ended == ["vm2", "vm3"]


def test_samples_that_are_not_written_to_the_end_do_not_appear(tmp_path):
    with pytest.raises(TypeError):
        samples.write(tmp_path / "s", {"not": {"JSON"}}, array("q"))
    assert not (tmp_path / "s").exists()
