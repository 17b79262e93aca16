"""The command line as users use it: what it gives, what it says to mistakes, what it leaves."""

import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from experiments import needs
from experiments.machine import ROOT
from experiments.measure import results
from nve.linux.capabilities import cgroup2_mount
from nve.wire.frames import VXLAN_UDP_PORT
from tests.helpers.command import NOBODY, TINY, VMMLAB, as_nobody, complaint, vmmlab
from tests.helpers.footprint import footprint
from tests.helpers.lab import running_processes
from tests.helpers.terminal import CTRL_C, Terminal
from tests.helpers.wait import wait_until
from topologies.emulation.session import RUN_DIRECTORY

COMMANDS = ("doctor", "list", "run", "sweep", "plot", "report", "shell", "clean")
NEEDED_BESIDES_OVS = needs.EVERY_RUN
FILES = {"scenario.yaml", "manifest.json", "events.csv", "packets.parquet", "moves.csv"}
NEW_FILES = {"flows.csv", "refused.csv"}
"""Those that a result of an older version does not have."""


@pytest.fixture(scope="module")
def scenario(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("scenario") / "tiny.yaml"
    file.write_text(TINY)
    return file


# -- what it gives ---------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [(), *((name,) for name in COMMANDS)])
def test_every_command_explains_itself(command: tuple[str, ...]) -> None:
    done = vmmlab(*command, "--help")

    assert done.returncode == 0
    assert "Usage: vmmlab" in done.stdout
    assert all(name in done.stdout for name in (command or COMMANDS))


def test_without_a_command_it_shows_the_commands() -> None:
    done = vmmlab()

    assert done.returncode == 2
    assert all(name in done.stdout + done.stderr for name in COMMANDS)


def test_list_names_what_there_is() -> None:
    listed = json.loads(vmmlab("list", "--json").stdout)
    shown = vmmlab("list").stdout

    assert {"demo", "hot-l2"} <= listed["scenarios"].keys()
    assert {"star", "leaf-spine", "two-site"} <= listed["topologies"].keys()
    for entries in listed.values():
        for name, says in entries.items():
            assert says
            assert name in shown


@pytest.mark.shows("T3")
def test_doctor_says_that_a_run_is_possible() -> None:
    done = vmmlab("doctor", "--json")
    found = json.loads(done.stdout)

    assert done.returncode == 0
    assert found["run_possible"] is True
    assert {finding["state"] for finding in found["findings"]} <= {"ok", "optional"}
    assert "A run is possible here." in vmmlab("doctor").stdout


def test_doctor_tells_others_to_be_root() -> None:
    done = as_nobody("doctor", "--json")

    assert done.returncode == 1
    (about_root,) = (
        finding for finding in json.loads(done.stdout)["findings"] if finding["what"] == "root"
    )
    assert "sudo" in about_root["remedy"]


@pytest.fixture(scope="module")
def run(scenario: Path) -> "subprocess.CompletedProcess[str]":
    """One run, in a place that is everybody's to read."""
    out = scenario.parent / "result"
    return vmmlab("run", scenario, "--out", out, "--pcap", "--set", "traffic.0.rate_pps=200")


@pytest.fixture(scope="module")
def result(run: "subprocess.CompletedProcess[str]", scenario: Path) -> Path:
    assert run.returncode == 0, run.stderr
    return scenario.parent / "result"


def test_a_run_gives_a_table_and_names_the_report(
    run: "subprocess.CompletedProcess[str]", result: Path
) -> None:
    assert run.stderr == ""
    assert "vm2>vm1/ipv4" in run.stdout
    assert f"report  {result}/report.html" in run.stdout


@pytest.mark.shows("T2", "T5")
def test_a_run_gives_a_whole_result(result: Path) -> None:
    loaded = results.load(result)

    assert {path.name for path in result.iterdir()} == FILES | NEW_FILES | {
        "plots",
        "pcap",
        "report.html",
    }
    assert loaded.manifest["valid"] is True
    assert loaded.scenario["traffic"][0]["rate_pps"] == 200
    assert list(loaded.moves["outcome"]) == ["completed"]
    assert 150 <= len(loaded.packets) <= 200
    assert list((result / "plots").glob("*.svg"))
    assert not list(result.parent.glob(".*.partial"))


def test_captures_hold_the_overlay_packets(result: Path) -> None:
    captures = sorted((result / "pcap").iterdir())

    assert [file.name for file in captures] == ["nve1.pcap", "nve2.pcap"]
    for file in captures:
        read = ["tcpdump", "-n", "-r", str(file), f"udp port {VXLAN_UDP_PORT}"]
        assert "VXLAN" in subprocess.run(read, capture_output=True, text=True, check=True).stdout


def test_a_result_repeats_itself(result: Path, tmp_path: Path) -> None:
    """The scenario beside a result is a scenario; each repetition has its own seed."""
    done = vmmlab("run", result / "scenario.yaml", "--repeat", "2", "--out", tmp_path / "again")

    assert done.returncode == 0, done.stderr
    again = results.load(tmp_path / "again")
    once = results.load(result)
    assert again.variants == ["1", "2"]
    for number, repeated in enumerate(again.runs.values()):
        assert repeated.scenario == {**once.scenario, "seed": once.scenario["seed"] + number}
        assert list(repeated.moves["outcome"]) == ["completed"]


@pytest.fixture
def copied(result: Path) -> Iterator[Path]:
    """The result as its only possession of a user who is nobody."""
    with tempfile.TemporaryDirectory() as directory:
        copy = Path(shutil.copytree(result, Path(directory, "result")))
        for path in (Path(directory), *Path(directory).glob("**/*")):
            os.chown(path, NOBODY, NOBODY)
        yield copy


def test_plots_and_report_are_made_again_without_root(copied: Path) -> None:
    plots = sorted(path.name for path in (copied / "plots").iterdir())
    shutil.rmtree(copied / "plots")
    (copied / "report.html").unlink()

    drawn = as_nobody("plot", copied)
    written = as_nobody("report", copied)

    assert drawn.returncode == 0, drawn.stderr
    assert written.returncode == 0, written.stderr
    assert sorted(path.name for path in (copied / "plots").iterdir()) == plots
    assert sorted(drawn.stdout.split()) == [str(copied / "plots" / name) for name in plots]
    assert written.stdout == f"{copied}/report.html\n"
    assert "vm2&gt;vm1/ipv4" in (copied / "report.html").read_text()


# -- what it says to mistakes ----------------------------------------------------------------------

TWICE = ("moves=[{at_s: 0.1, vm: vm1, to: nve2, pause_ms: 300}, {at_s: 0.3, vm: vm1, to: nve1}]",)
MISTAKES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    # mistake: settings, what the complaint has to name
    "unknown key": (("overlay.colour=red",), ("overlay.colour", "no such key")),
    "unknown VM in traffic": (("traffic.0.from=vm9",), ("traffic.0.from", "'vm9'", "vm1, vm2")),
    "unknown NVE in a move": (("moves.0.to=nve9",), ("moves.0.to", "'nve9'", "nve1, nve2")),
    "unknown topology": (("topology.kind=ring",), ("topology", "'ring'", "leaf-spine, star")),
    "a move to where the VM is": (("moves.0.to=nve1",), ("moves.0.to", "already", "another NVE")),
    "overlapping moves": (TWICE, ("moves.1.at_s", "still being moved", "the earliest is 0.9")),
    "probe of rate 0": (("traffic.0.rate_pps=0",), ("traffic.0.rate_pps", "greater than 0")),
    "link of rate 0": (("topology.link.rate_mbit=0",), ("topology.link.rate_mbit", "leave it out")),
    "markup in a name": (("name=x[bold]",), ("name", "[a-z0-9]")),
    "no value": (("seed",), ("--set seed", "key=value")),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_a_scenario_is_a_sentence(
    scenario: Path, tmp_path: Path, mistake: str
) -> None:
    settings, named = MISTAKES[mistake]
    options = [word for setting in settings for word in ("--set", setting)]
    done = vmmlab("run", scenario, "--out", tmp_path / "result", *options)

    assert done.returncode == 2
    said = complaint(done)
    assert all(part in said for part in named), said
    if not said.startswith("--set"):
        assert said.startswith(f"{scenario}: ")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("run", "dem"), ("'dem'", "did you mean demo?")),
        (("run", "nowhere.yaml"), ("nowhere.yaml", "no such file")),
        (
            ("run", "demo", "--framework", "pox"),
            ("'pox'", "overlay.framework", "'os-ken' or 'ryu'"),
        ),
        (("run", "demo", "--out", "/proc/result"), ("/proc/result", "--out")),
        (("shell", "ring"), ("'ring'", "leaf-spine, star, two-site")),
        (("plot", "/nowhere"), ("/nowhere", "not a result directory")),
        (("report", "/"), ("not a result directory", "manifest.json")),
    ],
)
def test_a_mistake_in_a_command_is_a_sentence(
    arguments: tuple[str, ...], named: tuple[str, ...]
) -> None:
    done = vmmlab(*arguments)

    assert done.returncode == 2
    said = complaint(done)
    assert all(part in said for part in named), said


@pytest.mark.parametrize("arguments", [("dance",), ("run",), ("run", "demo", "--repeat", "0")])
def test_a_command_that_is_none_is_explained(arguments: tuple[str, ...]) -> None:
    done = vmmlab(*arguments)

    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "--help" in done.stderr


@pytest.mark.parametrize(
    "text", ["name: [", "- a list", "name: \x00", "\N{EURO SIGN}".encode("cp1252")]
)
def test_a_file_that_is_no_scenario_is_a_sentence(tmp_path: Path, text: str | bytes) -> None:
    file = tmp_path / "broken.yaml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    done = vmmlab("run", file)

    assert done.returncode == 2
    assert str(file) in complaint(done)


def test_a_result_that_exists_is_kept(scenario: Path, tmp_path: Path) -> None:
    (tmp_path / "result").mkdir()
    (tmp_path / "result" / "precious").touch()
    done = vmmlab("run", scenario, "--out", tmp_path / "result")

    assert done.returncode == 2
    assert complaint(done) == f"{tmp_path}/result exists already; name another directory with --out"
    assert [path.name for path in tmp_path.glob("**/*")] == ["result", "precious"]


@pytest.mark.parametrize("command", [("run", "demo"), ("shell",), ("clean",)])
def test_who_is_not_root_is_told_so(command: tuple[str, ...]) -> None:
    done = as_nobody(*command)

    assert done.returncode == 2
    assert "sudo" in complaint(done)


def test_missing_programs_are_named(tmp_path: Path) -> None:
    for name in NEEDED_BESIDES_OVS:
        (tmp_path / name).symlink_to(str(shutil.which(name)))
    done = vmmlab("run", "demo", env={"PATH": str(tmp_path)})

    assert done.returncode == 2
    said = complaint(done)
    assert "not installed: ovs-vswitchd, ovsdb-server, " in said
    assert "(for overlay: nvo3), iperf3 (for traffic: tcp-bulk)" in said
    assert "make setup" in said


def test_a_run_that_fails_says_why_and_leaves_nothing(scenario: Path, tmp_path: Path) -> None:
    """Open vSwitch cannot make its database: a disk that is full, say."""
    (tmp_path / "bin").mkdir()
    broken = tmp_path / "bin" / "ovsdb-tool"
    broken.write_text("#!/bin/sh\necho 'the disk is full' >&2\nexit 1\n")
    broken.chmod(0o755)
    path = f"{tmp_path}/bin:{os.environ['PATH']}"
    done = vmmlab("run", scenario, "--out", tmp_path / "result", env={"PATH": path})

    assert done.returncode == 1
    said = complaint(done)
    assert said.startswith("the run failed: ")
    assert "the disk is full" in said
    assert [entry.name for entry in tmp_path.iterdir()] == ["bin"]


# -- what it leaves --------------------------------------------------------------------------------


def while_starting_switches(terminal: Terminal) -> None:
    await_file(terminal, RUN_DIRECTORY, "nve1")


def while_starting_the_nva(terminal: Terminal) -> None:
    await_file(terminal, RUN_DIRECTORY, "nva.log")


def while_packets_flow(terminal: Terminal) -> None:
    terminal.await_text("running: 0 of 30 s")


def while_a_vm_is_paused(terminal: Terminal) -> None:
    terminal.await_text("running: 0 of 30 s")
    mount = cgroup2_mount()
    assert mount is not None
    events = await_file(terminal, mount / "vmmlab", "vm-vm1/cgroup.events")
    wait_until(lambda: None if "frozen 1" in events.read_text() else "vm1 is not paused")


def await_file(terminal: Terminal, sessions: Path, name: str) -> Path:
    """Returns as soon as the command's session has such a file or directory."""

    def found() -> list[Path]:
        return list(sessions.glob(f"vmmlab-{terminal.process.pid}-*/{name}"))

    wait_until(lambda: None if found() else f"no {name}; shown: {terminal.shown}", 30)
    return found()[0]


STAGES = (
    while_starting_switches,
    while_starting_the_nva,
    while_packets_flow,
    while_a_vm_is_paused,
)
LONG = ("--set", "duration_s=30", "--set", "moves.0.at_s=0.5", "--set", "moves.0.pause_ms=20000")


@pytest.mark.parametrize("stage", STAGES)
def test_ctrl_c_leaves_nothing(
    scenario: Path, tmp_path: Path, stage: Callable[[Terminal], None]
) -> None:
    with Terminal([*VMMLAB, "run", str(scenario), "--out", f"{tmp_path}/result", *LONG]) as run:
        stage(run)
        had = footprint(run.process.pid)
        assert had.remains() is not None
        run.press(CTRL_C)
        assert run.await_end() == 130
        assert "interrupted; everything that was started is ended" in run.shown
        assert "Traceback" not in run.shown

    assert had.remains() is None
    assert footprint(run.process.pid).places == frozenset()
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_twice_leaves_nothing_either(scenario: Path, tmp_path: Path) -> None:
    """An impatient user: the second one comes while everything is being taken down."""
    with Terminal([*VMMLAB, "run", str(scenario), "--out", f"{tmp_path}/result", *LONG]) as run:
        while_packets_flow(run)
        had = footprint(run.process.pid)
        run.press(CTRL_C)
        wait_until(
            lambda: (
                "nothing has ended" if running_processes(had.processes) == had.processes else None
            )
        )
        run.press(CTRL_C)
        assert run.await_end() == 130
        assert "Traceback" not in run.shown

    assert had.remains() is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("told", [signal.SIGTERM, signal.SIGHUP])
def test_being_terminated_is_being_interrupted(
    scenario: Path, tmp_path: Path, told: signal.Signals
) -> None:
    with Terminal([*VMMLAB, "run", str(scenario), "--out", f"{tmp_path}/result", *LONG]) as run:
        while_packets_flow(run)
        had = footprint(run.process.pid)
        run.process.send_signal(told)
        assert run.await_end() == 130

    assert had.remains() is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.alone
def test_a_killed_run_is_cleaned_away(scenario: Path) -> None:
    """Also what it had begun to record; what was there before is left alone."""
    before = set((ROOT / "results").glob("*"))
    with Terminal([*VMMLAB, "run", str(scenario), "--set", "name=killed", *LONG]) as run:
        while_a_vm_is_paused(run)
        had = footprint(run.process.pid)
        run.process.kill()
        run.process.wait()
    (partial,) = (ROOT / "results").glob(f".*-killed.{run.process.pid}.partial")
    assert had.remains() is not None

    cleaned = vmmlab("clean")

    assert cleaned.returncode == 0
    (place,) = (place.name for place in had.places if place.parent == RUN_DIRECTORY)
    assert f"{place}: ended " in cleaned.stdout
    assert f"removed {partial}, which a run did not finish" in cleaned.stdout
    assert had.remains() is None
    assert not partial.exists()
    assert set((ROOT / "results").glob("*")) == before
    assert vmmlab("clean").stdout == "nothing to clean\n"


def test_half_a_result_is_not_taken_for_whole(result: Path, tmp_path: Path) -> None:
    whole = Path(shutil.copytree(result, tmp_path / "whole"))
    for name in sorted(FILES):
        lacking = Path(shutil.copytree(whole, tmp_path / f"without-{name}"))
        (lacking / name).unlink()
        done = vmmlab("report", lacking)
        assert done.returncode == 2
        assert name in complaint(done)


def test_the_scenario_of_a_result_is_whole(result: Path) -> None:
    """Nothing is left to defaults that another version may have changed."""
    written: dict[str, Any] = yaml.safe_load((result / "scenario.yaml").read_text())

    assert written["overlay"]["mapping_update"] == "push"
    assert written["topology"]["link"]["loss_pct"] == 0
