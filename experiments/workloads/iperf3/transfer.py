"""Runs one TCP bulk transfer between two VMs with iperf3.

`launch()` starts the server and waits until it listens, `begin()` starts the client, `collect()`
ends both and returns the samples.  The connection opened at `begin()` is the one the VM keeps
across its moves (R4.1.1): if it dies, iperf3 ends and says why.
"""

import math
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address

from experiments.workloads import Start, WorkloadError
from experiments.workloads.iperf3.output import Sample, samples
from nve.linux.wait import readable

FIRST_PORT = 5201
_INTERVAL = ("--interval", "0.1", "--format", "k", "--forceflush")
_SMALL_BLOCKS = ("--length", "8K")
"""For limited rates: with iperf3's 128 KiB, 8 Mbit/s would be eight bursts a second."""
_LISTEN_TIMEOUT_S = 60.0
_END_TIMEOUT_S = 5.0


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
        """The server's command; without a version, iperf3 would first try IPv6 and fail if there is
        none.
        """
        version = f"-{ip_address(self.address).version}"
        return ["iperf3", "--server", "--one-off", version, "--port", str(self.port), *_INTERVAL]

    @property
    def client_argv(self) -> list[str]:
        """The client's command; iperf3 takes whole seconds only, and 0 would mean no end."""
        argv = ["iperf3", "--client", self.address, "--port", str(self.port), *_INTERVAL]
        argv += ["--time", str(math.ceil(self.duration_s))]
        if self.rate_mbit is not None:
            argv += ["--bitrate", f"{self.rate_mbit:g}M", *_SMALL_BLOCKS]
        return argv


class TcpBulk:
    """One transfer and its two processes."""

    def __init__(self, plan: BulkPlan, start: Start) -> None:
        self.plan = plan
        self._start = start
        self._server: _Side | None = None
        self._client: _Side | None = None

    def launch(self) -> None:
        """Start the server and return when it listens."""
        server = self._server = _Side(self._start, self.plan.destination, self.plan.server_argv)
        said = server.first_line(_LISTEN_TIMEOUT_S)
        if "---" not in said:
            raise WorkloadError(
                f"iperf3 in {self.plan.destination} does not listen on port {self.plan.port}"
                + (f"; it said: {said}" if said else "")
            )
        server.read_on()

    def begin(self) -> None:
        self._client = _Side(self._start, self.plan.source, self.plan.client_argv)
        self._client.read_on()

    def collect(self, timeout_s: float) -> list[Sample]:
        """Return the throughput; raises WorkloadError if there is none.

        A side that does not end in time (its connection is dead) is stopped: what it printed until
        then is the result.
        """
        if self._client is None or self._server is None:
            raise WorkloadError(f"the transfer {self.plan.flow} was never begun")
        self._client.end(timeout_s)
        self._server.end(_END_TIMEOUT_S if self._client.lines else 0.0)
        measured = samples(received=self._server.lines, sent=self._client.lines)
        if not measured:
            said = " / ".join(line.strip() for _, line in self._client.lines)
            raise WorkloadError(f"iperf3 in {self.plan.source} measured nothing; it said: {said}")
        return measured

    def stop(self) -> None:
        """End both sides; this is safe at any time and leaves no process."""
        for side in (self._client, self._server):
            if side is not None:
                side.stop()


class _Side:
    """One iperf3 process and its output, each line with the time at which it came in."""

    def __init__(self, start: Start, vm: str, argv: Sequence[str]) -> None:
        self._process = start(
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
        """Return the first line, or an empty one if none was printed in time."""
        return str(self._output.readline()).strip() if readable(self._output, timeout_s) else ""

    def read_on(self) -> None:
        self._reader.start()

    def end(self, timeout_s: float) -> None:
        """Return when it has ended and everything it printed is in `lines`."""
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
