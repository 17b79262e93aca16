"""What a run was measured on: versions, machine, clock.  This goes into the manifest."""

import importlib.metadata
import os
import platform
import resource
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

from experiments.resources import Available
from nve.linux.capabilities import available_memory_mb
from topologies.emulation.nodes import MININET_VERSION

ROOT = Path(__file__).resolve().parent.parent
MOST_OPEN_FILES = 16_384
PACKAGES = ("mininet", "pyroute2", "pandas", "pyarrow", "pydantic")


def facts() -> dict[str, Any]:
    """Return everything that does not change during a run."""
    return {
        "kernel": platform.release(),
        "machine": platform.machine(),
        "cpu_count": os.cpu_count(),
        "memory_mib": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20,
        "python": platform.python_version(),
        "iperf3": _first_line("iperf3", "--version"),
        "packages": {name: _version(name) for name in PACKAGES},
        "git_revision": _git("rev-parse", "HEAD"),
        "git_clean": _git("status", "--porcelain") == "",
    }


def available(place: Path) -> Available:
    """Return what the machine has for a run whose result goes to `place`, which does not exist
    yet.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    on_disk = next(each for each in place.absolute().parents if each.exists())
    return Available(
        None if hard == resource.RLIM_INFINITY else hard,
        available_memory_mb(),
        shutil.disk_usage(on_disk).free >> 20,
        str(place),
    )


def raise_open_files(needed: int = 0) -> None:
    """Raise the limit of open files as far as this run, or one of a thousand VMs, needs it.

    It is not raised to the maximum, as some programs close one file after the other, up to the
    limit.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = max(needed, MOST_OPEN_FILES)
    wanted = most if hard == resource.RLIM_INFINITY else min(hard, most)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def load() -> list[float]:
    """Return the machine's load averages over 1, 5 and 15 minutes."""
    return [round(value, 2) for value in os.getloadavg()]


class Clock:
    """Detects whether the wall clock, which stamps packets, is set while a run goes on."""

    def __init__(self) -> None:
        self._offset_ns = _offset_ns()

    def stepped_ms(self) -> float:
        """Return how far the wall clock has moved against the monotonic one since the start, in
        ms.
        """
        return round((_offset_ns() - self._offset_ns) / 1e6, 3)


def _offset_ns() -> int:
    return time.time_ns() - time.monotonic_ns()


def _first_line(*argv: str) -> str | None:
    try:
        said = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
    return said.splitlines()[0] if said else None


def _git(*argv: str) -> str | None:
    try:
        git = ["git", "-C", str(ROOT), *argv]
        return subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def _version(name: str) -> str | None:
    if name == "mininet":  # from Debian, without metadata
        return MININET_VERSION
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
