"""A run's footprint on the machine, so that it can be removed even when the run was killed.

Everything a run makes is either a process in its cgroup (network namespaces, interfaces and qdiscs
live exactly as long as the processes that hold them) or a file in its directory.  So two things
have to be removed: a cgroup tree, and a directory.  Interfaces are created inside the namespaces
and never in the machine's own one.

    /run/vmmlab/<id>/owner.json     who runs it: pid, start time of that process, command
    /run/vmmlab/<id>/settings.json  what it needs of the machine's settings (host_settings.py)
    <cgroup2 mount>/vmmlab/<id>/    runner/ has the run's processes, vm-<name>/ those of a VM; there
                                    may be twins of that where cgroups of version 1 are mounted

A session whose owner is dead is a *leftover*.  A pid is reused sooner or later, so the start time
of the process is compared as well; a living session is never touched.
"""

import json
import os
import re
import secrets
import shutil
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from nve.hypervisor.cgroup_limits import CgroupLimits, remove_twins
from nve.linux.capabilities import cgroup2_mount
from nve.linux.full_disk import make_room
from nve.linux.wait import wait_until
from nve.resources import Resources

RUN_DIRECTORY = Path("/run/vmmlab")
IDENTIFIER = re.compile(r"vmmlab-\d+-[0-9a-f]{4}")
KILL_TIMEOUT_S = 10.0


class Session:
    """The directory and the cgroup of one run; a context manager that closes itself."""

    def __init__(self, name: str, directory: Path, cgroup: Path) -> None:
        self.name = name
        self.directory = directory
        self.cgroup = cgroup
        self._came_from: Path | None = None
        self._limits: dict[str, CgroupLimits] = {}

    @classmethod
    def create(cls, name: str) -> Self:
        """Create both, owned by the current process; `name` says to humans what runs here."""
        identifier = f"vmmlab-{os.getpid()}-{secrets.token_hex(2)}"
        directory = RUN_DIRECTORY / identifier
        cgroup = _cgroup_root() / identifier
        directory.mkdir(parents=True)
        owner = {
            "name": name,
            "pid": os.getpid(),
            "start_ticks": _start_ticks(os.getpid()),
            "command": sys.argv,
        }
        (directory / "owner.json").write_text(json.dumps(owner) + "\n", encoding="utf-8")
        (cgroup / "runner").mkdir(parents=True)
        return cls(name, directory, cgroup)

    def enter(self) -> None:
        """Move the current process into the cgroup, and so every child that it starts later."""
        if self._came_from is None:
            self._came_from = _cgroup_of_this_process()
            _move(os.getpid(), self.cgroup / "runner")

    def vm_cgroup(self, vm: str) -> Path:
        """Return the cgroup of a VM, whose processes are frozen and thawed together."""
        cgroup = self.cgroup / f"vm-{vm}"
        cgroup.mkdir(exist_ok=True)
        return cgroup

    def move_to_vm(self, pid: int, vm: str) -> None:
        _move(pid, self.vm_cgroup(vm))

    def limit_vm(self, vm: str, resources: Resources) -> dict[str, str]:
        """Limit what a VM may use, as far as this machine can: see `CgroupLimits.set`."""
        return self._limits_of(vm).set(resources)

    def vm_procs(self, vm: str) -> list[Path]:
        """Return the files into which to write a process id to make the process a VM's."""
        return self._limits_of(vm).procs

    def _limits_of(self, vm: str) -> CgroupLimits:
        return self._limits.setdefault(vm, CgroupLimits(self.vm_cgroup(vm)))

    def end_vm(self, vm: str) -> None:
        """End all processes of a VM, frozen or not."""
        _kill(self.vm_cgroup(vm))

    def remove_vm(self, vm: str) -> None:
        """End all processes of a VM and remove its cgroups; its name can be used again then."""
        self._limits.pop(vm, None)
        _remove_cgroup(self.vm_cgroup(vm))

    def close(self) -> None:
        """End what still runs in the session, except the current process, and remove cgroup and
        directory.
        """
        if self._came_from is not None:
            _move(os.getpid(), self._came_from)
            self._came_from = None
        _remove_cgroup(self.cgroup)
        make_room(self.directory)
        shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclass(frozen=True)
class Leftover:
    """What a run that was killed left on the machine."""

    identifier: str
    directory: Path
    cgroup: Path

    def remove(self) -> list[str]:
        """Remove it and return what was removed, a sentence each."""
        said = []
        processes = _remove_cgroup(self.cgroup)
        if processes is not None:
            said.append(f"{self.identifier}: ended {processes} processes and their namespaces")
        if self.directory.exists():
            make_room(self.directory)
            shutil.rmtree(self.directory)
            said.append(f"{self.identifier}: removed {self.directory}")
        return said


def leftovers() -> list[Leftover]:
    """Return the sessions on this machine whose owner is dead, ordered by name."""
    root = _cgroup_root()
    return [
        Leftover(identifier, RUN_DIRECTORY / identifier, root / identifier)
        for identifier in _sessions()
        if not _owner_lives(identifier)
    ]


def living() -> list[str]:
    """Return the identifiers of the sessions on this machine whose owner lives."""
    return [identifier for identifier in _sessions() if _owner_lives(identifier)]


def _sessions() -> list[str]:
    places = [path for path in (RUN_DIRECTORY, _cgroup_root()) if path.is_dir()]
    found = {entry.name for place in places for entry in place.iterdir() if entry.is_dir()}
    return sorted(identifier for identifier in found if IDENTIFIER.fullmatch(identifier))


def _owner_lives(identifier: str) -> bool:
    start_ticks = _start_ticks(int(identifier.split("-")[1]))
    if start_ticks is None:
        return False
    try:
        owner = json.loads((RUN_DIRECTORY / identifier / "owner.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return True  # killed while creating, or creating right now: only the pid can tell
    return bool(owner["start_ticks"] == start_ticks)


def _start_ticks(pid: int) -> int | None:
    """Return when a process started, in clock ticks since boot; None if there is no such process.

    From /proc/<pid>/stat (proc(5)): field 3 is the state, field 22 the time.  The command before
    them is in brackets and may hold anything.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except (FileNotFoundError, ProcessLookupError):
        return None
    state, *fields = stat[stat.rindex(")") + 2 :].split()
    return None if state in "ZX" else int(fields[22 - 4])


def _cgroup_root() -> Path:
    mount = cgroup2_mount()
    if mount is None:
        raise RuntimeError(
            "no cgroup v2 file system is mounted; mount one with "
            "'mount -t cgroup2 none /sys/fs/cgroup'"
        )
    return mount / "vmmlab"


def _cgroup_of_this_process() -> Path:
    for line in Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines():
        if line.startswith("0::"):
            return _cgroup_root().parent / line.removeprefix("0::").lstrip("/")
    raise RuntimeError("/proc/self/cgroup names no cgroup v2; is the kernel older than 4.5?")


def _move(pid: int, cgroup: Path) -> None:
    (cgroup / "cgroup.procs").write_text(str(pid), encoding="utf-8")


def _remove_cgroup(cgroup: Path) -> int | None:
    """End everything in a cgroup tree and remove it and its twins.

    Returns how many processes were ended; None if there was no such tree.
    """
    processes = None
    if cgroup.exists():
        processes = _kill(cgroup)
    remove_twins(cgroup)
    if cgroup.exists():
        for child in sorted(cgroup.glob("**/"), reverse=True):
            child.rmdir()
    return processes


def _kill(cgroup: Path) -> int:
    """Kill all processes of a cgroup tree, frozen or not; return when they are gone."""
    processes = _processes(cgroup)
    kill_switch = cgroup / "cgroup.kill"
    if kill_switch.exists():
        kill_switch.write_text("1", encoding="utf-8")
    else:  # Linux before 5.14
        for pid in processes:
            os.kill(pid, signal.SIGKILL)
    wait_until(lambda: _still_running(cgroup), KILL_TIMEOUT_S)
    return len(processes)


def _processes(cgroup: Path) -> list[int]:
    return [
        int(pid)
        for procs in cgroup.glob("**/cgroup.procs")
        for pid in procs.read_text(encoding="utf-8").split()
    ]


def _still_running(cgroup: Path) -> str | None:
    """Return a sentence while a cgroup has processes, or None.

    A dying process counts, though cgroup.procs does not list it any more.
    """
    if "populated 0" in (cgroup / "cgroup.events").read_text(encoding="utf-8"):
        return None
    return f"{cgroup} still holds processes {_processes(cgroup)}"
