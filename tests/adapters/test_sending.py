"""What an NVE is told leaves at once while its connection has room."""

import socket
from collections.abc import Iterator
from typing import Any

import pytest

from controller.southbound import framework


@pytest.fixture
def connection(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Any, socket.socket]]:
    """A connection without the threads that os-ken has for it, and the NVE's end."""
    if framework.NAME != "os-ken":
        pytest.skip("Ryu's threads are not the kernel's")
    controller = framework._part("controller.controller")
    monkeypatch.setattr(controller.Datapath, "send", controller.Datapath.send)
    framework.send_at_once()
    with socket.create_server(("127.0.0.1", 0)) as server:
        nve = socket.create_connection(server.getsockname())
        ours, address = server.accept()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)
    nve.settimeout(5)
    yield controller.Datapath(ours, address), nve
    ours.close()
    nve.close()


def test_it_is_with_the_nve_at_once(connection: tuple[Any, socket.socket]) -> None:
    datapath, nve = connection
    assert datapath.send(b"told")
    assert nve.recv(16) == b"told"
    assert datapath.send_q.empty()


def test_what_finds_no_room_waits_and_nothing_overtakes_it(
    connection: tuple[Any, socket.socket],
) -> None:
    datapath, nve = connection
    long = bytes(range(256)) * (1 << 17)
    datapath.send(long)
    rest, _ = datapath.send_q.get(block=False)
    assert long.endswith(rest)
    there = len(long) - len(rest)
    while there:
        there -= len(nve.recv(there))
    datapath.send(b"later")  # there is room by now
    assert datapath.send_q.get(block=False)[0] == b"later"


def test_a_connection_that_has_ended_is_left_to_its_own_thread(
    connection: tuple[Any, socket.socket],
) -> None:
    datapath, _ = connection
    datapath.socket.shutdown(socket.SHUT_WR)
    datapath.send(b"told")
    assert datapath.send_q.get(block=False)[0] == b"told"


def test_what_is_told_together_leaves_in_one_piece(connection: tuple[Any, socket.socket]) -> None:
    datapath, nve = connection
    nve.settimeout(0.1)
    with framework.together():
        datapath.send(b"told")
        datapath.send(b", asked")
        with pytest.raises(TimeoutError):
            nve.recv(16)
    assert nve.recv(16) == b"told, asked"
