"""A VM that is moved to its warm standby takes only what the last mirror there lacks.

Real guests, mirrors and transfers, on loopback; `tests/system/test_standbys.py` has it in a data
centre.  The VM's cgroup is a folder that says at once what one wants to read.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from experiments.run.standby import Standby
from experiments.run.standby_moves import Beside
from experiments.run.state_transfer import TransferFailed
from experiments.scenario.standbys import StandbySpec
from nve.guest.spec import GuestSpec
from tests.adapters.test_state_transfer import Trial, octets, stop, trying, written_more

pytestmark = pytest.mark.thorough  # a guest and processes each

SPEC = GuestSpec(memory_mb=4, writes_mb_s=0.2, disk_mb=1, disk_writes_mb_s=0.05)
STATE = 5 << 20


class Moved:
    """A guest in vm1 at nve1 with a standby at nve2 that has a mirror, and a move of it there."""

    def __init__(self, trial: Trial, directory: Path, *, reverse: bool) -> None:
        (directory / "cgroup.events").write_text("frozen 0 frozen 1", encoding="utf-8")
        (directory / "cgroup.freeze").touch()
        trial.centre.vms["vm1"].cgroup = directory
        for nve in trial.centre.nves.values():
            nve.edge = SimpleNamespace(alive=True)
        self.trial = trial
        self.at = "nve1"
        self.noted: list[str] = []
        log: Any = SimpleNamespace(note=lambda _source, event, *_, **__: self.noted.append(event))
        asked = {"at": "nve2", "kind": "warm", "interval_s": 1, "reverse": reverse}
        spec = StandbySpec.model_validate(asked)
        self.rows: list[dict[str, Any]] = []
        self.standby = Standby(trial.centre, trial.guest, spec, lambda: self.at, log, self.rows)
        self.standby.start()
        self.standby.mirror()
        assert self.standby._machine
        self.mirror = self.standby._machine
        self.transfer = Beside(self.standby, trial.transfer(bandwidth_mbit=80))

    def moves(self, *, cold: bool = False) -> int:
        """The whole of a move that works out; returns what was sent."""
        here = self.trial.guest.machine
        if cold:
            self.transfer.make_room(self.trial.move)
            stop(here)
        self.transfer.rounds(self.trial.move)
        if not cold:
            stop(here)
        self.transfer.final(self.trial.move)
        self.at = "nve2"
        self.transfer.take_over(self.trial.move)
        self.transfer.verify(self.trial.move)
        assert self.trial.noted["state-verified"]["equal"]
        assert here.memory == -1, "memory at the source was not given back"
        written_more(self.trial.guest.machine, 5)
        assert self.trial.guest.machine.failure() is None
        return sum(row["transferred_bytes"] for row in self.trial.rows)


@pytest.fixture
def moved(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Moved]:
    with trying(tmp_path, SPEC) as trial:
        found = Moved(trial, tmp_path, reverse=getattr(request, "param", False))
        try:
            yield found
        finally:
            found.standby.close()


@pytest.mark.shows("R7.3")
@pytest.mark.parametrize("moved", [False, True], ids=["then none", "reversed"], indirect=True)
def test_only_what_was_written_since_the_last_mirror_is_sent(moved: Moved) -> None:
    written_more(moved.trial.guest.machine, 5)
    sent = moved.moves()
    assert 0 < sent < STATE / 4
    assert moved.trial.noted["mirror-used"]["mirror"] == 1
    assert moved.trial.guest.machine is moved.mirror
    if moved.standby.spec.reverse:
        assert moved.noted == ["standby-reversed"]
        assert moved.standby.at == "nve1"
        moved.standby.mirror()
        assert [(row["standby"], row["mirror"]) for row in moved.rows] == [
            *(("nve2", 1), ("nve1", 1), ("nve1", 2))
        ]
        there, stamp = moved.standby.last_mirror()
        assert stamp["number"] == 2
        there.close()
    else:
        assert moved.noted == ["standby-ended"]
        with pytest.raises(TransferFailed, match="vm1 has no standby any more"):
            moved.standby.last_mirror()


@pytest.mark.shows("R7.3")
def test_a_move_that_is_given_up_leaves_the_mirror_to_be_gone_on_from(
    moved: Moved, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The guest goes on at the source; if its server dies then, the mirror takes over."""
    monkeypatch.setattr(moved.standby, "go_on", lambda _former: None)  # no new mirror meanwhile
    before = octets(moved.mirror)
    here = moved.trial.guest.machine
    written_more(here, 20)
    moved.transfer.rounds(moved.trial.move)
    assert octets(moved.mirror) != before
    moved.transfer.abandon(moved.trial.move)
    assert octets(moved.mirror) == before
    written_more(here, 5)
    assert here.failure() is None
    there, stamp = moved.standby.last_mirror()
    assert there is moved.mirror
    assert stamp["number"] == 1
    there.close()


def test_after_a_move_that_was_given_up_the_vm_is_mirrored_anew(moved: Moved) -> None:
    moved.transfer.rounds(moved.trial.move)
    moved.transfer._transfer.abandon(moved.trial.move)
    moved.standby.go_on("nve1")
    assert moved.standby.mirroring
    assert [row["mirror"] for row in moved.rows] == [1, 1]
    assert moved.noted == []


@pytest.mark.shows("R7.3")
def test_a_cold_move_to_the_standby_takes_only_the_rest_too(moved: Moved) -> None:
    written_more(moved.trial.guest.machine, 5)
    assert 0 < moved.moves(cold=True) < STATE / 4
    assert moved.trial.guest.machine is moved.mirror


@pytest.mark.shows("R7.3")
def test_the_mirror_is_started_from_once(moved: Moved) -> None:
    """A move that was given up has taken from the log what was written since: the whole goes."""
    written_more(moved.trial.guest.machine, 5)
    moved.transfer.rounds(moved.trial.move)
    moved.transfer._transfer.abandon(moved.trial.move)
    moved.trial.rows.clear()
    del moved.trial.noted["mirror-used"]
    moved.transfer = Beside(moved.standby, moved.trial.transfer())
    assert moved.moves() >= STATE
    assert "was to be moved since" in moved.trial.noted["mirror-not-used"]["why"]
    assert "mirror-used" not in moved.trial.noted


@pytest.mark.shows("R7.3")
def test_a_mirror_that_did_not_come_over_whole_is_not_started_from(moved: Moved) -> None:
    """What was written before it broke off is in no log any more: the whole goes."""
    *_, receiver = moved.standby._sides
    receiver.end()
    with pytest.raises(TransferFailed):
        moved.standby.mirror()
    assert moved.moves() >= STATE
    assert "is not whole" in moved.trial.noted["mirror-not-used"]["why"]
    assert moved.trial.guest.machine is not moved.mirror


@pytest.mark.shows("R7.3")
@pytest.mark.parametrize("where", ["memory", "disk"])
def test_what_is_not_the_last_mirror_is_not_started_from(moved: Moved, where: str) -> None:
    os.pwrite(getattr(moved.mirror, where), b"x", 4096 * 3)
    assert moved.moves() >= STATE
    assert "is not the last mirror" in moved.trial.noted["mirror-not-used"]["why"]


def test_while_two_moves_overlap_nothing_is_mirrored(moved: Moved) -> None:
    """The log of written pages has one reader: the next move may begin before this one is over."""
    moved.standby.interrupt()
    moved.moves()
    assert not moved.standby.mirroring
    assert moved.noted == []
    moved.standby.go_on("nve1")
    assert moved.noted == ["standby-ended"]


@pytest.mark.shows("R7.3")
def test_a_vm_whose_standby_has_taken_over_is_not_suspended_for_a_mirror(moved: Moved) -> None:
    """The sender reaches the standby only then, as its server has been cut off for a while."""
    standby = moved.standby
    connected, taken = standby._connected, []

    def late() -> Any:
        sides = connected()
        taken.append(standby.last_mirror())
        return sides

    standby._connected = late  # type: ignore[method-assign]
    standby._sides[0].end()
    standby.keep_up()
    standby.keep_up()
    ((machine, stamp),) = taken
    machine.close()
    assert stamp["number"] == 1
    assert [row["mirror"] for row in moved.rows] == [1]
    assert moved.noted == ["mirror-failed"]


@pytest.mark.shows("R7.3")
@pytest.mark.parametrize("whole_again", [True, False])
def test_after_a_mirror_that_failed_all_of_the_state_is_sent_once_more(
    moved: Moved, whole_again: bool
) -> None:
    """It is tried at each turn, and told once.  Until it is there, the last whole mirror counts."""
    first, standby = moved.mirror, moved.standby
    target = moved.trial.centre.nves["nve2"]
    standby._sides[0].end()
    standby.keep_up()
    target.vtep, there = "192.0.2.1", target.vtep  # nobody's: the standby's server is cut off
    standby.keep_up()
    target.vtep, target.edge.alive = there, False
    standby.keep_up()
    assert moved.noted == ["mirror-failed"]
    assert len(standby.failed_mirrors) == 1
    target.edge.alive = True
    if whole_again:
        standby.keep_up()
        standby.keep_up()
        assert moved.noted == ["mirror-failed", "mirror-whole-again"]
        assert [row["mirror"] for row in moved.rows] == [1, 1, 2]
        assert moved.rows[1]["transferred_bytes"] >= STATE > 2 * moved.rows[2]["transferred_bytes"]
    machine, stamp = standby.last_mirror()
    assert (machine is first, stamp["number"]) == (not whole_again, 1 + whole_again)
    machine.close()
