"""Runs a client of a guest's service in a VM and reads what it has written down."""

import subprocess
import sys

from experiments.workloads import Stage, WorkloadError
from experiments.workloads.counting import exchange
from nve.linux import child
from nve.linux.wait import readable

_LAUNCH_TIMEOUT_S = 60.0


class CountingClient:
    """One client and its process; `flow` is its name in the results."""

    def __init__(
        self, flow: str, number: int, address: str, rate_rps: float, stage: Stage, vm: str
    ) -> None:
        self.problems: list[str] = []
        self._flow = flow
        self._vm = vm
        self._start = stage.in_vm
        self._notes = stage.directory / f"{vm}-{number}.service"
        self._argv = [
            *(sys.executable, "-m", "experiments.workloads.counting.client"),
            *("--client", str(number), "--address", address, "--rate-rps", f"{rate_rps:g}"),
            *("--out", str(self._notes)),
        ]
        self._process: subprocess.Popen[str] | None = None

    def launch(self) -> None:
        """Raises WorkloadError when the client does not start."""
        self._process = self._start(
            self._vm, self._argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout
        if not readable(self._process.stdout, _LAUNCH_TIMEOUT_S) or not (
            self._process.stdout.readline()
        ):
            raise WorkloadError(f"the client {self._flow} did not start")

    def begin(self, start_ns: int) -> None:
        assert self._process
        assert self._process.stdin
        self._process.stdin.write(f"{start_ns}\n")
        self._process.stdin.flush()

    def collect(self) -> list[tuple[object, ...]]:
        """Its lines of service.csv."""
        if self._process is None or self._process.poll() is not None:
            self.problems.append(f"the client {self._flow} ended before the run did")
        self.stop()
        noted = self._notes.read_text(encoding="utf-8").splitlines(keepends=True)
        made = exchange.exchanges(noted)
        if all(each.answered_ns is None for each in made):
            self.problems.append(f"no request of {self._flow} was answered")
        return exchange.rows(self._flow, made)

    def stop(self) -> None:
        """Safe at any time; leaves no process."""
        if self._process is not None:
            child.end(self._process)
