"""Fail-overs in a row: a server dies, a standby takes over, and what was lost is printed.

    python -m benchmarks.standbys [--times 20] [--interval-s 1] [--kind warm | cold | hot]

Each is a run of its own: the server dies after another part of the interval each time.  A hot
standby has no mirrors, and so no age; its interval only says when the server dies.  Not part of
`make bench`.
"""

import argparse
import tempfile
from pathlib import Path
from statistics import median
from typing import Any, get_args

from benchmarks import run_as_command
from experiments.measure import results
from experiments.measure.recording import Recorder
from experiments.run.run import Options, run
from experiments.scenario.load import resolve
from experiments.scenario.standbys import StandbyKind

FIRST_S = 3.0
CLIENTS = [f"c{number}" for number in range(6)]
"""So many that the flows of all are seldom spread to one of two instances."""


def scenario(number: int, times: int, interval_s: float, kind: str) -> dict[str, Any]:
    """Return the n-th scenario: its server dies at another part of the interval after a mirror was
    due.
    """
    dies_s = FIRST_S + interval_s * (1 + number / times)
    guest = {"memory_mb": 8, "writes": {"rate_mb_s": 1}, "service": True}
    standby = {"at": "nve2", "kind": kind, "detect_s": 0.3}
    if kind != "hot":
        standby["interval_s"] = interval_s
    vm1 = {"nve": "nve1", "guest": guest, "standby": standby}
    asking = {"kind": "service", "to": "vm1", "rate_rps": 100 / len(CLIENTS)}
    return {
        "name": "standbys",
        "topology": {"kind": "star", "nves": 3, "link": {"delay_ms": 1}},
        "control": {"delay_ms": 1},
        "tenants": [{"vni": 5000, "vms": {"vm1": vm1, **dict.fromkeys(CLIENTS, "nve3")}}],
        "traffic": [{**asking, "from": client} for client in CLIENTS],
        "failures": [{"kind": "nve-dies", "nve": "nve1", "at_s": dies_s}],
        "duration_s": dies_s + 6,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--interval-s", type=float, default=1.0)
    parser.add_argument("--kind", choices=get_args(StandbyKind), default="warm")
    given = parser.parse_args()
    ages_ms, silences_ms, requests, failed = [], [], 0, 0
    print("n  mirror age ms  state lost ms  requests lost  silence ms  problems")
    for number in range(given.times):
        wanted = resolve(scenario(number, given.times, given.interval_s, given.kind), "standbys")
        with tempfile.TemporaryDirectory() as directory:
            with Recorder.create(Path(directory) / "result") as recorder:
                outcome = run(wanted, recorder.run(), Options())
            taken_over = results.load(Path(directory) / "result").takeovers
        row = taken_over.to_dict("records")[0] if taken_over is not None else {}
        if not row or row["outcome"] != "completed" or row["silence_ms"] is None:
            failed += 1
            print(f"{number + 1:2} did not take over", *outcome.problems, flush=True)
            continue
        ages_ms.append(row["lost_age_ms"])
        silences_ms.append(row["silence_ms"])
        requests += int(row["lost_requests"])
        mirror = "–" if given.kind == "hot" else f"{row['mirror_age_ms']:.0f}"
        print(
            f"{number + 1:2} {mirror:>14} {row['lost_age_ms']:14.0f} "
            f"{row['lost_requests']:14.0f} {row['silence_ms']:11.0f} ",
            *outcome.problems,
            flush=True,
        )
    if ages_ms:
        print(
            f"{len(ages_ms)} of {given.times} took over; {requests} requests lost; "
            f"state lost {median(ages_ms):.0f} ms "
            f"(median), {max(ages_ms):.0f} ms (worst); silence {median(silences_ms):.0f} ms "
            f"(median), {max(silences_ms):.0f} ms (worst); {failed} failed"
        )


if __name__ == "__main__":
    run_as_command(main)
