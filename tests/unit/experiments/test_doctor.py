"""The doctor's judgement over every way a machine can fall short, and one look at this machine."""

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from experiments import doctor
from experiments.doctor import LIBRARIES, TOOLS, Finding, Machine, Tool

ABLE = Machine(
    is_root=True,
    kernel="6.1.0-37-amd64",
    python=(3, 11, 2),
    cpus=2,
    tools={tool.program: "1.0" for tool in TOOLS},
    libraries=dict.fromkeys(LIBRARIES, "1.0"),
    kernel_datapath=True,
    userspace_datapath=True,
    vxlan=True,
    netem=True,
    ifb=True,
    cgroup2=Path("/sys/fs/cgroup"),
    freezer=True,
)

SHORTCOMINGS: list[tuple[dict[str, Any], str, str, str]] = [
    # what is different from ABLE, what the doctor names, the state, a part of the remedy
    ({"is_root": False}, "root", "missing", "sudo"),
    ({"python": (3, 9, 2)}, "Python", "missing", "3.11"),
    ({"cpus": 1}, "CPUs", "optional", "2 CPUs"),
    ({"kernel_datapath": False}, "Open vSwitch datapath", "optional", "linux-image-amd64"),
    ({"vxlan": False}, "Open vSwitch datapath", "optional", "linux-image-amd64"),
    (
        {"kernel_datapath": False, "userspace_datapath": False},
        "Open vSwitch datapath",
        "missing",
        "modprobe tun",
    ),
    ({"netem": False}, "link delay, jitter, loss", "optional", "modprobe sch_netem"),
    ({"ifb": False}, "hold packets for a moving VM", "optional", "modprobe ifb"),
    ({"cgroup2": None}, "pause of VMs (cgroup v2 freezer)", "missing", "mount -t cgroup2"),
    ({"freezer": False}, "pause of VMs (cgroup v2 freezer)", "missing", "as root"),
]


def not_ok(machine: Machine) -> list[Finding]:
    return [finding for finding in doctor.judge(machine) if finding.state != "ok"]


def test_nothing_is_wrong_with_an_able_machine() -> None:
    assert not_ok(ABLE) == []


@pytest.mark.parametrize(("difference", "what", "state", "remedy"), SHORTCOMINGS)
def test_a_shortcoming_is_named_with_its_remedy(
    difference: dict[str, Any], what: str, state: str, remedy: str
) -> None:
    (finding,) = not_ok(replace(ABLE, **difference))
    assert (finding.what, finding.state) == (what, state)
    assert remedy in finding.remedy


@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.program)
def test_a_tool_that_is_not_there_is_named_with_its_package(tool: Tool) -> None:
    (finding,) = not_ok(replace(ABLE, tools={**ABLE.tools, tool.program: None}))
    assert finding.what == tool.program
    assert finding.state == ("optional" if tool.only_for else "missing")
    assert finding.remedy == f"apt-get install {tool.package}"


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_library_that_is_not_there_is_named(library: str) -> None:
    (finding,) = not_ok(replace(ABLE, libraries={**ABLE.libraries, library: None}))
    assert (finding.state, finding.remedy) == ("missing", "make setup")
    assert library in finding.what


def test_only_what_is_missing_prevents_a_run() -> None:
    ok, optional = Finding("a", "1", "ok"), Finding("b", "no", "optional", "do it")
    assert doctor.exit_code([ok, optional]) == 0
    assert doctor.exit_code([ok, optional, Finding("c", "no", "missing", "do it")]) == 1


def test_this_machine_can_be_examined_whatever_it_lacks() -> None:
    findings = doctor.examine()
    assert {finding.what for finding in findings} == {
        finding.what for finding in doctor.judge(ABLE)
    }
    assert [finding for finding in findings if finding.state != "ok" and not finding.remedy] == []


def test_versions_are_read_from_what_programs_print() -> None:
    assert doctor.tool_version(Tool("bash", "bash")) is not None
    assert doctor.tool_version(Tool("no-such-program", "none")) is None
    assert doctor.library_version("pytest") == pytest.__version__
    assert doctor.library_version("no-such-library") is None


def test_the_table_shows_every_finding_and_the_verdict() -> None:
    findings = [Finding("kernel", "6.1 [custom]", "ok"), Finding("ip", "no", "missing", "fix it")]
    console = Console(width=100, file=io.StringIO(), record=True)
    console.print(doctor.render(findings))
    shown = console.export_text()
    for part in ("kernel", "6.1 [custom]", "missing", "fix it", "No run is possible yet."):
        assert part in shown


def test_json_is_for_scripts() -> None:
    document = json.loads(doctor.as_json([Finding("ip", "no", "missing", "fix it")]))
    assert document == {
        "run_possible": False,
        "findings": [{"what": "ip", "found": "no", "state": "missing", "remedy": "fix it"}],
    }
