"""A guest's state brought over as a step of a move: real guests, sender and receiver, on loopback.

Servers are folders here, and their addresses are loopback's; `tests/system/test_state_moves.py` has
it in a data centre.
"""

import errno
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from experiments.run.guests import VmGuest
from experiments.run.state_transfer import StateTransfer, TransferFailed
from nve.guest.machine import GuestError, GuestMachine
from nve.guest.spec import GuestSpec
from nve.linux.wait import wait_until
from nve.transfer.convergence import TransferLimits
from nve.transfer.state import State

pytestmark = pytest.mark.thorough  # processes, at the pace of their bandwidth

SPEC = GuestSpec(memory_mb=4, writes_mb_s=4, disk_mb=1, disk_writes_mb_s=0.5)


class Trial:
    """A guest in vm1 at nve1, a move of it to nve2, and what was noted of that."""

    def __init__(self, directory: Path, spec: GuestSpec = SPEC) -> None:
        self.noted: dict[str, dict[str, Any]] = {}
        self.rows: list[dict[str, Any]] = []
        self.faults: list[dict[str, Any]] = []
        self.nodes: list[subprocess.Popen[Any]] = []
        nves = {f"nve{n}": SimpleNamespace(name=f"nve{n}", vtep=f"127.0.0.{n}") for n in (1, 2)}
        centre: Any = SimpleNamespace(
            in_vm=lambda _vm, argv, **popen: subprocess.Popen(argv, **popen),
            in_node=self._in_node,
            session=SimpleNamespace(directory=directory),
            nves=nves,
            vms={"vm1": SimpleNamespace(spec=SimpleNamespace(nve="nve1"), pid=0)},
        )
        self.centre = centre
        self.guest = VmGuest(centre, "vm1", spec)
        self.guest.launch(self.guest.machine)
        self.guest.machine.await_ready()
        told = SimpleNamespace(
            number=1, source="nve1", destination="nve2", vm=SimpleNamespace(name="vm1")
        )
        self.move: Any = SimpleNamespace(
            told=told,
            reached=lambda _moment: None,
            helped=ExitStack(),
            note=lambda event, **details: self.noted.update({event: details}),
            hypervisor=SimpleNamespace(hold_anew=lambda nve: self.noted.update({nve: {}})),
        )

    def _in_node(self, _node: str, argv: list[str], **popen: Any) -> "subprocess.Popen[Any]":
        self.nodes.append(subprocess.Popen(argv, **popen))
        return self.nodes[-1]

    def transfer(self, **limits: Any) -> StateTransfer:
        self.transferred = StateTransfer(
            self.centre, self.guest, TransferLimits(**limits), self.rows, self.faults
        )
        return self.transferred

    def close(self) -> None:
        self.transferred.close()
        self.guest.close()


@contextmanager
def trying(directory: Path, spec: GuestSpec = SPEC) -> Iterator[Trial]:
    found = Trial(directory, spec)
    try:
        yield found
    finally:
        found.close()
    assert all(process.returncode is not None for process in found.nodes)


@pytest.fixture
def trial(tmp_path: Path) -> Iterator[Trial]:
    with trying(tmp_path) as found:
        yield found


def stop(machine: GuestMachine) -> None:
    os.kill(machine.pid, signal.SIGSTOP)
    stat = Path(f"/proc/{machine.pid}/stat")
    wait_until(lambda: None if stat.read_text().rpartition(")")[2].split()[0] == "T" else "runs", 5)


def written_more(machine: GuestMachine, pages: int = 200) -> None:
    before = machine.log.writes
    wait_until(lambda: None if machine.log.writes >= before + pages else "too few", 30)


def test_the_guest_goes_on_with_what_has_come(trial: Trial) -> None:
    here = trial.guest.machine
    written_more(here)
    transfer = trial.transfer()
    transfer.rounds(trial.move)
    assert trial.noted["transfer-connected"]["state_bytes"] == 5 << 20
    stop(here)
    transfer.final(trial.move)
    writes = trial.guest.writes
    there = transfer.machines[1]
    assert octets(there) == octets(here)

    transfer.take_over(trial.move)
    assert trial.guest.machine is there
    assert trial.guest.writes >= writes
    written_more(there)
    assert there.failure() is None
    transfer.verify(trial.move)
    assert trial.noted["state-verified"]["equal"]
    assert here.memory == -1, "memory at the source was not given back"
    assert [row["status"] for row in trial.rows][-1] == "device"
    assert trial.noted["transfer-finished"]["transfer_bytes"] == sum(
        row["transferred_bytes"] for row in trial.rows
    )


@pytest.mark.parametrize("kind", ["pre-copy", "post-copy"])
@pytest.mark.parametrize(
    ("chosen", "sent_mb", "empty_mb"),
    [
        ({"channels": 3}, 5.0, 0),
        ({"zero_pages": True}, 2.0, 3),
        ({"compression": "zstd", "zero_pages": True, "channels": 2}, 0.5, 3),
    ],
    ids=["channels", "zero pages", "zstd"],
)
def test_however_it_is_sent_it_is_the_same_and_takes_what_it_should(
    tmp_path: Path, kind: str, chosen: dict[str, Any], sent_mb: float, empty_mb: float
) -> None:
    """Memory of 4 MiB, of which 1 is filled, and disk of 1; three quarters of a page are zeros."""
    spec = GuestSpec(memory_mb=4, filled_mb=1, disk_mb=1, zeros_pct=75)
    with trying(tmp_path, spec) as trial:
        transfer, here = trial.transfer(kind=kind, **chosen), trial.guest.machine
        transfer.rounds(trial.move)
        stop(here)
        before = octets(here)
        transfer.final(trial.move)
        transfer.take_over(trial.move)
        transfer.push(trial.move)
        there = octets(trial.guest.machine)
        assert there[4096:] == before[4096:]  # the guest goes on, in its first page
        transfer.verify(trial.move)
        assert trial.noted["state-verified"]["equal"]
        assert trial.guest.machine.failure() is None
        taken = {key: sum(row[key] for row in trial.rows) for key in trial.rows[0] if "_" in key}
        assert taken["transferred_bytes"] == pytest.approx(sent_mb * 2**20, rel=0.1)
        assert taken["duplicate_pages"] == empty_mb * 256


def resumed_first(trial: Trial, **limits: Any) -> StateTransfer:
    """A transfer whose guest runs at the destination without what it has in its memory."""
    here = trial.guest.machine
    written_more(here)
    transfer = trial.transfer(**limits)
    transfer.rounds(trial.move)
    assert trial.noted["transfer-rounds-ended"]["why"] == "post-copy"
    stop(here)
    transfer.final(trial.move)
    transfer.take_over(trial.move)
    return transfer


@pytest.mark.parametrize("kind", ["post-copy", "hybrid"])
def test_a_guest_that_is_resumed_first_waits_for_its_pages(trial: Trial, kind: str) -> None:
    here = trial.guest.machine
    rounds = {"downtime_limit_ms": 0.01, "post_copy_after": 1, "bandwidth_mbit": 80}
    limits = rounds if kind == "hybrid" else {}
    transfer = resumed_first(trial, kind=kind, **limits)
    there = transfer.machines[1]
    there_before = resident_pages(there)
    assert there_before < SPEC.memory_pages
    written_more(there, 40)
    asked_for = resident_pages(there) - there_before
    if kind == "post-copy":
        assert asked_for > 0, "it wrote pages that it did not have"

    transfer.push(trial.move)
    assert resident_pages(there) == SPEC.memory_pages
    written_more(there, SPEC.memory_pages)
    assert there.failure() is None
    transfer.verify(trial.move)
    assert trial.noted["state-verified"]["equal"]
    assert here.memory == -1, "memory at the source was not given back"
    done = trial.noted["post-copy-finished"]
    assert len(trial.faults) == done["faults"] >= asked_for
    assert [row["status"] for row in trial.rows][-2:] == ["device", "postcopy-active"]
    assert trial.rows[-2]["remaining_bytes"] >= (SPEC.memory_pages - there_before) * 4096


def resident_pages(machine: GuestMachine) -> int:
    """How many pages of its memory are there."""
    return os.fstat(machine.memory).st_blocks * 512 // 4096


@pytest.mark.parametrize("dies", ["receiver", "sender"])
def test_a_guest_that_is_resumed_first_is_lost_with_its_source(trial: Trial, dies: str) -> None:
    transfer = resumed_first(trial, kind="post-copy")
    trial.nodes[("receiver", "sender").index(dies)].kill()
    transfer.push(trial.move)
    transfer.verify(trial.move)
    assert trial.noted["vm-lost"]["why"]
    assert trial.guest.lost
    assert "state-verified" not in trial.noted
    with pytest.raises(GuestError, match="lost"):
        trial.transfer().rounds(trial.move)


def octets(machine: GuestMachine) -> bytes:
    spec = machine.spec
    state = State(machine.memory, spec.memory_pages, machine.disk, spec.disk_pages)
    return b"".join(bytes(state.at((page, 1))) for page in range(state.pages))


def test_a_page_that_was_forgotten_is_told(trial: Trial) -> None:
    here, transfer = trial.guest.machine, trial.transfer()
    transfer.rounds(trial.move)
    stop(here)
    transfer.final(trial.move)
    os.pwrite(here.disk, b"x", 4096 * 3)  # written, and neither logged nor sent
    transfer.take_over(trial.move)
    with pytest.raises(TransferFailed, match="nve2 has not the state that nve1 had"):
        transfer.verify(trial.move)
    assert not trial.noted["state-differs"]["equal"]


@pytest.mark.parametrize("during", ["rounds", "final"])
@pytest.mark.parametrize("dies", ["receiver", "sender"])
def test_the_guest_goes_on_at_the_source_when_a_side_dies(
    trial: Trial, during: str, dies: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, transfer = trial.guest.machine, trial.transfer(bandwidth_mbit=40)
    connect = transfer._connect

    def connect_and_die(move: Any) -> None:
        connect(move)
        trial.nodes[("receiver", "sender").index(dies)].kill()

    if during == "rounds":
        monkeypatch.setattr(transfer, "_connect", connect_and_die)
        step = transfer.rounds
    else:
        transfer.rounds(trial.move)
        stop(here)
        trial.nodes[("receiver", "sender").index(dies)].kill()
        step = transfer.final
    with pytest.raises(TransferFailed):
        step(trial.move)
    transfer.abandon(trial.move)
    if during == "final":
        os.kill(here.pid, signal.SIGCONT)
    assert trial.guest.machine is here
    written_more(here)
    assert here.failure() is None


def test_a_destination_that_is_full_is_found_before_anything_is_brought_over(
    trial: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_file: int, _offset: int, _octets: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    transfer = trial.transfer()
    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(GuestError, match=r"no room for the disk of vm1-2, 1 MB: No space left on"):
        transfer.rounds(trial.move)
    transfer.abandon(trial.move)

    assert trial.nodes == []
    assert "transfer-connected" not in trial.noted
    written_more(trial.guest.machine)


def test_a_guest_that_was_throttled_is_not_when_the_move_is_given_up(trial: Trial) -> None:
    transfer = trial.transfer(
        bandwidth_mbit=20,
        downtime_limit_ms=1,
        max_iterations=6,
        auto_converge=True,
        throttle_step_pct=40,
    )
    transfer.rounds(trial.move)
    throttled = [row["cpu_throttle_percentage"] for row in trial.rows]
    assert throttled == sorted(throttled)
    assert throttled[-1] >= 40
    transfer.abandon(trial.move)
    assert trial.guest.machine.log.throttle_pct == 0
