"""A task that has another address in each host, and is found by its name.

Its name server is Knot DNS at the host `c`, and who asks it is `dig`: both are not ours.
"""

import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from ipaddress import ip_address
from pathlib import Path

import pytest

from experiments.measure.event_log import EventLog
from experiments.run.name_server import NameServer
from experiments.run.task_steps import TaskError
from experiments.run.tasks import RunningTask
from experiments.scenario.load import find, resolve
from experiments.scenario.tasks import Task, TaskMove
from experiments.scenario.yaml_source import read
from nve.linux.namespace import inside, run_in
from nve.task.names import LedName, NameServerError, TaskName, UpdateKey
from tests.helpers.hosts import Hosts, hosts
from tests.helpers.runs import recorded
from tests.helpers.task_trials import answered

ADDRESSES = {"a": ("10.9.0.51", "fd09::51"), "b": ("10.9.0.52", "fd09::52")}


@pytest.fixture(scope="module")
def network() -> Iterator[Hosts]:
    with hosts(["a", "b", "c"]) as made:
        yield made


@pytest.fixture
def server(network: Hosts, tmp_path: Path) -> Iterator[NameServer]:
    place = network.of["c"]
    made = NameServer(network, "c", place.pid, (place.ipv4, place.ipv6), "lab.test", tmp_path)
    made.await_ready()
    with closing(made):
        yield made


def led(server: NameServer, key: UpdateKey | None = None, **name: object) -> LedName:
    named = TaskName(**{"host": "web", "zone": "lab.test", "ttl_s": 0, **name})  # type: ignore[arg-type]
    return LedName(named, server.addresses[0], key or server.key)


def datagrams(network: Hosts) -> socket.socket:
    with inside(network.of["a"].pid):
        return socket.socket(socket.AF_INET, socket.SOCK_DGRAM)


def dig(network: Hosts, kind: str, *more: str) -> list[str]:
    asked = ["dig", "+noall", "+answer", "@fd09::3", *more, "web.lab.test", kind]
    return run_in(network.of["c"].pid, asked).split()


@contextmanager
def task(network: Hosts, server: NameServer) -> Iterator[tuple[RunningTask, EventLog]]:
    own = {host: tuple(map(ip_address, listed)) for host, listed in ADDRESSES.items()}
    asked = Task(on="a", program="http-server", addresses=own, arguments={"octets": 100})
    log = EventLog()
    made = RunningTask(network, "web", asked, log, led=led(server))  # type: ignore[arg-type]
    made.start()
    with closing(made):
        yield made, log


SHORTER = {
    "name_server.ttl_s": 1,
    "task_moves": [
        {
            **{"at_s": 1.3, "task": "web", "to": "vm2"},
            **{"connections": "close", "meanwhile": "unreachable", "late": "drop"},
        }
    ],
    "duration_s": 9,
    "variants": {},
}


@pytest.mark.shows("R4.2.1.1", "R4.2.1.2")
def test_clients_come_back_when_they_have_looked_it_up(tmp_path: Path) -> None:
    """The scenario that comes with vmmlab, shorter."""
    file = find("dns")
    outcome, found = recorded(resolve(read(file), str(file), SHORTER), tmp_path / "result")
    assert outcome.problems == []
    asked = found.rows("ask")
    assert asked is not None
    (updated,) = (event for event in found.events if event.name == "name-updated")
    for _, of_flow in asked.groupby("flow"):
        lost = of_flow[of_flow["connects"] > 0]
        assert len(lost) == 2
        first, after = lost.to_dict("records")
        assert (first["ask"], first["lookups"]) == (1, 1)
        assert after["answered_ns"] > updated.t_ns
        assert after["lookups"] >= 1
        assert of_flow["answered_ns"].max() > updated.t_ns + 1_500_000_000


TO_B = TaskMove(
    at_s=0, task="web", to="b", connections="close", meanwhile="drop", late="drop", record_s=0
)


@pytest.mark.shows("R4.2.1.1", "R4.2.1.2")
def test_a_task_is_found_by_its_name(network: Hosts, server: NameServer) -> None:
    with task(network, server) as (web, log):
        for host, version, kind in (
            ("a", 0, "A"),
            ("a", 1, "AAAA"),
            ("b", 0, "A"),
            ("b", 1, "AAAA"),
        ):
            if web.at != host:
                web.move(1, TO_B)
            assert dig(network, kind) == [
                "web.lab.test.",
                "0",
                "IN",
                kind,
                ADDRESSES[host][version],
            ]
            with inside(network.of["c"].pid):
                connected = socket.create_connection((ADDRESSES[host][version], 80), 5)
            with closing(connected):
                assert answered(connected)
        web.settle()
        assert web.problems == []
        order = [event.name for event in log.after() if event.details.get("task_move") == 1]
    assert [each for each in order if each.startswith(("name", "task-re", "task-st"))] == [
        *("name-confirmed", "task-stopped", "task-restarted", "name-updated"),
    ]


@pytest.mark.shows("R4.2.1.1")
def test_without_its_name_server_a_task_stays(network: Hosts, server: NameServer) -> None:
    with task(network, server) as (web, log):
        server.close()
        with pytest.raises(
            TaskError, match=r"10\.9\.0\.3 does not answer an update of web\.lab\.test"
        ):
            web.move(1, TO_B)
        assert web.at == "a"
        assert {"task-move-failed", "task-move-undone"} <= {event.name for event in log.after()}
        with inside(network.of["c"].pid):
            connected = socket.create_connection((ADDRESSES["a"][0], 80), 5)
        with closing(connected):
            assert answered(connected)


@pytest.mark.parametrize(
    ("other", "complaint"),
    [
        ({"key": UpdateKey.new()}, "refuses our signature"),
        ({"key": UpdateKey.new("stranger")}, "refuses our signature"),
        ({"zone": "example.test"}, "cannot be told of web.example.test"),
        ({}, "there it does not lead to 10.9.0.9"),
    ],
)
def test_the_server_says_why_it_does_not_update(
    network: Hosts, server: NameServer, other: dict[str, object], complaint: str
) -> None:
    led(server).lead([ip_address("10.9.0.8")], datagrams(network))
    with pytest.raises(NameServerError, match=complaint):
        led(server, **other).confirm([ip_address("10.9.0.9")], datagrams(network))  # type: ignore[arg-type]
    assert dig(network, "A", "+short") == ["10.9.0.8"]
