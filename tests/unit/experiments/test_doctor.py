"""The doctor's judgement over every way a machine can fall short, and one look at this machine."""

import io
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from experiments import doctor, needs
from experiments.doctor import LIBRARIES, Finding, Machine
from nve.linux import capabilities, ipv6
from tests.helpers.scenarios import GOOD, resolved

ABLE = Machine(
    is_root=True,
    kernel="6.1.0-37-amd64",
    python=(3, 11, 2),
    cpus=2,
    programs=dict.fromkeys(needs.PACKAGES, "1.0"),
    libraries=dict.fromkeys(LIBRARIES, "1.0"),
    kernel_datapath=True,
    userspace_datapath=True,
    vxlan=True,
    netem=True,
    ifb=True,
    ipv6=True,
    userfaultfd=True,
    multipath_tcp=True,
    cgroup2=Path("/sys/fs/cgroup"),
    freezer=True,
    limits={"cpu": "cgroup v2", "memory": "cgroup v2", "pids": "cgroup v2"},
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
    ({"ipv6": False}, "IPv6", "optional", "ipv6.disable=1"),
    ({"multipath_tcp": False}, "Multipath TCP", "optional", "reboot"),
    (
        {"userfaultfd": False},
        "post-copy: VMs that run before their memory has come",
        "optional",
        "reboot",
    ),
    ({"cgroup2": None}, "pause of VMs (cgroup v2 freezer)", "missing", "mount -t cgroup2"),
    (
        {"limits": {"pids": "cgroup v1"}},
        "limits of VMs (cgroup memory, cpu, pids)",
        "optional",
        "systemd.unified_cgroup_hierarchy=1",
    ),
    ({"freezer": False}, "pause of VMs (cgroup v2 freezer)", "missing", "as root"),
]


def not_ok(machine: Machine) -> list[Finding]:
    return [finding for finding in doctor.judge(machine) if finding.state != "ok"]


def test_nothing_is_wrong_with_an_able_machine() -> None:
    assert not_ok(ABLE) == []
    (datapath,) = (each for each in doctor.judge(ABLE) if each.what == "Open vSwitch datapath")
    assert datapath.found == "kernel; userspace for encapsulation ila and vxlan-l3"


@pytest.mark.parametrize(("difference", "what", "state", "remedy"), SHORTCOMINGS)
def test_a_shortcoming_is_named_with_its_remedy(
    difference: dict[str, Any], what: str, state: str, remedy: str
) -> None:
    (finding,) = not_ok(replace(ABLE, **difference))
    assert (finding.what, finding.state) == (what, state)
    assert remedy in finding.remedy


@pytest.mark.parametrize("program", needs.PACKAGES)
def test_a_program_that_is_not_there_is_named_with_its_package_and_its_users(program: str) -> None:
    (finding,) = not_ok(replace(ABLE, programs={**ABLE.programs, program: None}))
    assert finding.what == program
    optional = needs.users()[program]
    assert finding.state == ("optional" if optional else "missing")
    assert finding.remedy == f"apt-get install {needs.PACKAGES[program]}"
    assert all(user in finding.found for user in optional)


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
    assert doctor.program_version("bash") is not None
    assert doctor.program_version("no-such-program") is None
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


# -- what a scenario needs -------------------------------------------------------------------------


@pytest.fixture
def lacks(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Makes a machine that has everything, except ..."""

    def lacks(*names: str) -> None:
        there = {"ifb", "netem", "kernel_datapath"} - set(names)
        monkeypatch.setattr(shutil, "which", lambda name: None if name in names else name)
        for feature in ("ifb", "netem", "kernel_datapath"):
            answer = partial(there.__contains__, feature)
            monkeypatch.setattr(capabilities, f"{feature}_available", answer)

    return lacks


SCENARIOS: dict[str, tuple[str, dict[str, Any], dict[str, Any], str]] = {
    # what: (what is not there, a scenario without need of it, one with it, the sentence)
    "iperf3": (
        "iperf3",
        {"traffic": GOOD["traffic"][:1]},
        {},
        "not installed: iperf3 (for traffic: tcp-bulk); `make setup`, or: apt-get install iperf3",
    ),
    "ifb": (
        "ifb",
        {},
        {"overlay__hold": True},
        "overlay.hold: no ifb: scenarios with `hold: true` cannot run; modprobe ifb",
    ),
    "netem": ("netem", {}, {"link_emulator": "netem"}, "link_emulator: netem: the kernel has no"),
    "datapath": ("kernel_datapath", {}, {"datapath": "system"}, "datapath: system: the kernel has"),
}


@pytest.mark.parametrize(("absent", "without", "having", "said"), SCENARIOS.values(), ids=SCENARIOS)
def test_only_a_scenario_that_needs_what_is_not_there_is_refused(
    lacks: Callable[..., None],
    absent: str,
    without: dict[str, Any],
    having: dict[str, Any],
    said: str,
) -> None:
    lacks()
    assert doctor.lacking([resolved(**having)], pcap=True) == []
    lacks(absent)
    assert doctor.lacking([resolved(**without)]) == []
    (sentence,) = doctor.lacking([resolved(**without), resolved(**having)])
    assert sentence.startswith(said)


def test_what_every_run_needs_and_a_capture_is_named_with_its_package(
    lacks: Callable[..., None],
) -> None:
    lacks("mnexec", "tcpdump", "ovs-ofctl")
    (sentence,) = doctor.lacking([resolved()])
    assert "mnexec (for every run), ovs-ofctl (for overlay: nvo3)" in sentence
    (sentence,) = doctor.lacking([resolved()], pcap=True)
    assert "tcpdump (for --pcap)" in sentence
    assert set(sentence.partition("apt-get install ")[2].split()) == {
        *("mininet", "openvswitch-switch", "tcpdump"),
    }


@pytest.mark.parametrize(
    ("changes", "asked"),
    [
        ({"traffic.0.family": "ipv6"}, "traffic.0.family: ipv6"),
        ({"topology.underlay": "ipv6"}, "topology.underlay: ipv6"),
        (
            {"tenants.0.vms.vm1": {"nve": "nve1", "addresses": ["fd77::aa"]}},
            "tenants.0.vms.vm1.addresses: fd77::aa",
        ),
    ],
)
def test_without_ipv6_a_scenario_that_asks_for_it_is_refused(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], asked: str
) -> None:
    monkeypatch.setattr(ipv6, "available", lambda: False)
    probe = {"kind": "udp-probe", "from": "vm1", "to": "vm2", "family": "ipv4"}
    plain = resolved(traffic=[probe])
    asking = resolved(**{"traffic": [probe], **changes})
    assert not [said for said in doctor.lacking([plain]) if "IPv6" in said]
    (told,) = (said for said in doctor.lacking([asking]) if "IPv6" in said)
    assert told == f"{asked}: {needs.IPV6.lacking}; {needs.IPV6.remedy}"
