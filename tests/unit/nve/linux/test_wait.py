"""Waiting for files: also for those that select could not wait for."""

import fcntl
import os
import resource
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from nve.linux.wait import all_readable, readable, waiting_in

FIRST_BEYOND = 1024


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """One whose end to read has a number beyond what select can take."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2 * FIRST_BEYOND), hard))
    low, writing = os.pipe()
    reading = fcntl.fcntl(low, fcntl.F_DUPFD, FIRST_BEYOND)
    yield reading, writing
    for descriptor in (low, reading, writing):
        os.close(descriptor)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class Open:
    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def fileno(self) -> int:
        return self._descriptor


def test_what_can_be_read_is_found_whatever_its_number(pipe: tuple[int, int]) -> None:
    reading, writing = Open(pipe[0]), Open(pipe[1])
    assert reading.fileno() >= FIRST_BEYOND
    assert not readable(reading, 0)
    os.write(writing.fileno(), b"x")
    assert readable(reading, 0)
    assert all_readable([writing, reading], 0) == [reading]


@pytest.mark.thorough  # starts the program twice
def test_the_limit_of_open_files_is_raised_as_far_as_is_needed_and_allowed() -> None:
    ask = (
        "import resource; from experiments.machine import raise_open_files; raise_open_files();"
        "print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])"
    )
    for hard, expected in ((4096, 4096), (20_000, 16_384)):
        limited = f"ulimit -Sn 256 && ulimit -Hn {hard} && exec {sys.executable} -c '{ask}'"
        said = subprocess.run(["sh", "-c", limited], check=True, capture_output=True, text=True)
        assert int(said.stdout) == expected


def test_all_packets_that_wait_are_read_and_none_is_waited_for() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with ours, theirs:
        theirs.send(b"one")
        theirs.send(b"two")
        assert list(waiting_in(ours)) == [b"one", b"two"]
        assert list(waiting_in(ours)) == []
