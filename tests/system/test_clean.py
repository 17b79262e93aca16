"""What a killed run leaves is found and removed; what lives is not touched."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.lab import data_centre, machine_interfaces, running_processes, vm_spec
from topologies.emulation.session import Leftover, Session, leftovers

pytestmark = pytest.mark.alone

RUN = """
import signal
import time
from tests.helpers.lab import data_centre, vm_spec
from nve.hypervisor.freezer import freeze
from nve.hypervisor.plug import Plug

signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in a background job
vms = tuple(vm_spec(number, "nve1") for number in (1, 2))
with data_centre(vms=vms, link={"delay_ms": 1}) as running:
    for vm in running.vms.values():
        Plug.create(vm.spec.name, "nve1", vm.pid, running.nves["nve1"].pid, offloads=False)
    running.in_vm("vm1", ["sleep", "600"])
    running.in_node("nva", ["sleep", "600"])
    freeze(running.vms["vm2"].cgroup)
    print(running.session.directory.name, flush=True)
    time.sleep(600)
"""


def start_run() -> tuple[subprocess.Popen[str], str]:
    """A run in a process of its own, and the name of its session, once it is up."""
    process = subprocess.Popen([sys.executable, "-c", RUN], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    identifier = process.stdout.readline().strip()
    assert identifier, "the run did not start"
    return process, identifier


def processes_in(cgroup: Path) -> list[int]:
    return [int(pid) for file in cgroup.glob("**/cgroup.procs") for pid in file.read_text().split()]


def test_a_killed_run_is_found_and_removed() -> None:
    before = machine_interfaces()
    process, identifier = start_run()
    process.kill()
    process.wait()

    (left,) = (found for found in leftovers() if found.identifier == identifier)
    pids = processes_in(left.cgroup)
    # Open vSwitch, the delay line, two sleepers; most shells end with their terminals.
    assert len(pids) >= 2 * 3 + 1 + 2
    said = left.remove()

    assert len(said) == 2
    assert all(sentence.startswith(f"{identifier}: ") for sentence in said)
    assert running_processes(pids) == set()
    assert not left.cgroup.exists()
    assert not left.directory.exists()
    assert identifier not in [found.identifier for found in leftovers()]
    assert machine_interfaces() == before


def test_an_interrupted_run_leaves_nothing() -> None:
    process, identifier = start_run()
    process.send_signal(signal.SIGINT)

    assert process.wait(20) != 0
    assert not Path("/run/vmmlab", identifier).exists()
    assert identifier not in [found.identifier for found in leftovers()]


def test_a_living_session_is_not_touched() -> None:
    with data_centre(vms=(vm_spec(1, "nve1"),)) as running:
        assert running.session.directory.name not in [found.identifier for found in leftovers()]


def test_a_session_of_a_process_whose_pid_is_in_use_again_is_a_leftover() -> None:
    with Session.create("test") as session:
        owner = session.directory / "owner.json"
        owner.write_text(owner.read_text().replace('"start_ticks": ', '"start_ticks": 1'))

        (left,) = (found for found in leftovers() if found.cgroup == session.cgroup)
        assert left.remove()

    assert left not in leftovers()


@pytest.mark.parametrize("part", ["directory", "cgroup"])
def test_half_a_session_is_a_leftover_too(part: str) -> None:
    """A run may be killed while it makes the two, or while it removes them."""
    process = subprocess.Popen(["true"])
    process.wait()
    with Session.create("sibling") as sibling:
        identifier = f"vmmlab-{process.pid}-0000"
        left = Leftover(
            identifier,
            sibling.directory.with_name(identifier),
            sibling.cgroup.with_name(identifier),
        )
        getattr(left, part).mkdir()

        assert left in leftovers()
        assert len(left.remove()) == 1
        assert left not in leftovers()


def test_a_session_gives_the_process_back_where_it_was() -> None:
    def mine() -> str:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
        return next(line for line in lines if line.startswith("0::"))

    before = mine()
    with Session.create("test") as session:
        session.enter()
        session.enter()
        child = subprocess.Popen(["sleep", "600"])
        assert mine().endswith(f"{session.cgroup.name}/runner")

    assert mine() == before
    assert child.wait(5) == -signal.SIGKILL
    assert os.getpid() not in processes_in(session.cgroup)
