"""What is sent to a switch's control socket, and what its answers mean."""

import json
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from nve.ovs.control_socket import ControlSocket

PURGE = "revalidator/purge"


@contextmanager
def switch(path: Path, *answers: bytes) -> Iterator[list[bytes]]:
    """A switch that waits for one piece, gives these answers to it, and hangs up."""
    heard: list[bytes] = []

    def serve() -> None:
        connection, _ = server.accept()
        with connection:
            heard.append(connection.recv(4096))
            for answer in answers:
                connection.sendall(answer)

    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        serving = threading.Thread(target=serve)
        serving.start()
        yield heard
        serving.join()


def told(path: Path, commands: Sequence[str]) -> None:
    control = ControlSocket(path)
    try:
        control.tell(commands)
    finally:
        control.close()


def answer(number: int, error: str | None = None) -> bytes:
    return json.dumps(
        {"id": number, "error": error, "result": "" if error is None else None}
    ).encode()


def test_several_commands_are_one_piece(tmp_path: Path) -> None:
    path = tmp_path / "control"
    # The answers come in other pieces than they were sent in.
    octets = answer(0) + answer(1)
    with switch(path, octets[:3], octets[3:-3], octets[-3:]) as heard:
        told(path, [PURGE, PURGE])
    (piece,) = heard
    assert piece.decode().count(PURGE) == 2


def test_a_complaint_names_its_command(tmp_path: Path) -> None:
    path = tmp_path / "control"
    with switch(path, answer(0), answer(1, "no")), pytest.raises(RuntimeError, match="wait: no"):
        told(path, [PURGE, "wait"])


def test_a_switch_that_dies_meanwhile_is_no_answer(tmp_path: Path) -> None:
    path = tmp_path / "control"
    with switch(path, answer(0)), pytest.raises(OSError, match="hung up"):
        told(path, [PURGE, PURGE])


def test_where_nobody_listens_there_is_no_connection(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        ControlSocket(tmp_path / "control")
