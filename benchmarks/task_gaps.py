"""What the clients of a task notice of its moves: how long they hear nothing, and what is sent
twice.

    python -m benchmarks.task_gaps [--moves 100] [--delay-ms 5]

On the switch of `benchmarks.tasks`, over a path with a delay, with `meanwhile: hold`.  One client
downloads, and the server has at most `--octets` octets in its send queue; another one asks for the
head of the document again as soon as it has been answered.  A gap is the longest time within a move
in which the one gets nothing, and the longest that the other waits for an answer.  Beyond the
freeze it should be one round trip: a peer that has to wait for a retransmission time-out is silent
for 200 ms and more (RFC 6298; Linux's least is 200 ms).
"""

import argparse
import socket
import statistics
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack, closing, suppress
from functools import partial
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks import run_as_command
from benchmarks.namespaces import delayed
from benchmarks.task_streams import ADDRESSES, Reader, moved, task_of
from benchmarks.tasks import Switched, switched
from experiments.run.tasks import RunningTask
from nve.linux.namespace import inside
from nve.linux.wait import wait_until
from nve.task.repair import TcpInfo

BESIDE_S = 0.3
"""A move's time begins so long before it is asked for, and ends so long after it."""
TIME_OUT_MS = (200, 300)
REQUEST = b"%s / HTTP/1.1\r\nHost: task\r\n\r\n"


class Asker:
    """Asks over and over, and records when each question was sent and answered."""

    def __init__(self, connected: socket.socket) -> None:
        self.asked: list[tuple[int, int]] = []
        self._socket = connected
        threading.Thread(target=self._ask, daemon=True).start()

    def _ask(self) -> None:
        with suppress(OSError):  # the measurement is over
            said = b" "
            while said:
                asked_ns, answer = time.time_ns(), b""
                self._socket.sendall(REQUEST % b"HEAD")
                while said and not answer.endswith(b"\r\n\r\n"):
                    said = self._socket.recv(4096)
                    answer += said
                self.asked.append((asked_ns, time.time_ns()))


def connected(there: Switched) -> socket.socket:
    with inside(there.vms["c"].pid):
        return socket.create_connection((ADDRESSES[4], 80), 10)


def longest_ms(spans: Sequence[tuple[int, int]], from_ns: int, until_ns: int) -> float:
    """Return the longest of the spans that overlap this time."""
    return max(
        (end_ns - begin_ns) / 1e6
        for begin_ns, end_ns in spans
        if end_ns > from_ns and begin_ns < until_ns
    )


def measure(moves: int, delay_ms: float, octets: int, directory: Path) -> None:
    """Print the distribution of the gaps."""
    with switched("a", "b", "c") as there, ExitStack() as stack:
        stack.enter_context(delayed(there.switch.pid, "to3", "br0", delay_ms, directory))
        task = task_of(there, 4, "http-server", octets=1 << 40, send_buffer=octets)
        stack.callback(task.close)
        task.start()
        downloads, asks = (stack.enter_context(closing(connected(there))) for _ in range(2))
        downloads.sendall(REQUEST % b"GET")
        for each in (downloads, asks):
            each.settimeout(None)
        reader, asker = Reader(downloads), Asker(asks)
        times = []
        for number in range(1, moves + 1):
            began_ns = time.time_ns()
            wait_until(partial(_until, began_ns + BESIDE_S * 1e9), 5)
            moved(task, number)
            ended_ns = time.time_ns()
            wait_until(partial(_until, ended_ns + BESIDE_S * 1e9), 5)
            times.append((began_ns, time.time_ns()))
        task.settle()
        show(task, reader, asker, times)
        again = [TcpInfo.of(each).retransmissions for each in (downloads, asks)]
    of_task = sum(row["retransmissions"] or 0 for row in task.rows)
    resets = max(row["resets"] for row in task.rows)
    print(
        f"  retransmitted segments: {of_task} by the task's hosts, {sum(again)} by the clients; "
        f"resets: {resets}"
    )


def show(task: RunningTask, reader: Reader, asker: Asker, times: Sequence[tuple[int, int]]) -> None:
    """Print the gaps, and what they have beyond the freeze."""
    freezes = [row["freeze_ms"] for row in task.rows[::2]]
    came = [when for when, _ in reader.came]
    silences = [longest_ms(list(pairwise(came)), *each) for each in times]
    waits = [longest_ms(asker.asked, *each) for each in times]
    gaps = {"of a download": silences, "of an answer": waits}
    print(f"{len(times)} moves; ms: least, median, 90 %, 99 %, most")
    print(f"  {'freeze':32}{shown(freezes)}")
    for name, values in gaps.items():
        print(f"  {'gap ' + name:32}{shown(values)}")
        beyond = [value - freeze for value, freeze in zip(values, freezes, strict=True)]
        print(f"  {'  beyond the freeze':32}{shown(beyond)}")
    low, high = TIME_OUT_MS
    late = sum(low <= value <= high for values in gaps.values() for value in values)
    print(f"  gaps of {low} to {high} ms: {late}")


def shown(values: Sequence[float]) -> str:
    cuts = statistics.quantiles(values, n=100, method="inclusive")
    told = (min(values), statistics.median(values), cuts[89], cuts[98], max(values))
    return "".join(f"{each:9.2f}" for each in told)


def _until(t_ns: float) -> str | None:
    return None if time.time_ns() >= t_ns else "not yet"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--moves", type=int, default=100)
    parser.add_argument("--delay-ms", type=float, default=5, help="of the path, one way")
    parser.add_argument("--octets", type=int, default=50_000, help="of the server's send queue")
    given = parser.parse_args()
    with TemporaryDirectory() as directory:
        measure(given.moves, given.delay_ms, given.octets, Path(directory))


if __name__ == "__main__":
    run_as_command(main)
