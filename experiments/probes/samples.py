"""The file a probe process leaves behind: one line of JSON, then 64-bit integers.

Written under another name and renamed, so that a process killed while it writes leaves nothing that
could be taken for its samples.  Only the standard library: the probe processes have to start
quickly.
"""

import json
from array import array
from pathlib import Path
from typing import Any


def write(path: Path, summary: dict[str, Any], values: "array[int]") -> None:
    unfinished = path.with_name(path.name + ".partial")
    with unfinished.open("wb") as file:
        file.write(json.dumps(summary).encode() + b"\n")
        values.tofile(file)
    unfinished.rename(path)


def read(path: Path) -> tuple[dict[str, Any], "array[int]"]:
    with path.open("rb") as file:
        summary: dict[str, Any] = json.loads(file.readline())
        values = array("q", file.read())
    return summary, values
