"""Sender and receiver as processes, over the loopback interface: what arrives is what was sent."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest

from nve.guest.dirty_log import DirtyLog, log_size
from nve.guest.pages import content
from nve.guest.spec import GuestSpec
from nve.linux.wait import wait_until
from nve.transfer.convergence import TransferLimits
from nve.transfer.mirror import MirrorStamp
from nve.transfer.state import PATTERN, Digests, State

pytestmark = pytest.mark.thorough  # processes, at the pace of their bandwidth

SPEC = GuestSpec(memory_mb=2, disk_mb=1)


class Place:
    """Memory, disk and log at one end."""

    def __init__(self) -> None:
        sizes = (SPEC.memory_pages * 4096, SPEC.disk_pages * 4096, log_size(SPEC.pages))
        self.files = [os.memfd_create("state") for _ in sizes]
        for file, size in zip(self.files, sizes, strict=True):
            os.ftruncate(file, size)
        self.memory, self.disk, log = self.files
        self.state = State(self.memory, SPEC.memory_pages, self.disk, SPEC.disk_pages)
        self.log = DirtyLog(log, SPEC.pages)

    def write(self, numbers: list[int], version: int = 1) -> None:
        rows = content(np.array(numbers), np.full(len(numbers), version, np.uint64))
        for number, row in zip(numbers, rows, strict=True):
            self.state.at((number, 1))[:] = row.tobytes()

    def octets(self) -> bytes:
        return b"".join(bytes(self.state.at((page, 1))) for page in range(SPEC.pages))


class Ends:
    """Both processes and what they have."""

    def __init__(self, *, mirrored: bool = False) -> None:
        self.source, self.target = Place(), Place()
        self.source.write(list(range(SPEC.pages)))
        self.processes: list[subprocess.Popen[str]] = []
        if mirrored:
            self.target.write(list(range(SPEC.pages)))
        self.receive(mirrored=mirrored)

    def receive(self, *, mirrored: bool) -> None:
        """Start a receiver."""
        receiving = [SPEC.line(), str(self.target.memory), str(self.target.disk)]
        receiving += ["127.0.0.1", "token", *["--mirrored"] * mirrored]
        self.receiver = self._start("receiver", receiving, self.target)
        self.port = int(self.says(self.receiver)["port"])

    def send(self, token: str = "token", mirror: MirrorStamp | None = None, **limits: Any) -> None:
        place = self.source
        files = (place.memory, place.files[2], place.disk)
        asked = json.dumps(asdict(TransferLimits(**limits)))
        argv = [SPEC.line(), *map(str, files), asked, "127.0.0.1", "127.0.0.1", token]
        if mirror:
            argv += ["--mirror", json.dumps(mirror.row())]
        self.sender = self._start("sender", argv, place)
        self.tell(f"connect {self.port}")
        self.connected = self.says(self.sender)

    def _start(self, name: str, argv: list[str], place: Place) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [sys.executable, "-m", f"nve.transfer.{name}", *argv],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=place.files,
            text=True,
        )
        self.processes.append(process)
        return process

    def says(self, process: "subprocess.Popen[str]") -> dict[str, Any]:
        assert process.stdout
        told: dict[str, Any] = json.loads(process.stdout.readline())
        return told

    def tell(self, what: str) -> None:
        assert self.sender.stdin
        print(what, file=self.sender.stdin, flush=True)

    def changed(self, numbers: list[int], version: int) -> None:
        """The VM writes these pages of its memory and disk, and its hypervisor notes that."""
        self.source.write(numbers, version)
        self.source.log.mark(np.array(numbers))

    def undo(self) -> None:
        """The receiver makes the mirror what it was."""
        assert self.receiver.stdin
        print("undo", file=self.receiver.stdin, flush=True)
        assert self.says(self.receiver) == {"undone": True}


def stamp_of(place: Place) -> MirrorStamp:
    digests = Digests(place.state)
    digests.take_all()
    return MirrorStamp(3, 5, **digests.totals())


@contextmanager
def ends(*, mirrored: bool = False) -> Iterator[Ends]:
    both = Ends(mirrored=mirrored)
    try:
        yield both
    finally:
        for process in both.processes:
            process.kill()
            process.communicate()


def test_memory_and_disk_arrive_with_what_was_written_meanwhile() -> None:
    with ends() as both:
        both.send()
        first = both.says(both.sender)["iteration"]
        assert both.says(both.sender) == {"stop": "converged"}
        assert first["normal_pages"] == SPEC.pages
        assert (first["iteration"], first["status"]) == (1, "active")

        changed = [0, 7, 8, 9, SPEC.memory_pages - 1, SPEC.memory_pages, SPEC.pages - 1]
        both.source.write(changed, version=2)
        both.source.log.mark(np.array(changed[1:3]))
        both.source.log.begin(np.array(changed[3:]))  # a guest that was stopped in between
        both.tell("final")
        last = both.says(both.sender)["iteration"]
        assert (last["normal_pages"], last["status"]) == (len(changed), "device")

        both.tell("digest")
        digests = both.says(both.sender)["digests"]
        assert digests["here"] == digests["there"]
        assert both.target.octets() == both.source.octets()
        both.tell("end")
        assert both.sender.wait(10) == both.receiver.wait(10) == 0


def test_a_page_that_is_forgotten_shows_in_the_digests() -> None:
    with ends() as both:
        both.send()
        both.says(both.sender)
        both.says(both.sender)
        both.source.write([SPEC.memory_pages + 3], version=2)  # not in the log
        both.tell("final")
        both.says(both.sender)
        both.tell("digest")
        digests = both.says(both.sender)["digests"]
        assert digests["here"]["memory"] == digests["there"]["memory"]
        assert digests["here"]["disk"] != digests["there"]["disk"]


def test_stop_and_copy_sends_the_disk_ahead_and_the_memory_last() -> None:
    with ends() as both:
        both.send(kind="stop-and-copy")
        assert both.says(both.sender)["iteration"]["normal_pages"] == SPEC.disk_pages
        assert both.says(both.sender) == {"stop": "asked"}
        both.tell("final")
        assert both.says(both.sender)["iteration"]["normal_pages"] == SPEC.memory_pages
        assert both.target.octets() == both.source.octets()


@pytest.mark.shows("R7.3")
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", ["pre-copy", "stop-and-copy"])
def test_to_a_mirror_only_goes_what_was_written_since(kind: str, channels: int) -> None:
    with ends(mirrored=True) as both:
        stamp = stamp_of(both.source)
        memory, disk = [3, 4, 5, SPEC.memory_pages - 1], [SPEC.memory_pages, SPEC.pages - 1]
        both.changed([*memory, *disk], version=2)
        both.send(mirror=stamp, kind=kind, channels=channels)
        assert both.connected["holds"]
        ahead = both.says(both.sender)["iteration"]
        assert ahead["normal_pages"] == len(disk) + (len(memory) if kind == "pre-copy" else 0)
        both.says(both.sender)
        both.changed([4, 9], version=3)
        both.tell("final")
        last = both.says(both.sender)["iteration"]["normal_pages"]
        assert last == (3 if kind == "pre-copy" else len({0, 4, 9, *memory}))  # 0: the registers
        both.tell("digest")
        digests = both.says(both.sender)["digests"]
        assert digests["here"] == digests["there"]
        assert both.target.octets() == both.source.octets()


@pytest.mark.shows("R7.3")
def test_nothing_written_since_the_mirror_is_no_round_at_all() -> None:
    with ends(mirrored=True) as both:
        both.send(mirror=stamp_of(both.source))
        assert both.says(both.sender) == {"stop": "converged"}
        both.tell("final")
        assert both.says(both.sender)["iteration"]["normal_pages"] == 1
        assert both.target.octets() == both.source.octets()


@pytest.mark.shows("R7.3")
@pytest.mark.parametrize("where", ["memory", "disk"])
def test_what_is_not_the_mirror_is_not_taken_for_it(where: str) -> None:
    """Half applied, or an older one: the whole goes."""
    with ends(mirrored=True) as both:
        stamp = stamp_of(both.source)
        both.target.write([7 if where == "memory" else SPEC.memory_pages + 7], version=9)
        both.receive(mirrored=True)
        both.send(mirror=stamp)
        assert not both.connected["holds"]
        assert both.says(both.sender)["iteration"]["normal_pages"] == SPEC.pages
        both.says(both.sender)
        both.tell("final")
        both.says(both.sender)
        assert both.target.octets() == both.source.octets()


@pytest.mark.shows("R7.3")
@pytest.mark.parametrize("when", ["connected", "copying", "finished", "sender dead"])
def test_a_transfer_to_a_mirror_that_is_given_up_leaves_the_mirror(when: str) -> None:
    with ends(mirrored=True) as both:
        before = both.target.octets()
        stamp = stamp_of(both.source)
        both.changed(list(range(1, 300)), version=2)
        both.send(mirror=stamp, bandwidth_mbit=4 if when in ("copying", "sender dead") else None)
        if when == "finished":
            both.says(both.sender)
            both.says(both.sender)
            both.changed([2, 3], version=3)
            both.tell("final")
            both.says(both.sender)
            assert both.target.octets() == both.source.octets() != before
        if when in ("copying", "sender dead"):
            wait_until(lambda: "nothing came" if both.target.octets() == before else None, 10)
        if when == "sender dead":
            both.sender.kill()
        both.undo()
        assert both.target.octets() == before


def test_a_transfer_that_was_not_registered_is_sent_away_and_the_right_one_is_not() -> None:
    with ends() as both:
        both.send(token="another")
        assert "not registered" in both.connected["failed"]
        both.send()
        assert "iteration" in both.says(both.sender)


@pytest.mark.parametrize("who", ["receiver", "sender"])
def test_the_other_side_notices_when_one_dies(who: str) -> None:
    with ends() as both:
        both.send(bandwidth_mbit=8)
        dead, other = getattr(both, who), both.sender if who == "receiver" else both.receiver
        dead.kill()
        assert other.wait(20) == 1


def test_a_state_that_has_gone_is_overwritten() -> None:
    place = Place()
    place.write([1, SPEC.pages - 1])
    before = Digests(place.state)
    before.take_all()
    place.state.overwrite()
    assert place.octets() == PATTERN * SPEC.pages
    after = Digests(place.state)
    after.take_all()
    assert all(before.totals()[part] != after.totals()[part] for part in ("memory", "disk"))
