"""Hot moves of a VM that keeps writing: is its state right each time, and what do peers notice?

A VM with a guest of 64 MiB, which writes 20 MB/s, goes to and fro between two NVEs by pre-copy.  A
client sends requests to its service all the time, and sees by a counter which state it meets; a
probe sends 1,000 packets a second.  Three questions are answered for every move: are the digests of
both ends equal, did the counter ever go back, and what did the probe lose?  Needs root. Run: python
-m benchmarks.state_moves [--moves 50] [--memory-mb 64] [--rate-mb-s 20] [--out RESULT]
"""

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import run_as_command
from experiments.measure import results
from experiments.measure.recording import Recorder
from experiments.measure.results import Result
from experiments.measure.totals import DAMAGE
from experiments.run.run import Options, run
from experiments.scenario.load import resolve
from experiments.scenario.schema import Scenario

EVERY_S = 6.0
"""Longer than a move of the usual guest takes."""
COLUMNS = ("pause_ms", "transfer_final_ms", "transfer_total_ms", "blackout_ms")


def scenario(
    moves: int,
    memory_mb: int,
    rate_mb_s: float,
    bandwidth_mbit: float | None = None,
    every_s: float = EVERY_S,
) -> Scenario:
    """Return a scenario in which each move begins as soon as the state of the last was compared."""
    guest = {"memory_mb": memory_mb, "writes": {"rate_mb_s": rate_mb_s}, "service": True}
    probe = {"kind": "udp-probe", "from": "vm2", "to": "vm1", "family": "ipv4", "rate_pps": 1000}
    content: dict[str, Any] = {
        "name": "state-moves",
        "topology": {"kind": "star", "nves": 3},
        "tenants": [
            {"vni": 5000, "vms": {"vm1": {"nve": "nve1", "guest": guest}, "vm2": "nve3"}},
        ],
        "overlay": {"idle_s": 1, "hold": True, "end_marker": True},
        "traffic": [probe, {"kind": "service", "from": "vm2", "to": "vm1", "rate_rps": 100}],
        "moves": [
            {
                "series": moves,
                "at_s": 2,
                "every_s": every_s,
                "vm": "vm1",
                "to": ["nve2", "nve1"],
                "announce": "both",
                "transfer": {"bandwidth_mbit": bandwidth_mbit},
            }
        ],
        "duration_s": round(moves * every_s + 4),
        "seed": 1,
    }
    return resolve(content, "benchmark", {})


def figures(result: Result) -> Iterator[tuple[str, Sequence[float]]]:
    """Yield each quantity with its value in every move."""
    table = result.moves.drop_duplicates("move")
    for column in COLUMNS:
        yield column.replace("_", " ").replace(" ms", ", ms"), table[column].dropna().to_list()
    moves = result.scenario["moves"]
    if limit_mbit := moves[0]["transfer"]["bandwidth_mbit"]:
        needed_ms = table["transfer_final_bytes"] * 8 / limit_mbit / 1e3
        yield "beyond its bytes, ms", (table["pause_ms"] - needed_ms).dropna().to_list()
    if (rounds := result.iterations) is not None:
        of_move = rounds.groupby("move")
        yield "rounds", of_move["iteration"].max().to_list()
        yield "MB sent", (of_move["transferred_bytes"].sum() / 1e6).to_list()


def show(result: Result) -> bool:
    """Print the figures; return whether they are as they have to be."""
    table = result.moves.drop_duplicates("move")
    equal, completed = int(table["state_equal"].sum()), int((table["outcome"] == "completed").sum())
    asked = result.rows("service")
    assert asked is not None
    answered, back = int(asked["answered_ns"].notna().sum()), int(asked["went_back"].sum())
    harm = {what: int(result.totals[what].sum()) for what in DAMAGE}
    written = result.manifest["guests"]["vm1"]["writes_reached_mb_s"]
    print(f"{len(table)} moves: {completed} completed, {equal} with equal digests")
    print(f"service: {answered:,} answers of {len(asked):,} requests, went back {back} times")
    print(f"probe: {', '.join(f'{count} {what}' for what, count in harm.items())}")
    print(f"the guest has written {written:.1f} MB/s")
    print(f"{'':<24}{'min':>9}{'p50':>9}{'p90':>9}{'max':>9}")
    for what, values in figures(result):
        if values:
            marks = np.percentile(values, [0, 50, 90, 100])
            print(f"{what:<24}" + "".join(f"{mark:>9.1f}" for mark in marks))
    right = completed == equal == len(table) and not back
    return right and not any(harm.values())


def main() -> None:
    parser = argparse.ArgumentParser(description="Hot moves of a VM that keeps writing.")
    parser.add_argument("--moves", type=int, default=50)
    parser.add_argument("--memory-mb", type=int, default=64)
    parser.add_argument("--rate-mb-s", type=float, default=20)
    parser.add_argument("--every-s", type=float, default=EVERY_S)
    parser.add_argument("--bandwidth-mbit", type=float, help="limit of each transfer")
    parser.add_argument("--out", type=Path, help="keep the result here")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        out = asked.out or Path(scratch) / "state-moves"
        with Recorder.create(out) as recorder:
            wanted = scenario(
                asked.moves, asked.memory_mb, asked.rate_mb_s, asked.bandwidth_mbit, asked.every_s
            )
            outcome = run(wanted, recorder.run(), Options())
        for problem in outcome.problems:
            print(f"not valid: {problem}")
        if not show(results.load(out)) or outcome.problems:
            raise SystemExit(1)


if __name__ == "__main__":
    run_as_command(main)
