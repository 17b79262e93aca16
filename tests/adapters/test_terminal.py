"""Printing fails for nobody's reader, disk or locale."""

import errno
import os
import subprocess
import sys

import pytest

from experiments.machine import ROOT
from tests.helpers.examples import some_of

PRINT = r"""
import sys
from experiments.terminal import Terminal, be_robust

be_robust()
out = Terminal()
for _ in range(3):
    out.print("\u2713 vm1 nve1\u2192nve2 \u2013 5 \u00b5s \u2026")
with out.status("drawing"):
    pass
print("the work goes on", out.lost and out.lost.errno, file=sys.stderr)
"""
ASCII = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}


def printed(out: int, environment: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", PRINT],
        stdout=out,
        stderr=subprocess.PIPE,
        env=os.environ | environment,
        text=True,
        check=False,
        cwd=ROOT,
    )


def test_nobody_has_to_read_what_is_printed() -> None:
    """As in `vmmlab run … | head -1`, when head has ended."""
    reading, writing = os.pipe()
    os.close(reading)
    done = printed(writing, {})
    os.close(writing)

    assert (done.returncode, done.stderr) == (0, "the work goes on None\n")


def test_a_full_disk_is_remembered() -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    done = printed(full, {})
    os.close(full)

    assert (done.returncode, done.stderr) == (0, f"the work goes on {errno.ENOSPC}\n")


@pytest.mark.parametrize(
    ("environment", "shown"),
    some_of(
        [
            (ASCII, "ok vm1 nve1->nve2 - 5 us ..."),
            ({"PYTHONIOENCODING": "iso-8859-1"}, "ok vm1 nve1->nve2 - 5 \xb5s ..."),
            ({"PYTHONIOENCODING": "utf-8"}, "✓ vm1 nve1→nve2 – 5 µs …"),
        ],
        every=3,
    ),
)
def test_what_a_locale_lacks_is_replaced_by_what_reads_like_it(
    environment: dict[str, str], shown: str
) -> None:
    reading, writing = os.pipe()
    done = printed(writing, environment)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        said = pipe.read().decode(environment.get("PYTHONIOENCODING", "ascii"))

    assert (done.returncode, said.splitlines()[0]) == (0, shown)
