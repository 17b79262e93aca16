"""Tasks that could not start are found before anything is built (draft, section 4.2.3)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from experiments.task_programs import mistakes
from tests.helpers.scenarios import resolved

OWN = """
from dataclasses import dataclass

@dataclass
class Arguments:
    rounds: int = 1

class Whole:
    ARGUMENTS = Arguments
    def start(self, place): ...
    def work(self): ...
    def checkpoint(self): ...
    def restore(self, state, sockets): ...

class Half:
    def start(self, place): ...
    def work(self): ...
"""

HTTP, PROCESS = "http-server", "process"
ARGUMENTS = "tasks.web.arguments"
MISTAKES: dict[str, tuple[str, dict[str, Any], str]] = {
    # what: (program, arguments, the whole complaint)
    "misspelt": (
        "httpserver",
        {},
        "tasks.web.program: there is no program 'httpserver'; there are http-server, process, "
        "stream",
    ),
    "no module": (
        "nowhere.at_all:Program",
        {},
        "tasks.web.program: there is no program 'nowhere.at_all:Program'; No module named "
        "'nowhere'",
    ),
    "a module that cannot be read": (
        "broken_one:Program",
        {},
        "tasks.web.program: the program 'broken_one:Program' cannot be read: ZeroDivisionError: "
        "division by zero",
    ),
    "without the interface": (
        "own_one:Half",
        {},
        "tasks.web.program: the program 'own_one:Half' cannot move: it has no checkpoint and no "
        "restore",
    ),
    "an argument of nothing": (
        HTTP,
        {"octetz": 1},
        f"{ARGUMENTS}.octetz: there is no argument 'octetz'; there are octets, send_buffer, port",
    ),
    "of another type": (
        HTTP,
        {"octets": "many"},
        f"{ARGUMENTS}.octets: Input should be a valid integer",
    ),
    "out of range": (HTTP, {"port": 0}, f"{ARGUMENTS}: port is 0; give a number from 1 to 65535"),
    "of one's own": (
        "own_one:Whole",
        {"round": 2},
        f"{ARGUMENTS}.round: there is no argument 'round'; there are rounds",
    ),
    "no command": (PROCESS, {}, f"{ARGUMENTS}.command: this is missing; add it"),
    "a command in one text": (
        PROCESS,
        {"command": "iperf3 -s"},
        f"{ARGUMENTS}.command: this is 'iperf3 -s'; give a list, as in [a, b]",
    ),
    "a command that is not installed": (
        PROCESS,
        {"command": ["no-such-program"]},
        f"{ARGUMENTS}: command: there is no program 'no-such-program' on this machine; install it",
    ),
    "neither port nor connect": (
        "stream",
        {},
        f"{ARGUMENTS}: a stream listens or connects; give it port or connect",
    ),
    "a connection to nowhere": (
        "stream",
        {"connect": {"address": "::1"}},
        f"{ARGUMENTS}: connect: give it address, port and, at will, connections; not address",
    ),
}


def told(program: str, arguments: dict[str, Any]) -> Sequence[str]:
    web = {"on": "vm1", "program": program, "addresses": ["fd77::9"], "arguments": arguments}
    return list(mistakes(resolved(tasks={"web": web})))


@pytest.fixture(autouse=True)
def in_a_directory_with_programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_one.py").write_text(OWN)
    (tmp_path / "broken_one.py").write_text("1 / 0")
    monkeypatch.chdir(tmp_path)


@pytest.mark.shows("R4.2.3")
@pytest.mark.parametrize(("program", "arguments", "said"), MISTAKES.values(), ids=MISTAKES)
def test_a_task_that_could_not_start_is_told_of(
    program: str, arguments: dict[str, Any], said: str
) -> None:
    (sentence,) = told(program, arguments)
    assert sentence == said


@pytest.mark.parametrize(
    ("program", "arguments"),
    [
        (HTTP, {}),
        (HTTP, {"octets": 5, "send_buffer": 1000, "port": 8080}),
        (PROCESS, {"command": ["sh", "-c", "true"]}),
        ("stream", {"port": 7, "octets": 0}),
        ("stream", {"connect": {"address": "::1", "port": 7, "connections": 2}}),
        ("own_one:Whole", {"rounds": 2}),
    ],
)
def test_a_task_that_can_start_is_not(program: str, arguments: dict[str, Any]) -> None:
    assert told(program, arguments) == []
