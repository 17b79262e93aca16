"""What this machine can do: `vmmlab doctor`.

Three steps, so that the judgement can be tested without the machine: `observe` collects facts
(`Machine`), `judge` turns facts into findings (pure), `render` and `as_json` show them.  Nothing
here needs root, Open vSwitch or Mininet: their absence is what the doctor is asked about.

A finding is *ok*, *missing* (no run is possible without it) or *optional* (a run is possible, by
another way or without one feature, which the finding names).  What is not ok comes with a remedy.
"""

import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from rich.table import Table
from rich.text import Text

from nve.linux import capabilities

State = Literal["ok", "missing", "optional"]

OLDEST_PYTHON = (3, 11)
FEWEST_CPUS = 2
TOOL_TIMEOUT_S = 10


@dataclass(frozen=True)
class Finding:
    """One thing the doctor looked at.  `remedy` is a command or a sentence, empty if ok."""

    what: str
    found: str
    state: State
    remedy: str = ""


@dataclass(frozen=True)
class Tool:
    """A program, the Debian package it comes in, and what goes without it (empty: nothing does)."""

    program: str
    package: str
    version_option: str = "--version"
    only_for: str = ""


TOOLS = (
    Tool("ovs-vswitchd", "openvswitch-switch"),
    Tool("ovsdb-server", "openvswitch-switch"),
    Tool("ip", "iproute2", version_option="-Version"),
    Tool("tc", "iproute2", version_option="-Version"),
    Tool("ethtool", "ethtool"),
    Tool("brctl", "bridge-utils"),
    Tool("iperf3", "iperf3", only_for="TCP workloads"),
    Tool("tcpdump", "tcpdump", only_for="`vmmlab run --pcap`"),
    Tool("criu", "criu", only_for="moving a whole process; no scenario depends on it"),
)

LIBRARIES = ("mininet", "os-ken", "pyroute2", "pandas", "pyarrow", "matplotlib")


@dataclass(frozen=True)
class Machine:
    """The facts that `judge` looks at.  A version is None where the thing is not there."""

    is_root: bool
    kernel: str
    python: tuple[int, int, int]
    cpus: int
    tools: Mapping[str, str | None]
    libraries: Mapping[str, str | None]
    kernel_datapath: bool
    userspace_datapath: bool
    vxlan: bool
    netem: bool
    ifb: bool
    cgroup2: Path | None
    freezer: bool


def examine() -> list[Finding]:
    """Looks at this machine and says what it found."""
    return judge(observe())


def exit_code(findings: Sequence[Finding]) -> int:
    """0 if a run is possible, 1 if something is missing."""
    return 1 if any(finding.state == "missing" for finding in findings) else 0


def judge(machine: Machine) -> list[Finding]:
    """What the facts mean for a run (pure)."""
    return [
        _root(machine),
        Finding("kernel", machine.kernel, "ok"),
        _python(machine),
        _cpus(machine),
        *(_tool(tool, machine.tools.get(tool.program)) for tool in TOOLS),
        *(_library(name, machine.libraries.get(name)) for name in LIBRARIES),
        _datapath(machine),
        _link_emulator(machine),
        _hold(machine),
        _freezer(machine),
    ]


def _root(machine: Machine) -> Finding:
    if machine.is_root:
        return Finding("root", "yes", "ok")
    # Without root some capabilities cannot be tried, so that more may look missing than is.
    return Finding("root", "no", "missing", "repeat as root: sudo make doctor")


def _python(machine: Machine) -> Finding:
    found = ".".join(map(str, machine.python))
    if machine.python >= OLDEST_PYTHON:
        return Finding("Python", found, "ok")
    oldest = ".".join(map(str, OLDEST_PYTHON))
    return Finding("Python", found, "missing", f"use Python {oldest} or newer: Debian 12 has it")


def _cpus(machine: Machine) -> Finding:
    if machine.cpus >= FEWEST_CPUS:
        return Finding("CPUs", str(machine.cpus), "ok")
    return Finding(
        "CPUs",
        f"{machine.cpus}: probes and switches wait for each other, figures will be rough",
        "optional",
        f"give the machine {FEWEST_CPUS} CPUs",
    )


def _tool(tool: Tool, version: str | None) -> Finding:
    if version is not None:
        return Finding(tool.program, version, "ok")
    remedy = f"apt-get install {tool.package}"
    if tool.only_for:
        return Finding(tool.program, f"not there; only for {tool.only_for}", "optional", remedy)
    return Finding(tool.program, "not there", "missing", remedy)


def _library(name: str, version: str | None) -> Finding:
    if version is not None:
        return Finding(f"Python's {name}", version, "ok")
    return Finding(f"Python's {name}", "not there", "missing", "make setup")


def _datapath(machine: Machine) -> Finding:
    what = "Open vSwitch datapath"
    if machine.kernel_datapath and machine.vxlan:
        return Finding(what, "kernel", "ok")
    if machine.userspace_datapath:
        lacking = "openvswitch module" if not machine.kernel_datapath else "VXLAN"
        return Finding(
            what,
            f"userspace, which is slower: the kernel has no usable {lacking}",
            "optional",
            "use Debian's kernel: apt-get install linux-image-amd64 and reboot, or vagrant up",
        )
    return Finding(what, "neither the kernel's nor userspace (no taps)", "missing", "modprobe tun")


def _link_emulator(machine: Machine) -> Finding:
    if machine.netem:
        return Finding("link delay, jitter, loss", "netem", "ok")
    return Finding(
        "link delay, jitter, loss",
        "delay line in userspace, up to ~60,000 packets/s: the kernel has no netem",
        "optional",
        "modprobe sch_netem, or use Debian's kernel: apt-get install linux-image-amd64 and reboot",
    )


def _hold(machine: Machine) -> Finding:
    if machine.ifb:
        return Finding("hold packets for a moving VM", "ifb", "ok")
    return Finding(
        "hold packets for a moving VM",
        "no ifb: scenarios with `hold: true` cannot run",
        "optional",
        "modprobe ifb",
    )


def _freezer(machine: Machine) -> Finding:
    what = "pause of VMs (cgroup v2 freezer)"
    if machine.cgroup2 is None:
        remedy = "mount -t cgroup2 none /sys/fs/cgroup"
        return Finding(what, "no cgroup2 file system is mounted", "missing", remedy)
    if not machine.freezer:
        remedy = f"repeat as root, with {machine.cgroup2} mounted writable"
        return Finding(what, f"no cgroup can be made in {machine.cgroup2}", "missing", remedy)
    return Finding(what, str(machine.cgroup2), "ok")


def observe() -> Machine:
    """The facts about this machine."""
    return Machine(
        is_root=os.geteuid() == 0,
        kernel=platform.release(),
        python=sys.version_info[:3],
        cpus=len(os.sched_getaffinity(0)),
        tools={tool.program: tool_version(tool) for tool in TOOLS},
        libraries={name: library_version(name) for name in LIBRARIES},
        kernel_datapath=capabilities.kernel_datapath_available(),
        userspace_datapath=capabilities.userspace_datapath_available(),
        vxlan=capabilities.vxlan_available(),
        netem=capabilities.netem_available(),
        ifb=capabilities.ifb_available(),
        cgroup2=capabilities.cgroup2_mount(),
        freezer=capabilities.freezer_available(),
    )


def tool_version(tool: Tool) -> str | None:
    """The version a program prints, "there" if it prints none, None if it cannot be run."""
    path = f"{os.environ.get('PATH', os.defpath)}:{capabilities.SYSTEM_FOLDERS}"
    program = shutil.which(tool.program, path=path)
    if program is None:
        return None
    try:
        said = subprocess.run(
            [program, tool.version_option],
            check=False,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TOOL_TIMEOUT_S,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    version = re.search(r"\d+(\.\d+)+", said.stdout + said.stderr)
    return version.group() if version else "there"


def library_version(name: str) -> str | None:
    """The version of an installed Python distribution, None if it is not there."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


_STYLES: Mapping[State, str] = {"ok": "green", "optional": "yellow", "missing": "red"}


def render(findings: Sequence[Finding]) -> Table:
    """The findings as a table for the terminal, the verdict below it."""
    verdict = "A run is possible here." if exit_code(findings) == 0 else "No run is possible yet."
    table = Table(caption=verdict, caption_justify="left", title="What this machine can do")
    for heading in ("", "found", "state", "remedy"):
        table.add_column(heading, overflow="fold")
    for finding in findings:
        state = Text(finding.state, style=_STYLES[finding.state])
        # Text, not str: what a machine says about itself may look like rich's markup.
        table.add_row(Text(finding.what), Text(finding.found), state, Text(finding.remedy))
    return table


def as_json(findings: Sequence[Finding]) -> str:
    """The findings for a script: `{"run_possible": …, "findings": [{what, found, …}, …]}`."""
    document = {
        "run_possible": exit_code(findings) == 0,
        "findings": [asdict(finding) for finding in findings],
    }
    return json.dumps(document, indent=2)
