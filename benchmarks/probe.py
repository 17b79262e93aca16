"""The probe alone: 5,000 packets/s for 20 s between two joined namespaces, nothing in between.

Prints what was lost (has to be 0) and how late the sender was (p99 has to be below 1 ms).  Needs
root. Run: python -m benchmarks.probe [--rate-pps 5000] [--seconds 20]
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks import run_as_command
from benchmarks.namespaces import joined_pair
from experiments.probes.fleet import Probed, ProbeFleet
from experiments.probes.udp import FlowPlan, Plan


def measure(rate_pps: float, seconds: float) -> Probed:
    plan = Plan(
        nonce=1,
        duration_s=seconds,
        flows=(FlowPlan("vm1>vm2/ipv4", "vm1", "vm2", "10.0.0.2", rate_pps),),
    )
    with joined_pair() as vms, tempfile.TemporaryDirectory() as directory:

        def spawn(vm: str, argv: list[str], **options: Any) -> Any:
            return vms[vm].popen(argv, **options)

        fleet = ProbeFleet(plan, Path(directory), spawn)
        try:
            fleet.launch()
            fleet.begin()
            return fleet.collect(timeout_s=seconds + 10, waiting_time_s=0.5)
        finally:
            fleet.stop()


def figures(packets: pd.DataFrame) -> str:
    late_ms = packets["late_ns"] / 1e6
    delay_ms = (packets["received_ns"] - packets["sent_ns"]).dropna() / 1e6
    lost = int((packets["copies"] == 0).sum())
    return (
        f"sent {len(packets):,}, lost {lost:,} | "
        f"sender late p50 {late_ms.median():.3f} ms, p99 {late_ms.quantile(0.99):.3f} ms, "
        f"max {late_ms.max():.3f} ms | "
        f"one-way delay p50 {delay_ms.median():.3f} ms, p99 {delay_ms.quantile(0.99):.3f} ms"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Benchmark the UDP probe.")
    parser.add_argument("--rate-pps", type=float, default=5000)
    parser.add_argument("--seconds", type=float, default=20)
    arguments = parser.parse_args()
    report(arguments.rate_pps, arguments.seconds)


def report(rate_pps: float, seconds: float) -> None:
    """Measure and print."""
    probed = measure(rate_pps, seconds)
    print(figures(probed.packets))
    [flow] = probed.summary["senders"]["vm1"]["flows"].values()
    print(f"due but not sent, because the sender could not run for over 10 ms: {flow['skipped']}")
    for problem in probed.problems:
        print(f"problem: {problem}")


if __name__ == "__main__":
    run_as_command(main)
