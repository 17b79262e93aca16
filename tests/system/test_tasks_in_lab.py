"""A task moves between two VMs of a data centre: what its clients notice, and what is recorded."""

import pytest

from experiments.measure.results import Result
from experiments.run.run import RunOutcome
from experiments.scenario.load import find, resolve
from experiments.scenario.yaml_source import read
from tests.helpers.command import vmmlab
from tests.helpers.runs import recorded

SHORTER = {
    "task_moves": [
        {"at_s": 1, "task": "web", "to": "vm2"},
        {"at_s": 4, "task": "web", "to": "vm1", "late": "drop"},
    ],
    "traffic.*.rate_mbit": 8,
    "duration_s": 8,
}


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunOutcome, Result]:
    """The scenario that comes with vmmlab, with less to download."""
    file = find("task-move")
    wanted = resolve(read(file), str(file), SHORTER)
    return recorded(wanted, tmp_path_factory.mktemp("tasks") / "result")


@pytest.mark.shows("R4.2.3", "R4.2.1.3")
def test_clients_notice_a_silence_and_nothing_else(result: tuple[RunOutcome, Result]) -> None:
    outcome, found = result
    assert outcome.problems == []
    downloads = found.rows("download")
    assert downloads is not None
    assert set(downloads["outcome"]) == {"whole"}
    assert set(downloads["flow"]) == {"vm3>web/http", "vm3>web/http#2"}


@pytest.mark.shows("R4.2.1.1", "R4.2.1.3")
def test_each_connection_has_a_row(result: tuple[RunOutcome, Result]) -> None:
    _, found = result
    moved = found.connections
    assert moved is not None
    assert set(moved["fate"]) == {"migrated"}
    assert set(moved["resets"]) == {0}
    ours = {each.partition(":80-")[0] for each in moved["connection"]}
    assert ours == {"192.168.9.50", "[fd77::9:50]"}
    assert (moved["gap_ms"] >= moved["freeze_ms"]).all()


@pytest.mark.shows("R4.2.1.1")
def test_the_new_place_is_made_known_last(result: tuple[RunOutcome, Result]) -> None:
    _, found = result
    of_move = [event for event in found.events if event.details.get("task_move") == 1]
    at = {event.name: event.t_ns for event in of_move}
    claimed = [
        event
        for event in found.events
        if event.name == "address-claimed" and event.details["before"] == "vm1"
    ]
    assert at["address-configured"] < at["task-stopped"] < at["task-instantiated"]
    assert {event.details["address"] for event in claimed} == {"192.168.9.50", "fd77::9:50"}
    assert all(at["task-instantiated"] < event.t_ns for event in claimed)


def test_a_task_moves_at_the_prompt() -> None:
    """And what is typed wrong is answered."""
    typed = (
        "connections web\nmove web vm3\nmove web vm2\nwhere\nconnections web\nmove web vm2\n"
        "move web vm1 keep\nconnections\n"
    )
    told = vmmlab("shell", "task-move", input=typed).stdout
    assert "[fd77::9:50]:80" in told
    assert "web may be in vm1, vm2\n" in told
    assert "web is in vm2; `trace` shows what happened\n" in told
    assert "\nweb  vm2\n" in told
    assert "web is in vm2 already\n" in told
    assert "usage: connections TASK; there are web\n" in told
