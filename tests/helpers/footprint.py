"""What a run, or the tests, have on the machine, and whether it is gone afterwards.

`Footprint` is that of one run, found by the process that carries it out; `Presence` is that of this
test process and all that it has started, whatever their parents are by now: they have `MARK` in
their environment.
"""

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Self

from nve.linux.capabilities import cgroup2_mount
from tests.helpers.lab import machine_interfaces, running_processes
from topologies.emulation.session import RUN_DIRECTORY

MARK = "VMMLAB_TESTS"
NAMED_NAMESPACES = Path("/run/netns")


def mark() -> None:
    """Mark this process, so that what it starts from now on can be recognised."""
    os.environ[MARK] = str(os.getpid())


@dataclass(frozen=True)
class Presence:
    """What exists at a moment.

    Processes in a session belong to the session: while a lab runs, its parts die and start again.
    A session is left out while its owner is another living process: another worker of these tests,
    or another user of the machine.  Interfaces and named namespaces count whoever made them: a lab
    makes none in the machine's own network.
    """

    sessions: frozenset[str]
    processes: frozenset[str]
    namespaces: frozenset[str]
    interfaces: frozenset[str]

    @classmethod
    def now(cls) -> Self:
        mount = cgroup2_mount()
        roots = (RUN_DIRECTORY, *((mount / "vmmlab",) if mount else ()))
        places = {place for root in roots for place in root.glob("vmmlab-*")}
        sessions = {str(place) for place in places if not _is_of_another(place.name)}
        alive = running_processes(pid for pid in _all_processes() if _is_ours(pid))
        ours = {pid for pid in alive if _session(pid) is None}
        named = {path.name for path in NAMED_NAMESPACES.glob("*")}
        held = {f"net:[{inode}]" for inode in _namespaces(ours) - _namespaces({os.getpid()})}
        return cls(
            frozenset(sessions),
            frozenset(f"{pid} {_command(pid)}" for pid in ours),
            frozenset(named | held),
            frozenset(machine_interfaces()),
        )

    def added(self, since: "Presence") -> str | None:
        """Return a sentence about what exists here and did not exist then, or None."""
        new = {
            field.name: sorted(getattr(self, field.name) - getattr(since, field.name))
            for field in fields(self)
        }
        left = {what: those for what, those in new.items() if those}
        return f"left behind: {left}" if left else None


def _is_of_another(session: str) -> bool:
    """Return whether a session has another living owner; one without an owner is left behind."""
    (owner,) = running_processes([int(session.split("-")[1])]) or (None,)
    return owner not in (None, os.getpid()) and not _is_ours(owner)


def _is_ours(pid: int) -> bool:
    try:
        environment = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:  # ended meanwhile, or not ours to read
        return False
    return f"{MARK}={os.getpid()}".encode() in environment.split(b"\0")


def _session(pid: int) -> str | None:
    """Return the session whose cgroup holds a process."""
    try:
        found = re.search(r"/vmmlab/(vmmlab-[^/\n]*)", Path(f"/proc/{pid}/cgroup").read_text())
    except OSError:
        return None
    return found[1] if found else None


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ").strip()
    except OSError:
        return "?"


@dataclass(frozen=True)
class Footprint:
    """The footprint of a run.

    `places` are the session's directory and cgroup, `namespaces` are networks by inode.
    """

    places: frozenset[Path]
    processes: frozenset[int]
    namespaces: frozenset[int]

    def remains(self) -> str | None:
        """Return a sentence about what still exists of it, or None."""
        found = {
            "directories": sorted(str(place) for place in self.places if place.exists()),
            "processes": sorted(running_processes(self.processes)),
            "namespaces": sorted(self.namespaces & _namespaces(self._not_of_other_sessions())),
        }
        left = {what: those for what, those in found.items() if those}
        return str(left) if left else None

    def _not_of_other_sessions(self) -> Iterator[int]:
        """Yield processes that belong to no other session.

        The kernel gives the number of a namespace that is gone to the next lab's.
        """
        mine = {None, *(place.name for place in self.places)}
        return (pid for pid in _all_processes() if _session(pid) in mine)


def footprint(owner: int) -> Footprint:
    """Return the footprint, so far, of the run that process `owner` carries out."""
    mount = cgroup2_mount()
    assert mount is not None
    roots = (RUN_DIRECTORY, mount / "vmmlab")
    places = frozenset(place for root in roots for place in root.glob(f"vmmlab-{owner}-*"))
    processes = frozenset(
        int(pid)
        for place in places
        for file in place.glob("**/cgroup.procs")
        for pid in file.read_text().split()
    )
    namespaces = _namespaces(processes) - _namespaces({owner})
    return Footprint(places, processes, namespaces)


def _all_processes() -> set[int]:
    return {int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()}


def _namespaces(processes: Iterable[int]) -> frozenset[int]:
    """Return the network namespaces that the processes are in."""
    inodes = set()
    for pid in processes:
        try:
            inodes.add(Path(f"/proc/{pid}/ns/net").stat().st_ino)
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue  # ended meanwhile
    return frozenset(inodes)
