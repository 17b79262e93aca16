"""Long streams through many moves of a task, and how fast a connection is after a move.

    python -m benchmarks.task_streams [--octets 200000000] [--moves 20] [--family 4 6]
    python -m benchmarks.task_streams --ramp [--moves 10] [--delay-ms 10] [--control cubic]

On the switch of `benchmarks.tasks`.  Streams: a task that is a server and one that is a client,
over IPv4 and IPv6, sends and receives so many octets while it moves; what the peer got is compared
by SHA-256, and resets are captured at the peer.  Ramp: over a path with a delay, what
a client gets in the ten round trips before a move stops the task, and in the ten from when the
first octets come after it.
"""

import argparse
import socket
import statistics
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from ipaddress import ip_address
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.namespaces import delayed
from benchmarks.stream_peer import StreamPeer
from benchmarks.tasks import Switched, switched
from experiments.measure.event_log import EventLog
from experiments.run.tasks import RunningTask
from experiments.scenario.tasks import Task, TaskMove
from nve.linux.namespace import inside, run_in
from nve.linux.wait import wait_until

ADDRESSES = {4: "10.9.0.50", 6: "fd09::50"}
PEERS = {4: "10.9.0.3", 6: "fd09::3"}
FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}
RESETS = "tcp[13] & 4 != 0 or (ip6[6] == 6 and ip6[53] & 4 != 0)"
REFUSING = ("10.9.0.1", 9)
"""The host `a`, and a port at which nobody listens."""
PORT = 7000
ROUND_TRIPS = 10


def task_of(there: Switched, version: int, program: str, **arguments: Any) -> RunningTask:
    own = (ip_address(ADDRESSES[version]),)
    asked = Task(on="a", program=program, addresses=own, arguments=arguments)
    return RunningTask(there, "task1", asked, EventLog())  # type: ignore[arg-type]


def moved(task: RunningTask, number: int) -> None:
    to = "b" if task.at == "a" else "a"
    task.move(number, TaskMove(at_s=0, task="task1", to=to, record_s=0.5))


@contextmanager
def resets(there: Switched, file: Path) -> Iterator[list[str]]:
    """Yield a list that holds, when the block has ended, the resets that the peer's interface has
    seen.

    One is provoked at the end: when that is captured, the capture has all before it.
    """
    found: list[str] = []
    refused = f"IP {REFUSING[0]}.{REFUSING[1]} > "
    with file.open("w", encoding="utf-8") as written:
        argv = ["tcpdump", "-nl", "-i", "eth0", RESETS]
        capture = there.in_vm("c", argv, stdout=written, stderr=subprocess.PIPE, text=True)
        assert capture.stderr
        while "listening" not in capture.stderr.readline():
            pass
        yield found
        with inside(there.vms["c"].pid), suppress(ConnectionRefusedError):
            socket.create_connection(REFUSING, 5).close()
        wait_until(
            lambda: (
                None if refused in file.read_text(encoding="utf-8") else "the last is not there"
            ),
            timeout_s=10,
        )
        capture.terminate()
        capture.communicate()
    lines = file.read_text(encoding="utf-8").splitlines()
    found += [line for line in lines if line and refused not in line]


def stream(version: int, side: str, octets: int, moves: int, file: Path) -> None:
    """Print a line."""
    with switched("a", "b", "c") as there, ExitStack() as stack:
        with inside(there.vms["c"].pid):
            listening = socket.create_server((PEERS[version], 0), family=FAMILIES[version])
        stack.enter_context(closing(listening))
        port = listening.getsockname()[1]
        asked = (
            {"port": PORT}
            if side == "server"
            else {"connect": {"address": PEERS[version], "port": port}}
        )
        task = task_of(there, version, "stream", octets=octets, **asked)
        stack.callback(task.close)
        task.start()
        if side == "server":
            with inside(there.vms["c"].pid):
                connected = socket.create_connection((ADDRESSES[version], PORT), 10)
        else:
            connected, _ = listening.accept()
        stack.enter_context(closing(connected))
        seen = stack.enter_context(resets(there, file))
        began_s = time.monotonic()
        peer = StreamPeer(connected, octets)
        for number in range(1, moves + 1):
            peer.go_on(number * octets // (moves + 1))
            moved(task, number)
        peer.whole(task)
        took_s = time.monotonic() - began_s
        task.settle()
    rows = task.rows
    freezes, gaps = ([row[part] for row in rows if row[part]] for part in ("freeze_ms", "gap_ms"))
    print(
        f"IPv{version}, the task is the {side}: {octets / 1e6:g} MB each way in {took_s:.1f} s, "
        f"{len(rows)} moves, SHA-256 equal, {len(seen)} resets captured; freeze "
        f"{shown(freezes)}, gap {shown(gaps)}; "
        f"queued {statistics.median(row['sent'] + row['unsent'] for row in rows) / 1e6:.2f} MB; "
        f"retransmitted {sum(row['retransmissions'] or 0 for row in rows)} segments",
        *seen,
        sep="\n  ",
        flush=True,
    )


def shown(values_ms: Sequence[float]) -> str:
    return f"median {statistics.median(values_ms):.1f} ms, most {max(values_ms):.1f}"


class Reader:
    """Reads a download, and records when each part came."""

    def __init__(self, connected: socket.socket) -> None:
        self.came: list[tuple[int, int]] = []
        self._socket = connected
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        with suppress(OSError):  # the measurement is over
            while said := self._socket.recv(1 << 18):
                self.came.append((time.time_ns(), len(said)))

    def mbit(self, from_ns: float, until_ns: float) -> float:
        octets = sum(count for when, count in self.came if from_ns <= when < until_ns)
        return octets * 8e3 / (until_ns - from_ns)

    def first_after(self, t_ns: int) -> int | None:
        return next((when for when, _ in self.came if when > t_ns), None)


def ramp(moves: int, delay_ms: float, control: str, directory: Path) -> None:
    """Print medians."""
    window_ns = ROUND_TRIPS * 2 * delay_ms * 1e6
    with switched("a", "b", "c") as there, ExitStack() as stack:
        for host in ("a", "b"):
            route = ["route", "replace", "10.9.0.0/24", "dev", "eth0", "congctl", control]
            run_in(there.vms[host].pid, ["ip", *route])
        stack.enter_context(delayed(there.switch.pid, "to3", "br0", delay_ms, directory))
        task = task_of(there, 4, "http-server", octets=1 << 40, send_buffer=4_000_000)
        stack.callback(task.close)
        task.start()
        with inside(there.vms["c"].pid):
            connected = socket.create_connection((ADDRESSES[4], 80), 10)
        stack.enter_context(closing(connected))
        connected.sendall(b"GET / HTTP/1.1\r\n\r\n")
        reader = Reader(connected)
        before, after = [], []
        for number in range(1, moves + 1):
            began_ns = time.time_ns()
            wait_until(lambda: None if time.time_ns() - began_ns > 2e9 else "not yet", 5)  # noqa: B023
            moved(task, number)
            # What was on its way to the peer is not the new host's.
            restarted_ns = time.time_ns()
            wait_until(lambda: None if time.time_ns() - restarted_ns > 2 * window_ns else "", 60)  # noqa: B023
            stopped_ns = restarted_ns - int(50e6)
            before.append(reader.mbit(stopped_ns - window_ns, stopped_ns))
            first_ns = reader.first_after(restarted_ns + int(2 * delay_ms * 1e6)) or restarted_ns
            after.append(reader.mbit(first_ns, first_ns + window_ns))
        task.settle()
        ramps = [row["ramp_up_ms"] for row in task.rows if row["ramp_up_ms"] is not None]
        again = sum(row["retransmissions"] or 0 for row in task.rows)
    print(
        f"{control}, {2 * delay_ms:g} ms there and back, {moves} moves, {again} segments "
        f"retransmitted; a client gets, in {ROUND_TRIPS} round trips: "
        f"before {statistics.median(before):.0f} Mbit/s, after "
        f"{statistics.median(after):.0f}; as fast as before after "
        f"{shown(ramps) if ramps else 'more than 5 s'} ({len(ramps)} of {len(task.rows)})"
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--octets", type=int, default=200_000_000, help="how much each side sends")
    parser.add_argument("--moves", type=int, default=20, help="of the task")
    parser.add_argument(
        "--family", type=int, nargs="+", choices=(4, 6), default=[4, 6], help="IP versions"
    )
    parser.add_argument("--side", nargs="+", default=["server", "client"], help="what the task is")
    parser.add_argument(
        "--ramp", action="store_true", help="measure how fast a connection is after a move instead"
    )
    parser.add_argument(
        "--delay-ms", type=float, default=10, help="of the path to the peer, one way; with --ramp"
    )
    parser.add_argument(
        "--control", default="cubic", help="the congestion control of the task's hosts; with --ramp"
    )
    given = parser.parse_args()
    with TemporaryDirectory() as directory:
        if given.ramp:
            ramp(given.moves, given.delay_ms, given.control, Path(directory))
            return
        for version in given.family:
            for side in given.side:
                stream(version, side, given.octets, given.moves, Path(directory) / "resets")


if __name__ == "__main__":
    main()
