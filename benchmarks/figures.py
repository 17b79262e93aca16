"""How long the figures and the report of a result take, with how much memory, and their size.

The packets of a recorded result are multiplied: further ones are inserted between neighbours, with
the same delay and outcome, until there are as many as asked for.  `vmmlab plot` draws all its
figures, `vmmlab report` writes the page; each is a process of its own, start included. CPU time is
shown beside wall time, since the first depends less on what else the machine does. Needs no root.
Run: python -m benchmarks.figures [--packets 66000 1000000] [RESULT]
"""

import argparse
import os
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks import run_as_command
from experiments.measure.packets import NEVER
from experiments.measure.results import Result, load
from experiments.measure.rows import PACKETS

SAMPLE = Path(__file__).parents[1] / "results" / "sample"
SIZES = (66_000, 1_000_000)
_START = "from experiments.cli import main; main()"


@dataclass(frozen=True)
class Spent:
    """The resources that a command took."""

    wall_s: float
    cpu_s: float
    peak_mib: float


def multiplied(packets: pd.DataFrame, times: int) -> pd.DataFrame:
    """Return each packet `times` times, evenly spread up to the next one of its flow."""
    return pd.concat(
        [_flow_multiplied(flow, times) for _, flow in packets.groupby("flow", sort=False)],
        ignore_index=True,
    )


def _flow_multiplied(flow: pd.DataFrame, times: int) -> pd.DataFrame:
    flow = flow.sort_values("seq")
    interval_ns = int(flow["sent_ns"].diff().median()) if len(flow) > 1 else 1
    again = flow.loc[flow.index.repeat(times)].reset_index(drop=True)
    turn = np.tile(np.arange(times), len(flow))
    shift_ns = turn * (interval_ns // times)
    arrived = (again["received_ns"] != NEVER) & again["received_ns"].notna()
    again["seq"] = again["seq"] * times + turn
    again["sent_ns"] += shift_ns
    again.loc[arrived, "received_ns"] += shift_ns[arrived]
    again.loc[arrived, "rx_index"] = again.loc[arrived, "received_ns"].rank(method="first") - 1
    return again.astype(flow.dtypes.to_dict())


def enlarge(result: Path, at_least: int, out: Path) -> int:
    """Copy a result with at least that many packets; return how many there are."""
    shutil.copytree(result, out, ignore=shutil.ignore_patterns("plots", "report.html"))
    runs = load(out).runs.values()
    times = -(-at_least // max(1, sum(len(run.packets) for run in runs)))
    return sum(_enlarge_run(run, times) for run in runs)


def _enlarge_run(run: Result, times: int) -> int:
    packets = multiplied(run.packets, times)
    packets.to_parquet(run.path / PACKETS.file, index=False, compression="zstd")
    return len(packets)


def spent(*command: str) -> Spent:
    """Run a command of vmmlab and return what it took.  Raises RuntimeError if it fails."""
    words = [sys.executable, "-c", _START, *command]
    quiet = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
    began_s = time.monotonic()
    process = os.posix_spawn(sys.executable, words, os.environ, file_actions=quiet)
    _, status, usage = os.wait4(process, 0)
    if status:
        raise RuntimeError(f"{' '.join(command)} failed: {os.waitstatus_to_exitcode(status)}")
    cpu_s = usage.ru_utime + usage.ru_stime
    return Spent(time.monotonic() - began_s, cpu_s, usage.ru_maxrss / 1024)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("result", nargs="?", type=Path, default=SAMPLE)
    parser.add_argument("--packets", nargs="+", type=int, default=SIZES)
    given = parser.parse_args()
    print(f"{'packets':>10} {'command':10} {'wall s':>7} {'CPU s':>7} {'peak MiB':>9} {'MB':>6}")
    with tempfile.TemporaryDirectory() as folder:
        for size in given.packets:
            out = Path(folder) / str(size)
            packets = enlarge(given.result, size, out)
            for command in ("plot", "report"):
                took = spent(command, str(out))
                drawn = sum(file.stat().st_size for file in (out / "plots").iterdir())
                written = drawn if command == "plot" else (out / "report.html").stat().st_size
                print(
                    f"{packets:>10,} {command:10} {took.wall_s:>7.2f} {took.cpu_s:>7.2f} "
                    f"{took.peak_mib:>9.0f} {written / 1e6:>6.2f}"
                )


if __name__ == "__main__":
    run_as_command(main)
