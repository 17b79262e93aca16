"""Limits of what a VM may use of its server: the cgroup controllers memory, cpu and pids.

    resource       version 2      version 1
    memory_mb      memory.max     memory.limit_in_bytes
    cpu            cpu.max        cpu.cfs_quota_us of cpu.cfs_period_us
    processes      pids.max       pids.max

A VM's processes are in a cgroup of version 2 (nve/hypervisor/freezer.py).  A machine may have a
controller in version 1 all the same, or none: containers often have no more than the freezer.  With
version 1, the VM has a *twin* of its cgroup in that controller's hierarchy, at the same path, and
each of its processes is in both.

Memory counts what the guest needs beside its own, for the process that emulates it and for what
measures inside the VM: `OVERHEAD_MB`.  A cgroup of version 1 with a limit of cpu may not have
real-time processes, if the kernel was built with RT_GROUP_SCHED: then such a VM does not go first
while it is switched over, and its pause is some milliseconds longer.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, Literal

from nve.linux.capabilities import cgroup2_mount
from nve.linux.wait import wait_until
from nve.resources import Resources

CONTROLLERS: Final = ("memory", "cpu", "pids")
OVERHEAD_MB: Final = 256
_PERIOD_US: Final = 100_000
_EMPTY_TIMEOUT_S: Final = 5.0
Version = Literal[1, 2]


@dataclass(frozen=True)
class Hierarchy:
    """Where a controller is mounted, and in which version."""

    mount: Path
    version: Version


def hierarchies(mounts: str, version_2: Mapping[Path, str]) -> dict[str, Hierarchy]:
    """Return the controllers of a machine.

    They are read from the text of /proc/mounts (fields as in fstab(5)) and that of
    cgroup.controllers in each mount of version 2.
    """
    found: dict[str, Hierarchy] = {}
    for line in mounts.splitlines():
        _, place, kind, options, *_ = line.split()
        if kind == "cgroup":
            for controller in {*CONTROLLERS} & {*options.split(",")}:
                found[controller] = Hierarchy(Path(place), 1)
    for mount, controllers in version_2.items():
        for controller in {*CONTROLLERS} & {*controllers.split()}:
            found[controller] = Hierarchy(mount, 2)
    return found


def of_this_machine() -> dict[str, Hierarchy]:
    """Return the controllers of this machine that may be used."""
    mount = cgroup2_mount()
    controllers = mount / "cgroup.controllers" if mount else None
    version_2 = {}
    if mount and controllers and controllers.exists():
        version_2[mount] = controllers.read_text(encoding="ascii")
    found = hierarchies(Path("/proc/mounts").read_text(encoding="utf-8"), version_2)
    return {name: each for name, each in found.items() if os.access(each.mount, os.W_OK)}


def available() -> dict[str, str]:
    """Return the version with which each controller can limit VMs, tried in a temporary cgroup."""
    return {
        name: f"cgroup v{each.version}"
        for name, each in sorted(of_this_machine().items())
        if _works(name, each)
    }


def _works(controller: str, place: Hierarchy) -> bool:
    if place.version == 2:  # a trial would enable it for all other cgroups of the machine
        return os.access(place.mount / "cgroup.subtree_control", os.W_OK)
    probe = place.mount / f"vmmlab-probe-{os.getpid()}"
    try:
        probe.mkdir()
    except OSError:
        return False
    _, files = limits(Resources(cpu=1, memory_mb=64, processes=8))[controller]
    try:
        for name, content in files.items():
            (probe / name).write_text(content, encoding="ascii")
    except OSError:
        return False
    finally:
        probe.rmdir()
    return True


def limits(resources: Resources) -> Mapping[str, tuple[str, Mapping[str, str]]]:
    """Return, for each controller that has a limit, what to write to its files.

    This is the content of the file of version 2, and of those of version 1.
    """
    found: dict[str, tuple[str, Mapping[str, str]]] = {}
    if resources.memory_mb:
        octets = str((resources.memory_mb + OVERHEAD_MB) << 20)
        found["memory"] = octets, {"memory.limit_in_bytes": octets}
    if resources.cpu:
        quota = str(max(1000, round(resources.cpu * _PERIOD_US)))
        files = {"cpu.cfs_period_us": str(_PERIOD_US), "cpu.cfs_quota_us": quota}
        found["cpu"] = f"{quota} {_PERIOD_US}", files
    if resources.processes:
        found["pids"] = str(resources.processes), {"pids.max": str(resources.processes)}
    return found


class CgroupLimits:
    """The limits of one VM, whose cgroup of version 2 exists."""

    def __init__(self, cgroup: Path) -> None:
        self._cgroup = cgroup
        self._twins: dict[str, Path] = {}

    @property
    def procs(self) -> list[Path]:
        """The files into which a process has to be written to be in the VM."""
        return [each / "cgroup.procs" for each in (self._cgroup, *self._twins.values())]

    def set(self, resources: Resources) -> dict[str, str]:
        """Limit the VM as far as this machine can; return the cgroup version for each controller.

        Raises OSError if the VM uses more already.
        """
        there = of_this_machine()
        done = {}
        for controller, (content, files) in limits(resources).items():
            place = there.get(controller)
            if place is None:
                continue
            if place.version == 1:
                twin = self._twin(controller, place.mount)
                for name, wanted in files.items():
                    (twin / name).write_text(wanted, encoding="ascii")
            elif self._enable(controller, place.mount):
                limit = self._cgroup / f"{controller}.max"
                limit.write_text(content, encoding="ascii")
            else:
                continue
            done[controller] = f"cgroup v{place.version}"
        return done

    def _twin(self, controller: str, mount: Path) -> Path:
        """Return the VM's cgroup in another hierarchy, with all of its processes."""
        if controller not in self._twins:
            twin = mount / _below_mount(self._cgroup)
            twin.mkdir(parents=True, exist_ok=True)
            self._twins[controller] = twin
            for pid in (self._cgroup / "cgroup.procs").read_text(encoding="ascii").split():
                with suppress(ProcessLookupError):
                    (twin / "cgroup.procs").write_text(pid, encoding="ascii")
        return self._twins[controller]

    def _enable(self, controller: str, mount: Path) -> bool:
        """Enable a controller in all cgroups above the VM's, as version 2 requires."""
        above = [each for each in self._cgroup.parents if each == mount or mount in each.parents]
        for each in reversed(above):
            handed_down = each / "cgroup.subtree_control"
            if controller not in handed_down.read_text(encoding="ascii").split():
                try:
                    handed_down.write_text(f"+{controller}", encoding="ascii")
                except OSError:  # it may not be changed, as in many containers
                    return False
        return True


def remove_twins(cgroup: Path) -> None:
    """Remove the twins of a cgroup tree of version 2, whose processes are gone."""
    for twin in twins(cgroup):
        for place in (*(each for each in twin.iterdir() if each.is_dir()), twin):
            wait_until(partial(_not_removed, place), _EMPTY_TIMEOUT_S)


def twins(cgroup: Path) -> Iterator[Path]:
    """Yield the existing twins of a cgroup."""
    mounts = Path("/proc/mounts").read_text(encoding="utf-8")
    found = {each.mount / _below_mount(cgroup) for each in hierarchies(mounts, {}).values()}
    yield from (each for each in sorted(found) if each.is_dir())


def _below_mount(cgroup: Path) -> Path:
    mount = cgroup2_mount()
    assert mount, f"{cgroup} is a cgroup of version 2"
    return cgroup.relative_to(mount)


def _not_removed(place: Path) -> str | None:
    try:
        place.rmdir()
    except OSError as error:
        return f"{place} is not removed: {error}"
    return None
