"""The file a probe process leaves behind: one line of JSON, then 64-bit integers.

It is written under another name and renamed, so that a process killed while it writes leaves
nothing that could be taken for its samples.  Room for them is reserved before anything is measured,
so that a disk which is full by the end costs none of them.  A process that cannot write, because
the disk is full, ends with the number of that error as its status.  It uses only the standard
library, as the probe processes have to start quickly.
"""

import errno
import json
import os
import sys
from array import array
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

SUMMARY_BYTES = 16_384
"""The room for the line of JSON."""
FULL = (errno.ENOSPC, errno.EDQUOT)


def reserve(path: Path, integers: int) -> None:
    """Reserve room on the disk for that many integers and a summary, for `write`."""
    unfinished = _unfinished(path)
    try:
        with unfinished.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, SUMMARY_BYTES + 8 * integers)
    except OSError as error:
        if error.errno in FULL:  # other errors: this file system cannot reserve room
            _give_up(path, error)


def write(path: Path, summary: dict[str, Any], values: "array[int]") -> None:
    unfinished = _unfinished(path)
    try:
        unfinished.touch()
        with unfinished.open("r+b") as file:
            file.write(json.dumps(summary).encode() + b"\n")
            values.tofile(file)
            file.truncate()
        unfinished.rename(path)
    except OSError as error:
        _give_up(path, error)


def _unfinished(path: Path) -> Path:
    return path.with_name(path.name + ".partial")


def _give_up(path: Path, error: OSError) -> NoReturn:
    with suppress(OSError):  # its standard error may go to the same disk
        print(f"{path} cannot be written: {error}", file=sys.stderr, flush=True)
    sys.exit(error.errno)


def read(path: Path) -> tuple[dict[str, Any], "array[int]"]:
    with path.open("rb") as file:
        summary: dict[str, Any] = json.loads(file.readline())
        values = array("q", file.read())
    return summary, values
