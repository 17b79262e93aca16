"""Mirrors as processes over the loopback interface: a standby has what the primary had, or before.

The VM's cgroup is a folder here that says at once what one wants to read.
"""

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nve.transfer.connection import TransferConnection
from nve.transfer.framing import VERSION, Say, of_pages
from nve.transfer.mirror import MirrorStamp
from nve.transfer.state import Digests
from tests.adapters.test_transfer import SPEC, Place

pytestmark = pytest.mark.thorough  # a guest and two processes each


def started(name: str, argv: list[str], place: Place) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", f"nve.transfer.{name}", *argv],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        pass_fds=place.files,
        text=True,
    )


def says(process: "subprocess.Popen[str]") -> dict[str, Any]:
    assert process.stdout
    told: dict[str, Any] = json.loads(process.stdout.readline())
    return told


def tell_to_close(receiver: "subprocess.Popen[str]") -> dict[str, Any]:
    """The standby takes nothing any more."""
    assert receiver.stdin
    print("close", file=receiver.stdin, flush=True)
    return says(receiver)


class Ends:
    """Primary and standby."""

    def __init__(self, directory: Path) -> None:
        (directory / "cgroup.events").write_text("frozen 0 frozen 1", encoding="utf-8")
        (directory / "cgroup.freeze").touch()
        self.primary, self.standby = Place(), Place()
        self.primary.write(list(range(SPEC.pages)))
        there, here = self.standby, self.primary
        receives = [SPEC.line(), str(there.memory), str(there.disk), "127.0.0.1", "t"]
        self.receiver = started("mirror_receiver", receives, there)
        port = says(self.receiver)["port"]
        files = map(str, (here.memory, here.files[2], here.disk))
        sends = [SPEC.line(), *files, str(directory), "127.0.0.1", "127.0.0.1", str(port), "t", "0"]
        self.sender = started("mirror_sender", sends, here)
        assert says(self.sender) == {"connected": True}

    def mirror(self) -> dict[str, Any]:
        assert self.sender.stdin
        print("mirror", file=self.sender.stdin, flush=True)
        return says(self.sender)

    def write(self, pages: list[int], version: int) -> None:
        self.primary.write(pages, version)
        self.primary.log.mark(np.array(pages))


@contextmanager
def ends(directory: Path) -> Iterator[Ends]:
    both = Ends(directory)
    try:
        yield both
    finally:
        for process in (both.sender, both.receiver):
            process.kill()
            process.communicate()


@pytest.mark.shows("R7.3")
def test_each_mirror_brings_what_was_written_since_the_one_before(tmp_path: Path) -> None:
    with ends(tmp_path) as both:
        first = both.mirror()["mirror"]
        assert (first["mirror"], first["normal_pages"]) == (1, SPEC.pages + 1)
        assert both.standby.octets() == both.primary.octets()

        both.write([3, 4, SPEC.memory_pages], version=2)
        second = both.mirror()["mirror"]
        assert (second["mirror"], second["normal_pages"]) == (2, 4)  # and the registers
        as_mirrored = both.primary.octets()
        assert both.standby.octets() == as_mirrored

        both.write([5], version=2)
        closed = tell_to_close(both.receiver)
        assert closed["counts"]["number"] == 2
        digests = {name: closed["counts"][name] for name in ("memory", "disk")}
        assert closed["found"] == digests
        assert both.standby.octets() == as_mirrored != both.primary.octets()


@pytest.mark.shows("R7.3")
def test_a_mirror_of_which_a_part_has_come_is_not_taken_for_new() -> None:
    """All of its pages are there, but nobody has said so; the connection breaks then."""
    standby = Place()
    receives = [SPEC.line(), str(standby.memory), str(standby.disk), "127.0.0.1", "t"]
    receiver = started("mirror_receiver", receives, standby)
    try:
        port = says(receiver)["port"]
        connection = TransferConnection(socket.create_connection(("127.0.0.1", port)), 5)
        connection.send(Say.HELLO, version=VERSION, token="t", pages=SPEC.pages)
        connection.await_answer(Say.ACK)
        primary = Place()
        for version in (1, 2):
            primary.write([0, 1, 2], version)
            runs = [(0, 3)]
            connection.send_all([of_pages(runs), *(primary.state.at(run) for run in runs)])
            if version == 1:
                digests = Digests(primary.state)
                digests.take((0, 3))
                connection.send(Say.MIRRORED, **MirrorStamp(1, 5, **digests.totals()).row())
                connection.await_answer(Say.ACK)
                as_mirrored = standby.octets()
        connection.close()

        closed = tell_to_close(receiver)

        assert closed["counts"]["number"] == 1
        assert closed["found"] == digests.totals()
        assert standby.octets() == as_mirrored != primary.octets()
    finally:
        receiver.kill()
        receiver.communicate()


def test_no_mirror_counts_before_the_first_is_whole(tmp_path: Path) -> None:
    with ends(tmp_path) as both:
        assert tell_to_close(both.receiver)["counts"]["number"] == 0
