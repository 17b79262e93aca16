"""What one run has on the machine: looked at while it goes on, and looked for afterwards."""

from dataclasses import dataclass
from pathlib import Path

from nve.linux.capabilities import cgroup2_mount
from tests.helpers.lab import running_processes
from topologies.emulation.session import RUN_DIRECTORY


@dataclass(frozen=True)
class Footprint:
    """`places` are the session's directory and cgroup, `namespaces` are networks by inode."""

    places: frozenset[Path]
    processes: frozenset[int]
    namespaces: frozenset[int]

    def remains(self) -> str | None:
        """What of it is still there, if anything is."""
        found = {
            "directories": sorted(str(place) for place in self.places if place.exists()),
            "processes": sorted(running_processes(self.processes)),
            "namespaces": sorted(self.namespaces & _namespaces(_all_processes())),
        }
        left = {what: those for what, those in found.items() if those}
        return str(left) if left else None


def footprint(owner: int) -> Footprint:
    """The footprint of the run that process `owner` carries out, as far as it has got."""
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


def _namespaces(processes: frozenset[int] | set[int]) -> frozenset[int]:
    """The network namespaces that the processes are in."""
    inodes = set()
    for pid in processes:
        try:
            inodes.add(Path(f"/proc/{pid}/ns/net").stat().st_ino)
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue  # ended meanwhile
    return frozenset(inodes)
