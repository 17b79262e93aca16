"""The command line as users run it, and what its error messages have to be like."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

# With this Python: the first line of an installed script names the folder where it was made.
VMMLAB = (sys.executable, str(Path(sys.executable).with_name("vmmlab")))
TIMEOUT_S = 100
NOBODY = 65534

TINY = """\
name: tiny
says: One short move, for tests.
topology: {kind: star, nves: 2, link: {delay_ms: 1}}
tenants:
  - {vni: 5000, vms: {vm1: nve1, vm2: nve1}}
overlay: {idle_s: 1}
traffic:
  - {kind: udp-probe, from: vm2, to: vm1, rate_pps: 100}
moves:
  - {at_s: 0.3, vm: vm1, to: nve2, pause_ms: 20}
duration_s: 1
"""


def vmmlab(*arguments: str | Path, **options: Any) -> "subprocess.CompletedProcess[str]":
    """Run a command to its end; its output is not broken into lines."""
    environment = os.environ | {"COLUMNS": "300"} | options.pop("env", {})
    return subprocess.run(
        [*VMMLAB, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT_S,
        env=environment,
        **options,
    )


def as_nobody(*arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    """Run a command as a user without any rights except to read the project."""
    may_read = ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
    identity = [f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    return subprocess.run(
        ["setpriv", *identity, *may_read, *VMMLAB, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT_S,
        env=os.environ | {"COLUMNS": "300"},
    )


def complaint(done: "subprocess.CompletedProcess[str]") -> str:
    """Return the sentence that a command ended with; fail if it is not one sentence."""
    said = done.stderr.splitlines()
    assert len(said) == 1, f"not one line: {done.stderr}{done.stdout}"
    assert said[0].startswith("vmmlab: "), f"not a complaint: {said[0]}"
    assert done.stdout == "", f"a complaint, and also: {done.stdout}"
    return said[0].removeprefix("vmmlab: ")
