"""A folder in which there is no room left: the kernel says so, and only there."""

import errno
import os
from pathlib import Path

import pytest

from nve.linux.full_disk import fill, make_room

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system: needs root")


def test_a_full_folder_has_room_for_nothing_and_then_is_what_it_was(tmp_path: Path) -> None:
    folder, beside = tmp_path / "servers" / "nve1", tmp_path / "servers" / "nve2"
    for each in (folder, beside):
        each.mkdir(parents=True)
    with (folder / "before").open("w+b") as before:
        fill(folder)
        try:
            with (folder / "new").open("wb") as new, pytest.raises(OSError, match="No space") as no:
                os.posix_fallocate(new.fileno(), 0, 1 << 20)
            assert no.value.errno == errno.ENOSPC
            for file in (before, (beside / "new").open("wb")):
                os.posix_fallocate(file.fileno(), 0, 1 << 20)
        finally:
            make_room(tmp_path)
            make_room(tmp_path)
    assert [each.name for each in folder.iterdir()] == ["before"]
    with (folder / "new").open("wb") as new:
        os.posix_fallocate(new.fileno(), 0, 1 << 20)
