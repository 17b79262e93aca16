"""The file a probe process leaves behind: one line of JSON, then 64-bit integers.

Written under another name and renamed, so that a process killed while it writes leaves nothing that
could be taken for its samples.  A process that cannot write them, because the disk is full, ends
with the number of that error as its status.  Only the standard library: the probe processes have to
start quickly.
"""

import json
import sys
from array import array
from contextlib import suppress
from pathlib import Path
from typing import Any


def write(path: Path, summary: dict[str, Any], values: "array[int]") -> None:
    unfinished = path.with_name(path.name + ".partial")
    try:
        with unfinished.open("wb") as file:
            file.write(json.dumps(summary).encode() + b"\n")
            values.tofile(file)
        unfinished.rename(path)
    except OSError as error:
        with suppress(OSError):  # what it says may go to the same disk
            print(f"{path} cannot be written: {error}", file=sys.stderr, flush=True)
        sys.exit(error.errno)


def read(path: Path) -> tuple[dict[str, Any], "array[int]"]:
    with path.open("rb") as file:
        summary: dict[str, Any] = json.loads(file.readline())
        values = array("q", file.read())
    return summary, values
