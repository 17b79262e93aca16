"""The runner's client of the northbound interface, against the real server."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from controller.nva import Nva
from experiments.overlays.nvo3.http import HttpClient, NoAnswer
from tests.adapters.test_northbound import ASSOCIATION, MOVE
from tests.adapters.test_northbound_abuse import server
from tests.helpers.nva import TOKEN

__all__ = ["server"]
HUNG_UP_S = 0.4
"""The server hangs up on those who say nothing for 0.2 s."""


@pytest.fixture
def client(server: Nva) -> Iterator[HttpClient]:
    made = HttpClient(server.settings.northbound, {"Authorization": f"Bearer {TOKEN}"})
    yield made
    made.close()


def test_answers_are_read_and_connections_used_again(client: HttpClient) -> None:
    created = client.ask("POST", "/v1/associations", {}, ASSOCIATION, 5)
    assert (created.status, created.content) == (201, {"vm": "vm1", "nve": "nve1"})
    for _ in range(3):
        assert client.ask("GET", "/v1/mapping", {}, None, 5).content[0]["vm"] == "vm1"
    assert client.ask("GET", "/v1/nowhere", {}, None, 5).status == 404
    assert len(client._idle) == 1


def test_parameters_are_part_of_the_request(client: HttpClient) -> None:
    client.ask("POST", "/v1/associations", {}, ASSOCIATION, 5)
    waiting = {"until": "prepared", "timeout_s": 0}
    assert client.ask("PUT", "/v1/moves/1", waiting, MOVE, 5).status == 504


def test_a_server_that_has_hung_up_is_called_again(client: HttpClient) -> None:
    for _ in range(2):
        assert client.ask("GET", "/v1/health", {}, None, 5).status == 200
        time.sleep(HUNG_UP_S)


def test_an_answer_that_does_not_come_in_time_is_none(client: HttpClient) -> None:
    client.ask("POST", "/v1/associations", {}, ASSOCIATION, 5)
    with pytest.raises(NoAnswer, match="timed out"):
        client.ask("PUT", "/v1/moves/1", {"until": "prepared", "timeout_s": 2}, MOVE, 0.1)
    assert client.ask("GET", "/v1/health", {}, None, 5).status == 200, "not the answer before"


def test_where_nobody_is_nobody_answers(tmp_path: Path) -> None:
    with pytest.raises(NoAnswer, match="No such file"):
        HttpClient(tmp_path / "nobody", {}).ask("GET", "/v1/health", {}, None, 5)
