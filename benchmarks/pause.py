"""How long a VM is suspended if no pause is asked for, and how long its peers hear nothing.

One VM goes to and fro between two NVEs of three, without delay on the underlay, while probes of
1,000 packets a second go to it and come from it.  Shown are each part of the pause, the silence in
each direction (less the packets' interval), how long what the VM sent was held at its destination,
and what was lost, duplicated or reordered.  Beside a silence there is the longest one of the
senders, which may have been in another moment of the same move.  After the moves, nothing moves for
a while: the longest silence in as much time as a move has is what this machine causes by itself.
Recorded results of such moves are shown in the same way.  Needs root, unless results are named.
Run: python -m benchmarks.pause [--moves 100] [--plain] [--out DIRECTORY] [RESULT …]
"""

import argparse
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import run_as_command
from experiments.measure import results
from experiments.measure.packets import flows_of, longest_silence_ns
from experiments.measure.recording import Recorder
from experiments.measure.results import Result
from experiments.measure.totals import DAMAGE
from experiments.measure.trace import moves_of
from experiments.run.run import Options, run
from experiments.scenario.load import resolve
from experiments.scenario.schema import Scenario

EVERY_S = 1.2
STILL_S = 36
"""How long nothing moves in the end."""
PARTS_EVENT, HELD_EVENT, REDIRECT_EVENT = "parts-of-pause", "outbound-released", "redirect-in-pause"
RATE_PPS = 1000
WHERE = {"vm1": "nve1", "vm2": "nve1", "vm3": "nve2", "vm4": "nve3"}
FLOWS = [
    ("vm2", "vm1", "ipv4"),
    ("vm4", "vm1", "ipv6"),
    ("vm1", "vm3", "ipv4"),
    ("vm1", "vm4", "ipv4"),
]
THERE_AND_BACK = {"vm": "vm1", "to": ["nve2", "nve1"], "pause_ms": 0, "announce": "garp"}
ORDERLY = {"hold": True, "end_marker": True}


def scenario(moves: int, *, plain: bool) -> Scenario:
    """Return the scenario.  With `plain`, nothing is held, and the redirect is inside the pause."""
    content: dict[str, Any] = {
        "name": "pause",
        "topology": {"kind": "star", "nves": 3, "link": {"delay_ms": 0}},
        "tenants": [{"vni": 5000, "vms": WHERE}],
        "overlay": {"idle_s": 1, **({} if plain else ORDERLY)},
        "traffic": [
            {"kind": "udp-probe", "from": source, "to": to, "family": family, "rate_pps": RATE_PPS}
            for source, to, family in FLOWS
        ],
        "moves": [{"series": moves, "at_s": 2, "every_s": EVERY_S, **THERE_AND_BACK}],
        "duration_s": round(moves * EVERY_S + 3 + STILL_S),
        "seed": 1,
    }
    return resolve(content, "benchmark", {})


def figures(result: Result) -> Iterator[tuple[str, Sequence[float]]]:
    """Yield each quantity with its value in every move, in milliseconds or packets."""
    per_move = result.metrics.drop_duplicates("move")
    yield "pause", per_move["pause_ms"].dropna().to_list()
    parts = defaultdict(list)
    for move in moves_of(result.events):
        for event in move.events:
            if event.name == PARTS_EVENT:
                for part, took_ms in event.details.items():
                    if part.endswith("_ms"):
                        parts[f"  of it {part.removesuffix('_ms')}"].append(took_ms)
            elif event.name == REDIRECT_EVENT:
                parts["redirect, inside the pause"].append(event.details["took_ms"])
            elif event.name == HELD_EVENT:
                parts["held at the destination"].append(event.details["held_ms"])
                parts["held, packets"].append(event.details["packets"])
    yield from parts.items()
    for role, words in (("to", "silence towards the VM"), ("from", "silence of the VM")):
        of_role = result.metrics[result.metrics["role"] == role]
        yield words, of_role.groupby("move")["blackout_ms"].max().dropna().to_list()
        yield "  by the sender", of_role.groupby("move")["sender_gap_ms"].max().dropna().to_list()
        yield "  where nothing moves", without_moves(result, list(of_role["flow"].unique()))


def without_moves(result: Result, flows: Sequence[str]) -> list[float]:
    """Return the longest silence, in milliseconds, of these flows in each stretch of `EVERY_S`
    after the moves.
    """
    every_ns = round(EVERY_S * 1e9)
    samples = [each for name, each in flows_of(result.packets).items() if name in flows]
    begin_ns = max(each.t_ns for each in result.events if each.name == "move-requested")
    begin_ns += 2 * every_ns
    end_ns = min(int(each.sent_ns.max()) for each in samples)
    return [
        max(
            (longest_silence_ns(each, start_ns, start_ns + every_ns) - each.interval_ns) / 1e6
            for each in samples
        )
        for start_ns in range(begin_ns, end_ns - every_ns, every_ns)
    ]


def show(result: Result, name: str) -> None:
    moves = result.metrics["move"].nunique()
    harm = ", ".join(f"{int(result.totals[what].sum())} {what}" for what in DAMAGE)
    sent = int(result.totals["sent"].sum())
    print(f"\n{name}: {moves} moves, {sent:,} packets: {harm}")
    print(f"{'':<28}{'moves':>6}{'min':>8}{'p50':>8}{'p90':>8}{'max':>8}")
    for what, values in figures(result):
        if values:
            least, middle, most, worst = np.percentile(values, [0, 50, 90, 100])
            print(f"{what:<28}{len(values):>6}{least:>8.2f}{middle:>8.2f}{most:>8.2f}{worst:>8.2f}")


def measure(moves: int, *, plain: bool, out: Path) -> None:
    with Recorder.create(out) as recorder:
        outcome = run(scenario(moves, plain=plain), recorder.run(), Options())
    for problem in outcome.problems:
        print(f"not valid: {problem}")
    show(results.load(out), "nothing held" if plain else "hold and end_marker")


def main() -> None:
    parser = argparse.ArgumentParser(description="Pauses where none is asked for.")
    parser.add_argument("results", nargs="*", type=Path, help="show these instead of measuring")
    parser.add_argument("--moves", type=int, default=100)
    parser.add_argument("--plain", action="store_true", help="without hold and end_marker")
    parser.add_argument("--out", type=Path, help="keep the result here")
    asked = parser.parse_args()
    for recorded in asked.results:
        show(results.load(recorded), str(recorded))
    if asked.results:
        return
    with tempfile.TemporaryDirectory() as scratch:
        measure(asked.moves, plain=asked.plain, out=asked.out or Path(scratch) / "pause")


if __name__ == "__main__":
    run_as_command(main)
