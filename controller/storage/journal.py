"""The file in which the NVA's state outlives its process.

    line 1     the kind and version of the file, and the NVEs it is about
    the rest   changes (`controller.core.snapshot`), in the order in which they were decided

Each line begins with the CRC-32 of its rest.  A change is written before any NVE is told of it.  A
last line without its end is a change that was being written when the process was killed: no NVE has
heard of it, and it is left out.  A file with any other damage is refused, as part of a state is
worse than none.  When the changes have grown well beyond the state, the file is rewritten under
another name and replaces the old one in one step.

It survives the death of the process, not of the machine: nothing waits for the disk.
"""

import json
import os
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

from controller.core.snapshot import SnapshotChange, decode, encode, merged

FORMAT, VERSION = "vmmlab NVA state", 3
"""Older versions have other names for an NVE's part of the state, and numbers instead of move keys;
parts with such names would be left out without notice."""
REMEDY = "move it away, and the NVA starts with nothing: all VMs have to be associated again"
LEAST_BYTES = 1 << 20
"""A file that has grown by less than this is not written anew."""


class Unreadable(ValueError):
    """The file cannot be used; the message says why and what to do."""


class Journal:
    """The journal of one NVA; `before` is the state that the earlier process has left."""

    def __init__(self, directory: Path, vteps: Mapping[str, str]) -> None:
        """Open or create the journal in a directory.  Raises Unreadable, OSError."""
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._path = directory / "journal"
        self._header = {"format": FORMAT, "version": VERSION, "nves": dict(vteps)}
        self._file: int | None = None
        self.before = merged(self._read()) if self._path.exists() else SnapshotChange()
        self._rewrite(self.before)

    def append(self, change: SnapshotChange, whole: Callable[[], SnapshotChange]) -> None:
        """Write a change; call `whole` for the complete state when the file is due to be rewritten.

        Raises OSError; the file must not be appended to after that.
        """
        if not change:
            return
        assert self._file is not None, "the journal is closed"
        line = _line(encode(change))
        if os.write(self._file, line) < len(line):
            raise OSError(f"{self._path} has no room for another line")
        self._appended += len(line)
        if self._appended > max(LEAST_BYTES, 2 * self._size):
            self._rewrite(whole())

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _rewrite(self, whole: SnapshotChange) -> None:
        new = self._path.with_suffix(".new")
        written = _line(json.dumps(self._header).encode()) + _line(encode(whole))
        new.write_bytes(written)
        new.replace(self._path)
        self.close()
        self._file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        self._size, self._appended = len(written), 0

    def _read(self) -> list[SnapshotChange]:
        header, *lines = [self._checked(*line) for line in self._lines()]
        found = json.loads(header)
        if found["version"] != VERSION:
            raise self._unreadable(
                f"is of version {found['version']}, and this NVA reads version {VERSION}"
            )
        if found != self._header:
            raise self._unreadable("is about other NVEs, or the same with other addresses")
        changes = []
        for number, line in enumerate(lines, 2):
            try:
                changes.append(decode(line))
            except ValueError as error:
                raise self._unreadable(f"cannot be read in line {number}: {error}") from None
        return changes

    def _lines(self) -> list[tuple[int, bytes]]:
        *whole, _torn = self._path.read_bytes().split(b"\n")
        if not whole:
            raise self._unreadable("is empty")
        return list(enumerate(whole, 1))

    def _checked(self, number: int, line: bytes) -> bytes:
        code, _, content = line.partition(b" ")
        if code != b"%08x" % zlib.crc32(content):
            raise self._unreadable(f"is damaged in line {number}")
        return content

    def _unreadable(self, why: str) -> Unreadable:
        return Unreadable(f"{self._path} {why}; {REMEDY}")


def _line(content: bytes) -> bytes:
    return b"%08x %s\n" % (zlib.crc32(content), content)
