"""Runs one TCP bulk transfer between two VMs with iperf3.

`launch()` starts the server and waits until it listens, `begin()` starts the client, `collect()`
ends both and returns the samples.  The connection opened at `begin()` is the one the VM keeps
across its moves (R4.1.1): if it dies, iperf3 ends and says why.
"""

import math
import select
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from experiments.probes.fleet import Spawn
from experiments.workloads import WorkloadError
from experiments.workloads.iperf3_output import samples

FIRST_PORT = 5201
_INTERVAL = ("--interval", "0.1", "--format", "k", "--forceflush")
_SMALL_BLOCKS = ("--length", "8K")
"""For limited rates: with iperf3's 128 KiB, 8 Mbit/s would be eight bursts a second."""
_LISTEN_TIMEOUT_S = 10.0
_END_TIMEOUT_S = 5.0
_COLUMNS = ["t_ns", "flow", "bits_per_second", "retransmits"]


@dataclass(frozen=True)
class BulkPlan:
    """A transfer from `source` to `address` of `destination`, called `flow` in the results."""

    flow: str
    source: str
    destination: str
    address: str
    duration_s: float
    port: int = FIRST_PORT
    rate_mbit: float | None = None

    @property
    def server_argv(self) -> list[str]:
        return ["iperf3", "--server", "--one-off", "--port", str(self.port), *_INTERVAL]

    @property
    def client_argv(self) -> list[str]:
        """iperf3 takes whole seconds only, and 0 would mean for ever."""
        argv = ["iperf3", "--client", self.address, "--port", str(self.port), *_INTERVAL]
        argv += ["--time", str(math.ceil(self.duration_s))]
        if self.rate_mbit is not None:
            argv += ["--bitrate", f"{self.rate_mbit:g}M", *_SMALL_BLOCKS]
        return argv


class TcpBulk:
    """One transfer and its two processes."""

    def __init__(self, plan: BulkPlan, spawn: Spawn) -> None:
        self._plan = plan
        self._spawn = spawn
        self._server: _Side | None = None
        self._client: _Side | None = None

    def launch(self) -> None:
        """Starts the server and returns when it listens."""
        server = self._server = _Side(self._spawn, self._plan.destination, self._plan.server_argv)
        said = server.first_line(_LISTEN_TIMEOUT_S)
        if "---" not in said:
            raise WorkloadError(
                f"iperf3 in {self._plan.destination} does not listen on port {self._plan.port}"
                + (f"; it said: {said}" if said else "")
            )
        server.read_on()

    def begin(self) -> None:
        self._client = _Side(self._spawn, self._plan.source, self._plan.client_argv)
        self._client.read_on()

    def collect(self, timeout_s: float) -> pd.DataFrame:
        """Throughput samples; raises WorkloadError if there is none.

        A side that does not end in time (its connection is dead) is stopped: what it printed
        until then is the result.
        """
        if self._client is None or self._server is None:
            raise WorkloadError(f"the transfer {self._plan.flow} was never begun")
        self._client.end(timeout_s)
        self._server.end(_END_TIMEOUT_S if self._client.lines else 0.0)
        measured = samples(received=self._server.lines, sent=self._client.lines)
        if not measured:
            said = " / ".join(line.strip() for _, line in self._client.lines)
            raise WorkloadError(f"iperf3 in {self._plan.source} measured nothing; it said: {said}")
        rows = [
            (sample.t_ns, self._plan.flow, sample.bits_per_second, sample.retransmits)
            for sample in measured
        ]
        return pd.DataFrame(rows, columns=_COLUMNS)

    def stop(self) -> None:
        """Safe at any time; leaves no process."""
        for side in (self._client, self._server):
            if side is not None:
                side.stop()


class _Side:
    """One iperf3 process and what it prints, each line with the time at which it came in."""

    def __init__(self, spawn: Spawn, vm: str, argv: Sequence[str]) -> None:
        self._process = spawn(
            vm,
            list(argv),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert self._process.stdout is not None
        self._output = self._process.stdout
        self._reader = threading.Thread(target=self._read, daemon=True)
        self.lines: list[tuple[int, str]] = []

    def first_line(self, timeout_s: float) -> str:
        """Empty if nothing was said in time."""
        readable, _, _ = select.select([self._output], [], [], timeout_s)
        return self._output.readline().strip() if readable else ""

    def read_on(self) -> None:
        self._reader.start()

    def end(self, timeout_s: float) -> None:
        """Returns when it has ended and everything it printed is in `lines`."""
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self._process.terminate()
            self._process.wait()
        self._reader.join()

    def stop(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        if self._reader.is_alive():
            self._reader.join()
        self._output.close()

    def _read(self) -> None:
        for line in self._output:
            self.lines.append((time.time_ns(), line))
