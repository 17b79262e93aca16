"""The northbound interface's socket, used badly: garbage, silence, too much, and the same again."""

import json
import socket
import threading
from collections.abc import Iterator
from itertools import islice
from typing import Any

import pytest

from controller.northbound import server as server_module
from controller.northbound.bodies import MAX_REQUEST_BYTES
from controller.northbound.server import serve
from controller.nva import Nva
from tests.adapters.test_northbound import ASSOCIATION, MOVE, everything
from tests.helpers.mutation import garbage, mutations
from tests.helpers.nva import TOKEN, confirm
from tests.helpers.wait import wait_until
from tests.helpers.wire import Wire

AUTHORIZED = f"Authorization: Bearer {TOKEN}"


@pytest.fixture
def server(nva: Nva, wires: dict[str, Wire], monkeypatch: pytest.MonkeyPatch) -> Iterator[Nva]:
    monkeypatch.setattr(server_module._QuietHandler, "timeout", 0.2)
    monkeypatch.setattr(server_module, "MAX_CONNECTIONS", 20)
    listening = serve(nva)
    thread = threading.Thread(target=listening.serve_forever, args=(0.01,))
    thread.start()
    yield nva
    listening.shutdown()
    thread.join()
    listening.server_close()


def dial(nva: Nva) -> socket.socket:
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(10)
    client.connect(str(nva.settings.northbound))
    return client


def heard(client: socket.socket) -> bytes:
    """Everything until the server hangs up."""
    received = b""
    try:
        while more := client.recv(65536):
            received += more
    except ConnectionResetError:  # it did not wait for the rest of what we had to say
        pass
    return received


def say(nva: Nva, octets: bytes) -> bytes:
    with dial(nva) as client:
        try:
            client.sendall(octets)
            client.shutdown(socket.SHUT_WR)
        except OSError:  # it has heard enough
            pass
        return heard(client)


def request(method: str, path: str, body: bytes = b"", *headers: str) -> bytes:
    told = [f"{method} /v1/{path} HTTP/1.1", "Host: nva", AUTHORIZED, *headers]
    if body and not any(header.lower().startswith(("content-", "transfer-")) for header in headers):
        told.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*told, "", ""]).encode() + body


def status(answer: bytes) -> int:
    return int(answer.split()[1])


def content(answer: bytes) -> Any:
    return json.loads(answer.partition(b"\r\n\r\n")[2])


def post(nva: Nva, path: str, body: object = None) -> tuple[int, Any]:
    return sent(nva, "POST", path, body)


def sent(nva: Nva, method: str, path: str, body: object) -> tuple[int, Any]:
    answer = say(nva, request(method, path, json.dumps(body or {}).encode()))
    return status(answer), content(answer)


def alive(nva: Nva) -> bool:
    return status(say(nva, request("GET", "health"))) == 200


@pytest.mark.parametrize("seed", range(3))
def test_octets_without_meaning_are_refused_and_change_nothing(server: Nva, seed: int) -> None:
    before = everything(server)
    honest = [
        request("POST", "associations", json.dumps(ASSOCIATION).encode()),
        request("GET", "mapping"),
        request("PUT", "moves/1", json.dumps(MOVE).encode()),
    ]
    without_token = [each.replace(AUTHORIZED.encode(), b"X: y") for each in honest]
    for octets in (*islice(garbage(seed, 400), 40), *islice(mutations(seed, without_token), 60)):
        answer = say(server, octets)
        assert b"200 OK" not in answer[:20]

    assert everything(server) == before
    assert alive(server)


def test_who_says_nothing_is_hung_up_on(server: Nva) -> None:
    for beginning in (b"", b"GET /v1/health HT", request("GET", "health")[:-2]):
        with dial(server) as client:
            client.sendall(beginning)
            heard(client)  # returns: the server has hung up
    with dial(server) as client:
        client.sendall(request("POST", "associations", b"", "Content-Length: 100") + b"{")
        assert status(heard(client) or b"HTTP/1.1 400") in (400, 500)
    assert alive(server)


def test_so_many_callers_and_no_more(server: Nva) -> None:
    waiting = [dial(server) for _ in range(20)]
    try:
        for _ in range(5):
            assert heard(dial(server)) == b""
    finally:
        for client in waiting:
            client.close()
    wait_until(lambda: None if _answers(server) else "nobody is let in again")


def _answers(nva: Nva) -> bool:
    answer = say(nva, request("GET", "health"))
    return bool(answer) and status(answer) == 200


@pytest.mark.parametrize(
    "sent",
    [
        request("POST", "associations", b" " * (MAX_REQUEST_BYTES + 1)),
        request("POST", "associations", b"{}", f"Content-Length: {2**40}"),
        request(
            "POST", "associations", b"20000\r\n" + b" " * 0x20000 + b"\r\n0\r\n\r\n",
            "Transfer-Encoding: chunked",
        ),
    ],
    ids=["as it says", "says more than it sends", "in chunks"],
)  # fmt: skip
def test_what_is_too_large_is_413(server: Nva, sent: bytes) -> None:
    before = everything(server)
    answer = say(server, sent)

    # It may be reset before it has heard that: then it has not been answered at all.
    assert answer == b"" or status(answer) == 413
    assert everything(server) == before
    assert alive(server)


@pytest.mark.parametrize("length", ["-1", "x", "1e3", "0x10", ""])
def test_a_length_that_is_none_is_no_body(server: Nva, length: str) -> None:
    before = everything(server)
    answer = say(server, request("POST", "associations", b"{}", f"Content-Length: {length}"))

    assert status(answer) == 400
    assert everything(server) == before


@pytest.mark.parametrize("method", ["BREW", "PUT", "PATCH", "TRACE", "CONNECT", "get"])
def test_methods_that_there_are_not(server: Nva, method: str) -> None:
    before = everything(server)
    assert status(say(server, request(method, "associations"))) in (405, 501)
    assert everything(server) == before


def test_who_says_it_twice_has_said_it_once(server: Nva, wires: dict[str, Wire]) -> None:
    """Every step of a move, repeated as a caller would that has not heard the answer."""
    steps = [
        ("POST", "associations", ASSOCIATION, 201),
        ("PUT", "moves/1", MOVE, 201),
        ("POST", "moves/1/redirect", None, 200),
        ("POST", "moves/1/activate", None, 200),
    ]
    for method, path, body, accepted in steps:
        assert sent(server, method, path, body)[0] == accepted
        for again in range(2):
            before = everything(server)
            code, answer = sent(server, method, path, body)
            assert code in (200, 409), (path, again, answer)
            assert everything(server) == before
        confirm(server, *wires.values())
    gone = request("DELETE", "associations/nve1/vm1")
    assert status(say(server, gone)) == 200
    assert status(say(server, gone)) == 409
    assert len(server.authority.moves) == 1


def test_a_request_behind_another_in_one_connection_is_not_heard(server: Nva) -> None:
    """What is left in a body that nobody read cannot become a request."""
    smuggled = request("POST", "associations", json.dumps(ASSOCIATION).encode())
    answer = say(server, request("GET", "health", smuggled))

    assert answer.count(b"HTTP/1.1") == 1
    assert list(server.authority.directory) == []
