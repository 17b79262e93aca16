"""How fast state is sent, beside iperf3 on the same path in the same run; and what a pause costs.

    python -m benchmarks.state [--memory-mb 256] [--rate-mbit 200 1000] [--pauses 20]

Sender and receiver as in a move, in two network namespaces that a rate-limited cable joins.  There
is no guest: pages are filled once, and some are marked as written before the last round.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import asdict
from typing import Any

import numpy as np

from benchmarks.namespaces import Namespace, joined_pair
from nve.guest.dirty_log import DirtyLog, log_size
from nve.guest.pages import content
from nve.guest.spec import PAGE_SIZE, GuestSpec
from nve.transfer.convergence import TransferLimits
from nve.transfer.state import State

SOURCE, TARGET = "10.0.0.1", "10.0.0.2"
WRITTEN = 1000
"""Pages of a last round."""


class Memory:
    """The pages of one end, and their log."""

    def __init__(self, spec: GuestSpec, stack: ExitStack) -> None:
        self.files = [os.memfd_create("memory"), os.memfd_create("log")]
        for file, size in zip(
            self.files, (spec.memory_pages * PAGE_SIZE, log_size(spec.pages)), strict=True
        ):
            os.ftruncate(file, size)
            stack.callback(os.close, file)
        self.log = DirtyLog(self.files[1], spec.pages)
        self.state = State(self.files[0], spec.memory_pages, -1, 0)

    def fill(self) -> None:
        for page in range(self.state.pages):
            self.state.at((page, 1))[:] = content(
                np.array([page]), np.zeros(1, np.uint64)
            ).tobytes()


def transferred(
    pair: dict[str, Namespace], spec: GuestSpec, source: Memory, target: Memory
) -> list[dict[str, Any]]:
    """Both rounds of one transfer; raises AssertionError if not all of it has arrived."""
    with ExitStack() as stack:

        def start(place: str, name: str, *argv: str, files: list[int]) -> Any:
            process = pair[place].popen(
                [sys.executable, "-m", f"nve.transfer.{name}", spec.line(), *argv],
                **{"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True},
                pass_fds=files,
            )
            stack.callback(process.wait)
            stack.callback(process.kill)
            return process

        def heard(process: Any) -> dict[str, Any]:
            told: dict[str, Any] = json.loads(process.stdout.readline())
            return told

        memory, log = source.files
        there = [str(target.files[0]), "-1", TARGET, "token"]
        receiver = start("vm2", "receiver", *there, files=target.files[:1])
        port = heard(receiver)["port"]
        limits = json.dumps(asdict(TransferLimits()))
        here = [str(memory), str(log), "-1", limits, SOURCE, TARGET, str(port), "token"]
        sender = start("vm1", "sender", *here, files=source.files)
        assert heard(sender)["connected"]
        rounds = [heard(sender)["iteration"]]
        heard(sender)
        source.log.mark(np.arange(0, 2 * WRITTEN, 2) % spec.pages)
        print("final", file=sender.stdin, flush=True)
        rounds.append(heard(sender)["iteration"])
        print("digest", file=sender.stdin, flush=True)
        digests = heard(sender)["digests"]
        assert digests["here"] == digests["there"], digests
        return rounds


def iperf3_mbps(pair: dict[str, Namespace], seconds: int = 4) -> float:
    server = pair["vm2"].popen(
        ["iperf3", "-s", "-1", "--forceflush"], stdout=subprocess.PIPE, text=True
    )
    assert server.stdout
    while "listening" not in server.stdout.readline():
        pass
    told = json.loads(pair["vm1"].run("iperf3", "-c", TARGET, "-t", str(seconds), "--json"))
    server.kill()
    server.communicate()
    return float(told["end"]["sum_received"]["bits_per_second"]) / 1e6


def scan_ms(pages: int, written: int) -> float:
    """The median time that it takes to read the log."""
    file = os.memfd_create("log")
    os.ftruncate(file, log_size(pages))
    log, took = DirtyLog(file, pages), []
    for seed in range(20):
        log.mark(np.random.default_rng(seed).choice(pages, written, replace=False))
        began_s = time.perf_counter()
        log.harvest()
        took.append((time.perf_counter() - began_s) * 1e3)
    os.close(file)
    return statistics.median(took)


def measure(memory_mb: int, rates_mbit: list[int], pauses: int) -> None:
    pages = memory_mb * 256
    print(f"reading the log of {memory_mb} MB, all written: {scan_ms(pages, pages):.2f} ms")
    print(f"  2,000 pages written: {scan_ms(pages, 2000):.2f} ms")
    for rate_mbit in rates_mbit:
        with joined_pair() as pair, ExitStack() as stack:
            limit = f"tc qdisc add dev eth0 root tbf rate {rate_mbit}mbit burst 256k latency 50ms"
            pair["vm1"].run(*limit.split())
            spec = GuestSpec(memory_mb)
            source, target = Memory(spec, stack), Memory(spec, stack)
            source.fill()
            before = iperf3_mbps(pair)
            first, _ = transferred(pair, spec, source, target)
            beside = statistics.mean([before, iperf3_mbps(pair)])
            print(
                f"a cable of {rate_mbit} Mbit/s: {first['mbps']:.0f} Mbit/s, iperf3 {beside:.0f}: "
                f"{first['mbps'] / beside:.2f}"
            )
            small = GuestSpec(min(memory_mb, 16))
            one, other = Memory(small, stack), Memory(small, stack)
            one.fill()
            over_ms = []
            for _ in range(pauses):
                first, last = transferred(pair, small, one, other)
                needed_ms = last["transferred_bytes"] * 8 / first["mbps"] / 1e3
                over_ms.append(last["took_ms"] - needed_ms)
            print(
                f"  last round of {WRITTEN} pages, beyond what its bytes need: median "
                f"{statistics.median(over_ms):.1f} ms, worst {max(over_ms):.1f} ms"
            )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--memory-mb", type=int, default=256)
    parser.add_argument("--rate-mbit", type=int, nargs="+", default=[200, 1000])
    parser.add_argument("--pauses", type=int, default=20)
    given = parser.parse_args()
    measure(given.memory_mb, given.rate_mbit, given.pauses)


if __name__ == "__main__":
    main()
