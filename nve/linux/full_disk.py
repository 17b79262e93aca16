"""A folder in which there is no room left, for trials of what a full disk does.

A file system of one page is mounted over it.  Files that are open already, and what was set aside
for them, are not touched.  Needs root.
"""

import ctypes
import os
from pathlib import Path

_SIZE_KB = 4
_MNT_DETACH = 2  # linux/fs.h
_MOUNTS = Path("/proc/self/mountinfo")
_MOUNT_POINT = 4
"""Which word of a line of it says where it is (proc(5))."""
_libc = ctypes.CDLL(None, use_errno=True)


def fill(folder: Path) -> None:
    """Let no file of this folder get any room."""
    folder.mkdir(parents=True, exist_ok=True)
    options = f"size={_SIZE_KB}k".encode()
    _checked(_libc.mount(b"vmmlab-full", bytes(folder), b"tmpfs", 0, options), folder)
    with (folder / "full").open("wb") as rest:
        os.posix_fallocate(rest.fileno(), 0, _SIZE_KB << 10)


def make_room(folder: Path) -> None:
    """End what `fill` did to this folder and those below it; this is safe at any time."""
    lines = _MOUNTS.read_text(encoding="utf-8").splitlines()
    mounted = [Path(line.split()[_MOUNT_POINT]) for line in lines]
    for place in mounted:
        if place.is_relative_to(folder):
            _checked(_libc.umount2(bytes(place), _MNT_DETACH), place)


def _checked(result: int, place: Path) -> None:
    """Raise OSError where a call has failed."""
    if result:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(place))
