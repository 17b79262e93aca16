"""What this machine can do: `vmmlab doctor`.

Three steps, so that the judgement can be tested without the machine: `observe` collects facts
(`Machine`), `judge` turns facts into findings (pure), `render` and `as_json` show them.  Nothing
here needs root, a switch or Mininet, as the doctor is asked about their absence.

A finding is *ok*, *missing* (no run is possible without it) or *optional* (a run is possible, by
another way or without one feature, which the finding names).  A finding that is not ok has a
remedy.
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

from experiments import needs, overlays, task_programs
from experiments.scenario import layers
from experiments.scenario.schema import Scenario
from nve.hypervisor import cgroup_limits
from nve.linux import capabilities, ipv6, userfaultfd

State = Literal["ok", "missing", "optional"]

OLDEST_PYTHON = (3, 11)
FEWEST_CPUS = 2
TOOL_TIMEOUT_S = 10


@dataclass(frozen=True)
class Finding:
    """One thing that the doctor checked.  `remedy` is a command or a sentence, empty if ok."""

    what: str
    found: str
    state: State
    remedy: str = ""


VERSION_OPTIONS = {
    **dict.fromkeys(("ip", "tc", "bridge"), "-Version"),
    "ping": "-V",
    "arping": "-V",
    "mnexec": "-v",
}
"""The version options of programs that do not take --version."""
LIBRARIES = ("mininet", "os-ken", "pyroute2", "pandas", "pyarrow", "matplotlib")


@dataclass(frozen=True)
class Machine:
    """The facts that `judge` looks at.  The version of something absent is None."""

    is_root: bool
    kernel: str
    python: tuple[int, int, int]
    cpus: int
    programs: Mapping[str, str | None]
    libraries: Mapping[str, str | None]
    kernel_datapath: bool
    userspace_datapath: bool
    vxlan: bool
    netem: bool
    ifb: bool
    ipv6: bool
    userfaultfd: bool
    multipath_tcp: bool
    cgroup2: Path | None
    freezer: bool
    limits: Mapping[str, str]
    """The cgroup controllers that can limit VMs, with their cgroup version."""
    criu: str | None = None


def examine() -> list[Finding]:
    """Examine this machine and return the findings."""
    return judge(observe())


def exit_code(findings: Sequence[Finding]) -> int:
    """Return 0 if a run is possible, 1 if something is missing."""
    return 1 if any(finding.state == "missing" for finding in findings) else 0


def judge(machine: Machine) -> list[Finding]:
    """Return what the facts mean for a run (pure)."""
    return [
        _root(machine),
        Finding("kernel", machine.kernel, "ok"),
        _python(machine),
        _cpus(machine),
        *(_program(name, who, machine.programs.get(name)) for name, who in needs.users().items()),
        *(_library(name, machine.libraries.get(name)) for name in LIBRARIES),
        _datapath(machine),
        _link_emulator(machine),
        _hold(machine),
        _ipv6(machine),
        _post_copy(machine),
        _multipath_tcp(machine),
        _freezer(machine),
        _criu(machine),
        _limits(machine),
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


def _program(name: str, users: Sequence[str], version: str | None) -> Finding:
    if version is not None:
        return Finding(name, version, "ok")
    if users:
        found = f"not there; only for {', '.join(users)}"
        return Finding(name, found, "optional", needs.remedy(name))
    return Finding(name, "not there", "missing", needs.remedy(name))


def _library(name: str, version: str | None) -> Finding:
    if version is not None:
        return Finding(f"Python's {name}", version, "ok")
    return Finding(f"Python's {name}", "not there", "missing", "make setup")


def _datapath(machine: Machine) -> Finding:
    what = needs.KERNEL_DATAPATH.what
    if machine.kernel_datapath and machine.vxlan:
        others = " and ".join(sorted(layers.IN_USERSPACE))
        return Finding(what, f"kernel; userspace for encapsulation {others}", "ok")
    if machine.userspace_datapath:
        lacking = needs.KERNEL_DATAPATH.lacking
        return Finding(
            what,
            f"userspace, which is slower: {lacking if not machine.kernel_datapath else 'no VXLAN'}",
            "optional",
            needs.KERNEL_DATAPATH.remedy,
        )
    return Finding(what, "neither the kernel's nor userspace (no taps)", "missing", "modprobe tun")


def _link_emulator(machine: Machine) -> Finding:
    if machine.netem:
        return Finding(needs.NETEM.what, "netem", "ok")
    found = f"delay line in userspace, up to ~60,000 packets/s: {needs.NETEM.lacking}"
    return Finding(needs.NETEM.what, found, "optional", needs.NETEM.remedy)


def _hold(machine: Machine) -> Finding:
    if machine.ifb:
        return Finding(needs.IFB.what, "ifb", "ok")
    return Finding(needs.IFB.what, needs.IFB.lacking, "optional", needs.IFB.remedy)


def _ipv6(machine: Machine) -> Finding:
    if machine.ipv6:
        return Finding(needs.IPV6.what, "there", "ok")
    return Finding(needs.IPV6.what, needs.IPV6.lacking, "optional", needs.IPV6.remedy)


def _multipath_tcp(machine: Machine) -> Finding:
    feature = needs.MULTIPATH_TCP
    if machine.multipath_tcp:
        return Finding(feature.what, "there", "ok")
    return Finding(feature.what, feature.lacking, "optional", feature.remedy)


def _post_copy(machine: Machine) -> Finding:
    if machine.userfaultfd:
        return Finding(needs.POST_COPY.what, "userfaultfd", "ok")
    return Finding(
        needs.POST_COPY.what, needs.POST_COPY.lacking, "optional", needs.POST_COPY.remedy
    )


def _criu(machine: Machine) -> Finding:
    """Return the finding about CRIU, which nothing uses: Debian 12's fails on current kernels."""
    found = f"{machine.criu}, not used" if machine.criu else "not there; tasks move without it"
    return Finding("CRIU (packages whole processes)", found, "ok")


def _freezer(machine: Machine) -> Finding:
    what = "pause of VMs (cgroup v2 freezer)"
    if machine.cgroup2 is None:
        remedy = "mount -t cgroup2 none /sys/fs/cgroup"
        return Finding(what, "no cgroup2 file system is mounted", "missing", remedy)
    if not machine.freezer:
        remedy = f"repeat as root, with {machine.cgroup2} mounted writable"
        return Finding(what, f"no cgroup can be made in {machine.cgroup2}", "missing", remedy)
    return Finding(what, str(machine.cgroup2), "ok")


def _limits(machine: Machine) -> Finding:
    what = "limits of VMs (cgroup memory, cpu, pids)"
    there = ", ".join(f"{name} by {by}" for name, by in machine.limits.items())
    lacking = [name for name in cgroup_limits.CONTROLLERS if name not in machine.limits]
    if not lacking:
        return Finding(what, there, "ok")
    return Finding(
        what,
        f"{there or 'none'}; {', '.join(lacking)} cannot be limited: a VM may use more than its "
        "`resources`, which are counted all the same",
        "optional",
        "repeat as root, where the cgroups are mounted writable; or boot with "
        "systemd.unified_cgroup_hierarchy=1",
    )


def observe() -> Machine:
    """Collect the facts about this machine."""
    return Machine(
        is_root=os.geteuid() == 0,
        kernel=platform.release(),
        python=sys.version_info[:3],
        cpus=len(os.sched_getaffinity(0)),
        programs={name: program_version(name) for name in needs.PACKAGES},
        libraries={name: library_version(name) for name in LIBRARIES},
        kernel_datapath=capabilities.kernel_datapath_available(),
        userspace_datapath=capabilities.userspace_datapath_available(),
        vxlan=capabilities.vxlan_available(),
        netem=capabilities.netem_available(),
        ifb=capabilities.ifb_available(),
        ipv6=ipv6.available(),
        userfaultfd=userfaultfd.missing_available(),
        multipath_tcp=capabilities.multipath_tcp_available(),
        cgroup2=capabilities.cgroup2_mount(),
        freezer=capabilities.freezer_available(),
        limits=cgroup_limits.available(),
        criu=program_version("criu"),
    )


def program_version(name: str) -> str | None:
    """Return the version a program prints, "there" if it prints none, None if it cannot be run."""
    path = f"{os.environ.get('PATH', os.defpath)}:{capabilities.SYSTEM_FOLDERS}"
    program = shutil.which(name, path=path)
    if program is None:
        return None
    try:
        said = subprocess.run(
            [program, VERSION_OPTIONS.get(name, "--version")],
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
    """Return the version of an installed Python distribution, or None."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def lacking(scenarios: Sequence[Scenario], *, pcap: bool = False) -> list[str]:
    """Return what these scenarios need and this machine lacks, in sentences with the remedy.

    Programs of tasks are part of it: one's own are found when they are imported.
    """
    wanted = dict.fromkeys(needs.CAPTURES if pcap else (), "--pcap")
    for scenario in scenarios:
        wanted = {**needs.of_scenario(scenario), **wanted}
    missing = {program: who for program, who in wanted.items() if shutil.which(program) is None}
    said = _not_installed(missing)
    for scenario in scenarios:
        said += overlays.get(scenario.overlay.kind).lacking(scenario.overlay.settings)
        if scenario.link_emulator == "netem" and not capabilities.netem_available():
            said.append(needs.NETEM.refusal("link_emulator: netem"))
        if scenario.datapath == "system" and not capabilities.kernel_datapath_available():
            said.append(needs.KERNEL_DATAPATH.refusal("datapath: system"))
        if not ipv6.available() and (asked := needs.of_ipv6(scenario)):
            said.append(needs.IPV6.refusal(", ".join(asked)))
        if not capabilities.multipath_tcp_available() and (asked := needs.of_multipath(scenario)):
            said.append(needs.MULTIPATH_TCP.refusal(", ".join(asked)))
        if (asked := needs.of_post_copy(scenario)) and not userfaultfd.missing_available():
            said.append(needs.POST_COPY.refusal(", ".join(asked)))
        said += task_programs.mistakes(scenario)
        said += _no_room(needs.guest_memory_mb(scenario))
    return list(dict.fromkeys(said))


def _no_room(wanted_mb: int) -> list[str]:
    """Return a sentence if the machine lacks the memory for guests; runs without guests are not
    checked.
    """
    free_mb = capabilities.available_memory_mb()
    if not wanted_mb or wanted_mb <= free_mb:
        return []
    return [
        f"the guests need {wanted_mb} MB of memory, and {free_mb} MB are available here; "
        "lower guest.memory_mb or guest.disk_mb"
    ]


def _not_installed(missing: Mapping[str, str]) -> list[str]:
    if not missing:
        return []
    by_user: dict[str, list[str]] = {}
    for program, who in missing.items():
        by_user.setdefault(who, []).append(program)
    named = ", ".join(f"{', '.join(those)} (for {who})" for who, those in by_user.items())
    packages = dict.fromkeys(needs.PACKAGES[program] for program in missing)
    return [f"not installed: {named}; `make setup`, or: apt-get install {' '.join(packages)}"]


_STYLES: Mapping[State, str] = {"ok": "green", "optional": "yellow", "missing": "red"}


def render(findings: Sequence[Finding]) -> Table:
    """Return the findings as a table for the terminal, the verdict below it."""
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
    """Return the findings for a script: `{"run_possible": …, "findings": [{what, found, …},
    …]}`.
    """
    document = {
        "run_possible": exit_code(findings) == 0,
        "findings": [asdict(finding) for finding in findings],
    }
    return json.dumps(document, indent=2)
