"""Settings of the machine are raised as far as runs need, and put back; here in a folder."""

from collections.abc import Callable
from pathlib import Path

import pytest

from topologies.emulation import host_settings
from topologies.emulation.host_settings import Change, raised, settle
from topologies.emulation.session import Session

ONE, OTHER = "net/ipv4/neigh/default/gc_thresh3", "net/ipv6/neigh/default/gc_thresh3"


class FakeMachine:
    """Settings and sessions in a folder."""

    def __init__(self, place: Path) -> None:
        self.sysctls, self.run = place / "sys", place / "run"
        self.run.mkdir()
        self.killed: set[str] = set()
        for name in (ONE, OTHER):
            (self.sysctls / name).parent.mkdir(parents=True)
            self.set(name, 1024)

    def set(self, name: str, value: int) -> None:
        (self.sysctls / name).write_text(f"{value}\n", encoding="ascii")

    def values(self) -> list[int]:
        return [int((self.sysctls / name).read_text(encoding="ascii")) for name in (ONE, OTHER)]

    def session(self, name: str) -> Session:
        (self.run / name).mkdir()
        return Session(name, self.run / name, self.run / name)

    def living(self) -> list[str]:
        return [
            each.name
            for each in self.run.iterdir()
            if each.is_dir() and each.name not in self.killed
        ]


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeMachine:
    fake = FakeMachine(tmp_path)
    monkeypatch.setattr(host_settings, "SYSCTLS", fake.sysctls)
    monkeypatch.setattr(host_settings, "RUN_DIRECTORY", fake.run)
    monkeypatch.setattr(host_settings, "living", fake.living)
    return fake


def test_a_setting_is_raised_and_put_back(machine: FakeMachine) -> None:
    with raised(machine.session("a"), {ONE: 4096, OTHER: 512}) as changed:
        assert machine.values() == [4096, 1024]
        assert changed == {ONE: Change(1024, 4096)}
    assert machine.values() == [1024, 1024]
    assert not list(machine.run.glob("*.json"))


def test_of_two_runs_the_one_that_needs_more_counts(machine: FakeMachine) -> None:
    with raised(machine.session("a"), {ONE: 4096}):
        with raised(machine.session("b"), {ONE: 9000, OTHER: 2000}) as changed:
            assert machine.values() == [9000, 2000]
            assert changed[ONE] == Change(1024, 9000)
        assert machine.values() == [4096, 1024]
    assert machine.values() == [1024, 1024]


def test_the_first_may_end_before_the_second(machine: FakeMachine) -> None:
    first = raised(machine.session("a"), {ONE: 9000})
    first.__enter__()
    with raised(machine.session("b"), {ONE: 4096}):
        first.__exit__(None, None, None)
        assert machine.values() == [4096, 1024]
    assert machine.values() == [1024, 1024]


def kill(machine: FakeMachine) -> None:
    """A run that raises a setting, and is killed before it can do anything about it."""
    host_settings.wish(machine.session("killed"), {ONE: 4096})
    settle()
    machine.killed.add("killed")


def next_run(machine: FakeMachine) -> None:
    with raised(machine.session("next"), {}):
        assert machine.values() == [1024, 1024]


@pytest.mark.parametrize("then", [lambda _: settle(), next_run], ids=["clean", "another run"])
def test_what_a_killed_run_has_raised_is_put_back(
    machine: FakeMachine, then: Callable[[FakeMachine], object]
) -> None:
    kill(machine)
    assert machine.values() == [4096, 1024]
    then(machine)
    assert machine.values() == [1024, 1024]


def test_what_was_put_back_is_said_once(machine: FakeMachine) -> None:
    kill(machine)
    assert settle() == ["put net.ipv4.neigh.default.gc_thresh3 back to 1024"]
    assert settle() == []


def test_what_somebody_else_has_set_meanwhile_stays(machine: FakeMachine) -> None:
    with raised(machine.session("a"), {ONE: 4096}):
        machine.set(ONE, 20_000)
    assert machine.values() == [20_000, 1024]


def test_a_setting_that_is_not_there_is_left_out(machine: FakeMachine) -> None:
    with raised(machine.session("a"), {"net/ipv4/of_another_kernel": 5}) as changed:
        assert changed == {}
    assert host_settings.value_of("net/ipv4/of_another_kernel") is None
