"""How fast state is sent, beside iperf3 on the same path in the same run; what a pause costs.

    python -m benchmarks.state [speed] [pause] [faults] [memory] [scan] [table]

    speed     a first round, and a push, beside iperf3: the share that they reach
    pause     how long the last round takes beyond what its bytes need
    faults    how long a guest waits for a page in a post-copy, beside the path's round trip
    memory    what a guest of 512 MiB and all that moves it take of this machine meanwhile
    scan      how long it takes to read the log of written pages
    table     pause, total time, rounds and bytes of guests of 64, 256 and 512 MiB that write a
              quarter, a half and all of what the path carries

Guest, sender and receiver as in a move, in two network namespaces that a rate-limited cable joins;
there is no overlay.
"""

import argparse
import os
import signal
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from benchmarks import run_as_command
from benchmarks.namespaces import Namespace, joined_pair
from experiments.run.guests import VmGuest
from experiments.run.state_transfer import StateTransfer
from nve.guest.dirty_log import DirtyLog, log_size
from nve.guest.spec import PAGE_SIZE, PAGES_OF_A_MB, GuestSpec
from nve.linux.wait import wait_until
from nve.transfer.convergence import TransferLimits
from topologies.emulation.data_centre import DataCentre

ADDRESSES = {"nve1": "10.0.0.1", "nve2": "10.0.0.2"}
PLACES = {"nve1": "vm1", "nve2": "vm2"}
"""The namespaces of `joined_pair`, which it calls VMs, that stand for the servers."""
RATES_MBIT = (200, 1000)


class Trial:
    """A guest on one server that moves to another, once, and what was recorded of that."""

    def __init__(self, pair: dict[str, Namespace], directory: Path, spec: GuestSpec) -> None:
        self.noted: dict[str, dict[str, Any]] = {}
        self.rows: list[dict[str, Any]] = []
        self.faults: list[dict[str, Any]] = []
        self.sides: list[subprocess.Popen[Any]] = []
        self._pair = pair
        centre: Any = SimpleNamespace(
            in_vm=lambda _vm, argv, **popen: subprocess.Popen(argv, **popen),
            in_node=self._in_node,
            session=SimpleNamespace(directory=directory),
            nves={name: SimpleNamespace(name=name, vtep=vtep) for name, vtep in ADDRESSES.items()},
            vms={"vm1": SimpleNamespace(spec=SimpleNamespace(nve="nve1"), pid=0)},
        )
        self._centre: DataCentre = centre
        self.guest = VmGuest(self._centre, "vm1", spec)
        self.guest.launch(self.guest.machine)
        self.guest.machine.await_ready()
        self.transfer: StateTransfer
        told = {"number": 1, "source": "nve1", "destination": "nve2"}
        self.move: Any = SimpleNamespace(
            told=SimpleNamespace(**told, vm=SimpleNamespace(name="vm1")),
            note=lambda event, **details: self.noted.update({event: details}),
            hypervisor=SimpleNamespace(hold_anew=lambda _nve: None),
            reached=lambda _moment: None,
            helped=ExitStack(),
        )
        self.pause_ms = self.total_ms = 0.0

    def _in_node(self, node: str, argv: list[str], **popen: Any) -> "subprocess.Popen[Any]":
        self.sides.append(self._pair[PLACES[node]].popen(argv, **popen))
        return self.sides[-1]

    def move_it(
        self, limits: TransferLimits, before_the_end: Callable[[], None] = lambda: None
    ) -> None:
        """Move the guest with the same calls as the steps of a move."""
        self.transfer = StateTransfer(self._centre, self.guest, limits, self.rows, self.faults)
        began_s = time.monotonic()
        self.transfer.rounds(self.move)
        here = self.guest.machine
        paused_s = time.monotonic()
        os.kill(here.pid, signal.SIGSTOP)
        wait_until(lambda: None if _stopped(here.pid) else "it runs", 5, poll_s=0.0002)
        self.transfer.final(self.move)
        self.transfer.take_over(self.move)
        self.pause_ms = (time.monotonic() - paused_s) * 1e3
        self.move.helped.close()
        self.transfer.push(self.move)
        self.total_ms = (time.monotonic() - began_s) * 1e3
        before_the_end()
        self.transfer.verify(self.move)

    def close(self) -> None:
        with suppress(AttributeError):
            self.transfer.close()
        self.guest.close()


def _stopped(pid: int) -> bool:
    return (
        Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] == "T"
    )


@contextmanager
def trial(pair: dict[str, Namespace], spec: GuestSpec) -> Iterator[Trial]:
    with tempfile.TemporaryDirectory() as directory:
        made = Trial(pair, Path(directory), spec)
        try:
            yield made
        finally:
            made.close()


@contextmanager
def cable(rate_mbit: int) -> Iterator[dict[str, Namespace]]:
    with joined_pair() as pair:
        limit = f"tc qdisc add dev eth0 root tbf rate {rate_mbit}mbit burst 256k latency 50ms"
        pair["vm1"].run(*limit.split())
        yield pair


def iperf3_mbps(pair: dict[str, Namespace], seconds: int = 3) -> float:
    server = pair["vm2"].popen(
        ["iperf3", "-s", "-1", "--forceflush"], stdout=subprocess.PIPE, text=True
    )
    assert server.stdout
    while "listening" not in server.stdout.readline():
        pass
    argv = ("iperf3", "-c", ADDRESSES["nve2"], "-t", str(seconds))
    said = pair["vm1"].run(*argv, "--format", "m")
    server.kill()
    server.communicate()
    (received,) = (line for line in said.splitlines() if line.endswith("receiver"))
    return float(received.split()[-3])


def speed(memory_mb: int) -> None:
    for rate_mbit in RATES_MBIT:
        with cable(rate_mbit) as pair:
            spec, found, beside = GuestSpec(memory_mb), {}, [iperf3_mbps(pair)]
            for kind, status in (("pre-copy", "active"), ("post-copy", "postcopy-active")):
                with trial(pair, spec) as moved:
                    moved.move_it(TransferLimits(kind=kind))  # type: ignore[arg-type]
                    (found[kind],) = (r["mbps"] for r in moved.rows if r["status"] == status)
                beside.append(iperf3_mbps(pair))
            usual = statistics.median(beside)
            told = ", ".join(f"{k} {v:.0f} ({v / usual:.2f} of it)" for k, v in found.items())
            print(f"speed on a cable of {rate_mbit} Mbit/s: iperf3 {usual:.0f} Mbit/s, {told}")


def pause(moves: int) -> None:
    """Print how long pauses exceed the time for their bytes at the cable's rate.

    A short round has no meaningful rate of its own.
    """
    for rate_mbit in RATES_MBIT:
        over_ms, pauses_ms = [], []
        with cable(rate_mbit) as pair:
            usual = iperf3_mbps(pair)
            for seed in range(moves):
                with trial(pair, GuestSpec(16, writes_mb_s=8, seed=seed + 1)) as moved:
                    moved.move_it(TransferLimits())
                needed_ms = moved.rows[-1]["transferred_bytes"] * 8 / usual / 1e3
                pauses_ms.append(moved.pause_ms)
                over_ms.append(moved.pause_ms - needed_ms)
        print(
            f"pause on a cable of {rate_mbit} Mbit/s, {moves} moves: median "
            f"{statistics.median(pauses_ms):.1f} ms; beyond what its bytes need, median "
            f"{statistics.median(over_ms):.1f} ms, worst {max(over_ms):.1f} ms"
        )


def faults() -> None:
    for rate_mbit, limit in ((200, 150.0), (1000, None)):
        with cable(rate_mbit) as pair:
            said = pair["vm1"].run("ping", "-c", "20", "-i", "0.05", "-q", ADDRESSES["nve2"])
            round_trip_ms = float(said.rpartition(" = ")[2].split("/")[1])
            with trial(pair, GuestSpec(64, writes_mb_s=10)) as moved:
                moved.move_it(TransferLimits(kind="post-copy", bandwidth_mbit=limit))
            told = moved.noted["post-copy-finished"]
            print(
                f"faults on a cable of {rate_mbit} Mbit/s, pushed at "
                f"{f'{limit:g} Mbit/s' if limit else 'what it gives'}: {told['faults']}, p50 "
                f"{told['fault_p50_ms']:.2f} ms, p99 {told['fault_p99_ms']:.2f} ms; round trip "
                f"{round_trip_ms:.2f} ms"
            )


def memory(memory_mb: int) -> None:
    with cable(1000) as pair, trial(pair, GuestSpec(memory_mb, writes_mb_s=10)) as moved:
        taken_mb: list[float] = []

        def count() -> None:
            pids = [moved.guest.machine.pid, *(side.pid for side in moved.sides)]
            blocks = [os.fstat(each.memory).st_blocks for each in moved.transfer.machines]
            own_mb = sum(_own_mb(pid) for pid in pids)
            taken_mb.append(own_mb + sum(blocks) * 512 / (1 << 20))

        moved.move_it(TransferLimits(), before_the_end=count)
        print(
            f"memory: {taken_mb[0]:.0f} MiB for a guest of {memory_mb} MiB that is at both ends, "
            f"with its processes: 2 x {memory_mb} + {taken_mb[0] - 2 * memory_mb:.0f}"
        )


def _own_mb(pid: int) -> float:
    """Return the memory of a process in MiB, without shared memory.

    A page that several processes share counts for each of them in part.
    """
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
    found = {line.split(":")[0]: int(line.split()[1]) for line in lines[1:]}
    return (found["Pss"] - found["Pss_Shmem"]) / 1024


def scan(memory_mb: int) -> None:
    pages = memory_mb * PAGES_OF_A_MB
    for written in (2000, pages):
        file = os.memfd_create("log")
        os.ftruncate(file, log_size(pages))
        log, took_ms = DirtyLog(file, pages), []
        for seed in range(20):
            log.mark(np.random.default_rng(seed).choice(pages, written, replace=False))
            began_s = time.perf_counter()
            log.harvest()
            took_ms.append((time.perf_counter() - began_s) * 1e3)
        os.close(file)
        print(
            f"scan of {memory_mb} MiB, {written} pages written: {statistics.median(took_ms):.2f} ms"
        )


def table(rate_mbit: int, sizes_mb: Sequence[int]) -> None:
    print("| memory, MiB | writes ÷ path | pause, ms | total, s | rounds | sent ÷ memory | end |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: | --- |")
    with cable(rate_mbit) as pair:
        path_mb_s = iperf3_mbps(pair) * 1e6 / 8 / (1 << 20)
        for size_mb in sizes_mb:
            for share in (0.25, 0.5, 1.0):
                with trial(pair, GuestSpec(size_mb, writes_mb_s=share * path_mb_s)) as moved:
                    moved.move_it(TransferLimits(downtime_limit_ms=100, max_iterations=6))
                sent = sum(row["transferred_bytes"] for row in moved.rows)
                print(
                    f"| {size_mb} | {share} | {moved.pause_ms:.0f} | {moved.total_ms / 1e3:.1f} | "
                    f"{len(moved.rows) - 1} | {sent / (size_mb * PAGES_OF_A_MB * PAGE_SIZE):.2f} | "
                    f"{moved.noted['transfer-rounds-ended']['why']} |",
                    flush=True,
                )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("parts", nargs="*", default=["scan", "speed", "pause", "faults", "memory"])
    parser.add_argument("--memory-mb", type=int, default=256)
    parser.add_argument("--moves", type=int, default=20)
    parser.add_argument("--rate-mbit", type=int, default=400, help="of the table")
    parser.add_argument("--sizes-mb", type=int, nargs="+", default=[64, 256, 512])
    given = parser.parse_args()
    parts: dict[str, Callable[[], None]] = {
        "scan": lambda: scan(given.memory_mb),
        "speed": lambda: speed(given.memory_mb),
        "pause": lambda: pause(given.moves),
        "faults": faults,
        "memory": lambda: memory(512),
        "table": lambda: table(given.rate_mbit, given.sizes_mb),
    }
    for name in given.parts:
        if name not in parts:
            parser.error(f"there is no {name}; there are {', '.join(parts)}")
        parts[name]()


if __name__ == "__main__":
    run_as_command(main)
